"""The project's pages: generated parts are up to date, links lead somewhere, commands have the options they show."""

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from typer.testing import CliRunner

from ipcv import Dart
from ipcv_cli import reference
from ipcv_cli.main import app

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "examples"))
import benchmark  # noqa: E402
import fidelity  # noqa: E402
import fidelity_clips  # noqa: E402
import fidelity_report  # noqa: E402

FOLDERS = ("ipcv", "ipcv_cli", "examples", "tests")
PAGES = sorted([*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


def prose(page: Path) -> str:
    """The page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def links(page: Path) -> list[tuple[str, str]]:
    """The file and the anchor of each link and picture on the page that leads to the project itself."""
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    return [(path, anchor) for path, _, anchor in (target.partition("#") for target in targets) if ":" not in path]


def anchors(page: Path) -> set[str]:
    """What GitHub calls the page's headings in addresses."""
    titles = re.findall(r"^#+ (.*)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def commands() -> list[list[str]]:
    """Every `ipcv` command line in a block of shell lines on any page, in words, without what it is piped into."""
    blocks = (re.findall(r"^```sh\n(.*?)^```$", page.read_text(encoding="utf-8"), flags=re.M | re.S) for page in PAGES)
    lines = [line for found in blocks for block in found for line in block.splitlines() if not line.startswith("#")]
    parts = [part.strip() for line in lines for part in re.split(r"\||&&", line)]
    return [shlex.split(part)[1:] for part in dict.fromkeys(parts) if part.startswith("ipcv ")]


@pytest.mark.parametrize(("page", "parts"), reference.pages(ROOT).items(), ids=lambda given: getattr(given, "stem", ""))
def test_generated_parts_are_up_to_date(page, parts):
    is_same = page.is_file() and page.read_text(encoding="utf-8") == reference.written(page, parts)
    assert is_same, "run `python -m ipcv_cli.reference`"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_link_leads_somewhere(page):
    for path, anchor in links(page):
        target = page.parent / path if path else page
        assert target.exists(), path
        assert target.resolve().is_relative_to(ROOT.resolve()), path
        assert not anchor or anchor in anchors(target), f"{path}#{anchor}"


def test_every_page_is_found_from_the_readme():
    found, new = set(), {ROOT / "README.md"}
    while new:
        page = new.pop()
        found.add(page)
        new |= {(page.parent / path).resolve() for path, _ in links(page) if path.endswith(".md")} - found
    assert set(PAGES) - found <= {ROOT / "CHANGELOG.md"}


def test_there_are_many_commands():
    assert len(commands()) >= 20


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_shown_has_only_options_that_exist(words):
    command = max((name for name in reference.commands() if words[: len(name)] == [*name]), key=len)
    text = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "200"}).stdout
    assert all(re.search(rf"{option}\b", text) for option in words if option.startswith("--"))


def test_every_folder_says_in_one_line_what_is_in_it():
    for init in (init for name in ("ipcv", "ipcv_cli") for init in (ROOT / name).rglob("__init__.py")):
        assert reference.first_line(init).endswith("."), init
        assert len(reference.first_line(init)) <= 110, init


def test_every_file_that_a_folder_names_is_in_it():
    for init in (init for name in ("ipcv", "ipcv_cli") for init in (ROOT / name).rglob("__init__.py")):
        for name in re.findall(r"\w+\.py\b", reference.first_line(init)):
            assert (init.parent / name).is_file(), f"{init.parent}: {name}"


@pytest.mark.parametrize("folder", ["examples", "ipcv/compression", "ipcv/families"])
def test_every_file_that_a_folders_page_names_is_there(folder):
    named = re.findall(r"`([\w/]+\.py)`", (ROOT / folder / "README.md").read_text(encoding="utf-8"))
    there = {path.name for path in (ROOT / folder).rglob("*.py")} | {
        path.name for path in (ROOT / "tests").rglob("*.py")
    }
    assert {Path(name).name for name in named} - {"NAME.py", "halving.py"} <= there  # files that a reader would write


def test_every_folder_and_file_of_the_library_has_its_place_in_the_tree():
    there = {path.name.removesuffix(".py") for path in (ROOT / "ipcv").iterdir()}
    assert there - {"__init__", "__pycache__", "py.typed"} == set(reference.stages(ROOT))


def test_the_method_shown_as_an_example_works():
    page = (ROOT / "ipcv/compression/README.md").read_text(encoding="utf-8")
    shown = next(block for block in re.findall(r"^```python\n(.*?)^```$", page, flags=re.M | re.S) if "class" in block)
    names: dict[str, Any] = {"__name__": "halving"}
    exec(shown, names)  # noqa: S102 - the code under test is the page's
    method = names["Halving"]()
    assert method(torch.zeros(2, 4, 3)).donor.tolist() == [0, 2, 4, 6]
    assert (method.most(2, 4), method.flops(2, 4, 3), method.reduces) == (4, 0, True)
    assert TypeAdapter(names["Halving"]).dump_python(method) == {"keep": 0.5, "method": method.name}


def test_the_row_of_a_variant_is_its_own():
    (row,) = (row for row in reference.methods().splitlines() if "| `paper` |" in row)
    assert "[IPCV.paper](https://arxiv.org/abs/2512.18747): as published: keep the tokens" in row
    (line,) = (line for line in reference.departures().splitlines() if line.startswith("- **IPCV.paper**: "))
    assert "coverage" not in line


def test_a_method_without_a_paper_links_to_none(monkeypatch):
    monkeypatch.setattr(Dart, "arxiv", "")
    (row,) = (row for row in reference.methods().splitlines() if "| `dart` |" in row)
    assert "| Dart: keep the tokens" in row
    assert "arxiv" not in row
    assert "Dart" not in reference.departures()


def test_a_page_without_its_marks_is_an_error(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A page\n")
    with pytest.raises(ValueError, match="lacks the comments that help goes between"):
        reference.written(page, {"help": lambda: ""})


def test_outside_a_checkout_it_says_where_to_go(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="is no checkout of ipcv: change to one"):
        reference.main()


def test_what_is_written_by_hand_stays(tmp_path):
    page = tmp_path / "page.md"
    first, last = reference.marks("help")
    page.write_text(f"# A page\n\n{first}\nold\n{last}\n\nby hand\n")
    assert reference.written(page, {"help": lambda: "new"}) == f"# A page\n\n{first}\n\nnew\n\n{last}\n\nby hand\n"


def test_every_example_is_explained():
    page = (ROOT / "examples/README.md").read_text(encoding="utf-8")
    scripts = [path.name for path in (ROOT / "examples").iterdir() if path.suffix in (".py", ".slurm")]
    assert [name for name in scripts if f"`{name}`" not in page] == []


def test_the_benchmark_is_that_of_the_stored_report():
    stored = json.loads(benchmark.JSON.read_text(encoding="utf-8"))
    assert published(benchmark.MARKS) == benchmark.table(stored).strip()
    assert [report["model"]["name"] for report in stored["reports"]] == ["demo", "demo"]


def test_the_fidelity_is_that_of_the_stored_measurement():
    stored = json.loads(fidelity.JSON.read_text(encoding="utf-8"))
    assert published(fidelity.MARKS) == fidelity_report.table(stored).strip()
    assert stored["onnx_difference"] <= fidelity_clips.TOLERANCE
    assert (stored["command"], len(stored["rows"])) == ("python examples/fidelity.py", 35)


def published(marks: tuple[str, str]) -> str:
    page = (ROOT / "examples/README.md").read_text(encoding="utf-8")
    return page.partition(marks[0])[2].partition(marks[1])[0].strip()
