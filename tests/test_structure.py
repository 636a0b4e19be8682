"""How the code is laid out: short files, short functions, packages that import nothing by themselves."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
MODULES = sorted([*ROOT.glob("ipcv/**/*.py"), *ROOT.glob("ipcv_cli/**/*.py")])
LONGEST_MODULE = 250
LONGEST_FUNCTION = 40

LONG_FUNCTIONS = {"ipcv_cli/commands/caption.py caption"}
PACKAGES_WITH_CODE = {
    "ipcv/__init__.py",  # the public names
    "ipcv/families/__init__.py",
}


def parsed(module: Path) -> ast.Module:
    return ast.parse(module.read_text("utf-8"))


def name(module: Path) -> str:
    return module.relative_to(ROOT).as_posix()


def test_a_package_file_is_one_docstring():
    packages = [module for module in MODULES if module.name == "__init__.py"]
    assert packages
    with_code = {name(module) for module in packages if not is_docstring(parsed(module).body)}
    assert with_code == PACKAGES_WITH_CODE


def is_docstring(body: list[ast.stmt]) -> bool:
    return len(body) == 1 and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant)


def test_a_module_has_one_subject():
    too_long = {name(module) for module in MODULES if len(module.read_text("utf-8").splitlines()) > LONGEST_MODULE}
    assert too_long == set()


def test_a_function_has_one_job():
    too_long = {
        f"{name(module)} {node.name}"
        for module in MODULES
        for node in ast.walk(parsed(module))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and length(node, module) > LONGEST_FUNCTION
    }
    assert too_long == LONG_FUNCTIONS


def length(function: ast.FunctionDef | ast.AsyncFunctionDef, module: Path) -> int:
    """Lines below the parameters, which may be a list of options; of a command also without its help."""
    help_ = module.parent.name == "commands" and len(function.body) > 1
    return (function.end_lineno or 0) - function.body[help_].lineno + 1
