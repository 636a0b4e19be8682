"""`ipcv methods`."""

import json

import jsonschema
import pytest

from ipcv import Dart
from ipcv.compression import registry
from ipcv.compression.compressors.presets import PRESETS
from ipcv.families import FAMILIES
from ipcv_cli.display.stdout import methods_schema
from ipcv_cli.main import main

LANGUAGES = {name for name, family in FAMILIES.items() if family.language}


def test_the_list_says_under_each_place_what_its_methods_do(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["methods"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert [line for line in lines if line[:1].isalpha()] == [
        "In the vision encoder's blocks (--method)",
        "Between encoder and language model (--reducer), by default none",
        "In the language model's layers (--llm-pruner), by default none",
        "and why it runs where it does.",
    ]
    assert lines[3] == "            Runs on every family. The default."
    assert [line.split()[0] for line in lines if line.startswith("  ") and line[2] != " "] == [*registry.METHODS]
    at = lines.index("In the language model's layers (--llm-pruner), by default none")
    assert lines[at + 1 : at + 7] == [
        "  dart      Keep the tokens that duplicate a few pivots least (DART, arXiv",
        "            2502.11494).",
        "            Runs on every family.",
        "  fastv     Keep the visual tokens to which the last token attends most in the",
        "            layer before (FastV, arXiv 2403.06764).",
        "            Runs on every family but gemma3.",
    ]


@pytest.mark.parametrize("words", [[], ["paper"]])
@pytest.mark.parametrize("width", [60, 80, 200])
def test_no_line_is_wider_than_the_terminal_or_100_columns(words, width, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    main(["methods", *words])
    widest = max(map(len, capsys.readouterr().out.splitlines()))
    assert min(width, 100) - 20 < widest <= min(width, 100)


def test_a_variant_is_described_as_itself(capsys):
    main(["methods", "paper"])
    out = " ".join(capsys.readouterr().out.split())
    assert "does As published (arXiv 2512.18747): keep the tokens that a block changed most." in out
    assert "in Python ipcv.IPCV.paper() settings" in out
    assert "coverage" not in out
    main(["methods", "paper", "--json"])
    (paper,) = json.loads(capsys.readouterr().out)["methods"]
    assert paper["method"] == "IPCV.paper"
    assert paper["summary"] == "As published (arXiv 2512.18747): keep the tokens that a block changed most."
    assert "throws away" in paper["departures"]


def test_the_presets_of_the_default_are_told(capsys):
    main(["methods", "coverage"])
    out = " ".join(capsys.readouterr().out.split())
    assert f"presets fast: keep={PRESETS['fast']['keep']}" in out
    assert "balanced: these settings" in out
    main(["methods", "--json"])
    listed = {method["name"]: method["presets"] for method in json.loads(capsys.readouterr().out)["methods"]}
    assert listed.pop("coverage") == PRESETS
    assert not any(listed.values())


def test_a_method_without_a_paper_has_no_link(capsys, monkeypatch):
    monkeypatch.setattr(Dart, "arxiv", "")
    main(["methods", "dart"])
    out = capsys.readouterr().out
    assert "  paper     none\n" in out
    assert "arxiv.org" not in out
    assert "departs" not in out


@pytest.mark.parametrize("name", registry.METHODS)
def test_a_page_says_all_about_one_method(name, capsys):
    assert main(["methods", name]) == 0
    out = " ".join(capsys.readouterr().out.split())
    method = registry.method_class(name)
    assert (f"https://arxiv.org/abs/{method.arxiv}" if method.arxiv else "paper none") in out
    assert ("settings none" in out) == (not registry.settings_of(name))
    assert registry.departures_of(name) in out
    assert all(f"{setting}=" in out for setting in registry.settings_of(name))


def test_a_page_says_why_a_family_is_refused(capsys):
    main(["methods", "fastv"])
    out = " ".join(capsys.readouterr().out.split())
    assert "not on gemma3: FastV layer=3 goes by what layer 2 attends to" in out


@pytest.mark.parametrize(("words", "names"), [([], [*registry.METHODS]), (["tome"], ["tome"])])
def test_json_follows_its_schema_and_knows_every_family(words, names, capsys):
    assert main(["methods", *words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    jsonschema.validate(found, methods_schema())
    assert [method["name"] for method in found["methods"]] == names
    for method in found["methods"]:
        assert {*method["families"], *method["refused"]} == LANGUAGES


def test_an_unknown_name_is_a_usage_error_with_those_that_are_known(capsys):
    assert main(["methods", "fastvid"]) == 2
    assert "'fastvid' is not one of 'coverage', 'paper', 'tome'" in capsys.readouterr().err
