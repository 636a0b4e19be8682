"""The generated parts of the project's pages, written anew by `python -m ipcv_cli.reference` in a checkout.

A generated part stands between two comments that name it. Everything else on a page is written by hand and stays.
"""

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import typer

from ipcv.compression.compressors.presets import PRESETS
from ipcv.compression.method import Place
from ipcv.compression.registry import DEFAULTS, METHODS, departures_of, maker, method_class, place_of
from ipcv_cli.main import app

WIDTH = 100
FORCING = {"FORCE_COLOR", "GITHUB_ACTIONS", "PY_COLORS", "TTY_COMPATIBLE"}  # would put colours into a pipe
PLACES: dict[Place, tuple[str, str]] = {  # in words, and the option that chooses a method there
    "compressor": ("encoder blocks", "--method"),
    "reducer": ("the prompt", "--reducer"),
    "pruner": ("decoder layers", "--llm-pruner"),
}


def pages(root: Path) -> dict[Path, dict[str, Callable[[], str]]]:
    """Every page of the checkout at `root` with generated parts, and for each part the function that writes it."""
    found: dict[Path, dict[str, Callable[[], str]]] = {
        root / "README.md": {
            "commands": command_table,
            "folders": partial(folder_tree, root),
            "methods": methods,
            "families": partial(families, root),
        },
        root / "ipcv/compression/README.md": {"presets": presets, "departures": departures},
    }
    for name in dict.fromkeys(words[0] for words in commands()):
        found[root / f"ipcv_cli/commands/{name}.md"] = {"help": partial(_help_of, name)}
    return found


def commands() -> list[tuple[str, ...]]:
    """The words that name each command, a group's own before those of its commands."""
    return [words for words, _ in _commands(app)]


def _commands(group: typer.Typer) -> Iterator[tuple[tuple[str, ...], str]]:
    """The words that name each command, and its docstring."""
    for command in group.registered_commands:
        if command.callback:
            yield (command.name or command.callback.__name__,), command.callback.__doc__ or ""
    for inner in group.registered_groups:
        if inner.name and inner.typer_instance:
            root = inner.typer_instance.registered_callback
            yield (inner.name,), (root and root.callback and root.callback.__doc__) or ""
            yield from (((inner.name, *words), text) for words, text in _commands(inner.typer_instance))


def _help_of(name: str) -> str:
    """The help of a command, and of all that are in its group."""
    return "\n\n".join(help_text(words) for words in commands() if words[0] == name)


def help_text(words: tuple[str, ...]) -> str:
    """The help of a command as a section, 100 columns wide and without colours, whatever the terminal."""
    environment = {name: value for name, value in os.environ.items() if name not in FORCING}
    environment |= {"COLUMNS": str(WIDTH), "TERMINAL_WIDTH": str(WIDTH), "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-m", "ipcv_cli", *words, "--help"]
    done = subprocess.run(command, env=environment, capture_output=True, check=True, encoding="utf-8")  # noqa: S603
    text = "\n".join(line.rstrip() for line in done.stdout.strip("\n").splitlines())
    return f"## `{' '.join(('ipcv', *words))}`\n\n```text\n{text}\n```"


def command_table() -> str:
    """A row for each command: what it does, and a link to its page."""
    rows = ["| command | what it does |", "|---|---|"]
    for words, help_ in _commands(app):
        if len(words) == 1:
            rows.append(f"| [`ipcv {words[0]}`](ipcv_cli/commands/{words[0]}.md) | {help_.splitlines()[0]} |")
    return "\n".join(rows)


def folder_tree(root: Path) -> str:
    """The folders and files of the packages, a line each from their docstrings, in the order of the import contract."""
    lines = ["ipcv_cli/", *(_line(path, 2) for path in sorted((root / "ipcv_cli").iterdir()) if _is_package(path))]
    lines.append("ipcv/")
    for stage in stages(root):
        path = root / "ipcv" / stage
        path = path if path.is_dir() else path.with_suffix(".py")
        lines += [_line(path, 2), *(_line(inner, 4) for inner in sorted(path.glob("*")) if _is_package(inner))]
    return "```text\n" + "\n".join(lines) + "\n```"


def stages(root: Path) -> list[str]:
    """The folders and modules of `ipcv` as the import contract in `pyproject.toml` has them, highest first."""
    contract = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ][0]
    return [*(name for layer in contract["layers"] for name in layer.split(" | ")), *contract["exhaustive_ignores"]]


def _is_package(path: Path) -> bool:
    return (path / "__init__.py").is_file()


def _line(path: Path, indent: int) -> str:
    name = path.name if path.is_file() else f"{path.name}/"
    module = path if path.is_file() else path / "__init__.py"
    told = first_line(module) if module.is_file() else "The demo model: its weights and its model card."
    return f"{' ' * indent + name:<18} {told}"


def first_line(module: Path) -> str:
    """The first line of a module's docstring, read without importing it."""
    return (ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def methods() -> str:
    """A row for each method that `ipcv bench` and `ipcv ask` know by name."""
    rows = ["| works in | name | method | chosen by |", "|---|---|---|---|"]
    for name in METHODS:
        place, option = PLACES[place_of(name)]
        source, arxiv = maker(name).__qualname__, method_class(name).arxiv
        source = f"[{source}](https://arxiv.org/abs/{arxiv})" if arxiv else source
        chosen = "the default" if name in DEFAULTS.values() else f"`{option} {name}`"
        rows.append(f"| {place} | `{name}` | {source}: {_summary(maker(name))} | {chosen} |")
    return "\n".join(rows)


def presets() -> str:
    """A row for each preset of IPCV, with the settings in which they differ."""
    from ipcv import IPCV

    fields = dict.fromkeys(field for changes in PRESETS.values() for field in changes)
    rows = [f"| preset | {' | '.join(f'`{field}`' for field in fields)} |", f"|---|{'---|' * len(fields)}"]
    for name in PRESETS:
        preset = IPCV.preset(name)
        rows.append(f"| `{name}` | {' | '.join(str(getattr(preset, field)) for field in fields)} |")
    return "\n".join(rows)


def departures() -> str:
    """For each method that has a paper, where it departs from it."""
    published = [name for name in METHODS if method_class(name).arxiv]
    lines = (
        f"- **{maker(name).__qualname__}**: {departures_of(name) or 'nowhere that is known'}." for name in published
    )
    return "\n".join(lines)


def _summary(method: Callable[..., Any]) -> str:
    """The first line of a method's docstring as the end of a sentence, without the paper's number."""
    line = re.sub(r" \([^()]*arXiv [\d.]+\)", "", (method.__doc__ or "").splitlines()[0]).rstrip(".")
    return line[:1].lower() + line[1:]


def families(root: Path) -> str:
    """A row for each model family that answers questions: its smallest published model, and what is its own."""
    from ipcv.families import FAMILIES
    from ipcv.models.checkpoints import KNOWN

    rows = ["| family | for example | what is its own |", "|---|---|---|"]
    for path in sorted((root / "ipcv/families").glob("[!_]*.py")):
        here = vars(import_module(f"ipcv.families.{path.stem}")).values()
        known = [KNOWN[name] for name, family in FAMILIES.items() if name in KNOWN and family in here]
        examples = [f"`{family.checkpoints[0].name}`" for family in known if family.checkpoints]
        if known:
            title, _, own = first_line(path).rstrip(".").partition(": ")
            rows.append(f"| {title} | {', '.join(examples)} | {own} |")
    return "\n".join(rows)


def marks(part: str) -> tuple[str, str]:
    """The comments before and after a generated part."""
    return f"<!-- {part}, by python -m ipcv_cli.reference -->", f"<!-- end of {part} -->"


def written(page: Path, parts: dict[str, Callable[[], str]]) -> str:
    """The page with its generated parts written anew. Raises `ValueError` if it lacks the marks of one."""
    text = page.read_text(encoding="utf-8") if page.is_file() else _new(page, parts)
    for part, write in parts.items():
        first, last = marks(part)
        before, opened, rest = text.partition(first)
        _, closed, after = rest.partition(last)
        if not (opened and closed):
            raise ValueError(f"{page} lacks the comments that {part} goes between: {first} and {last}")
        text = f"{before}{first}\n\n{write()}\n\n{last}{after}"
    return text


def _new(page: Path, parts: dict[str, Callable[[], str]]) -> str:
    return f"# `ipcv {page.stem}`\n\n" + "\n\n".join("\n\n".join(marks(part)) for part in parts) + "\n"


def main() -> None:
    """Write all parts of the checkout that this is run in, and print the pages that changed."""
    root = Path.cwd()
    if not (root / "ipcv_cli/reference.py").is_file():
        sys.exit(f"{root} is no checkout of ipcv: change to one")
    for page, parts in pages(root).items():
        text = written(page, parts)
        if not page.is_file() or page.read_text(encoding="utf-8") != text:
            page.write_text(text, encoding="utf-8")
            sys.stdout.write(f"{page.relative_to(root)}\n")


if __name__ == "__main__":
    main()
