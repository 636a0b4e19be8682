"""`ipcv methods`."""

import json

import jsonschema
import pytest

from ipcv.compression import registry
from ipcv.families import FAMILIES
from ipcv_cli.display.stdout import methods_schema
from ipcv_cli.main import main

LANGUAGES = {name for name, family in FAMILIES.items() if family.language}


def test_the_table_has_a_line_for_each_method_under_its_place(capsys):
    assert main(["methods"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines() == [
        "In the vision encoder's blocks (--method)",
        "  coverage   IPCV      arXiv 2512.18747  every family  (default)",
        "  paper      IPCV      arXiv 2512.18747  every family",
        "  tome       ToMe      arXiv 2210.09461  qwen2_vl",
        "Between encoder and language model (--reducer)",
        "  evs        EVS       arXiv 2510.14624  every family",
        "  vidcom2    VidCom2   arXiv 2505.14454  every family",
        "  dtd        DTD       arXiv 2504.17343  every family",
        "In the language model's layers (--llm-pruner)",
        "  dart       Dart      arXiv 2502.11494  every family  (default)",
        "  fastv      FastV     arXiv 2403.06764  every family but gemma3",
        "  v2drop     V2Drop    arXiv 2509.01552  every family",
        "",
        "`ipcv methods NAME` says what a method needs, where it departs from its paper, and why it runs where it does.",
    ]


@pytest.mark.parametrize("name", registry.METHODS)
def test_a_page_says_all_about_one_method(name, capsys):
    assert main(["methods", name]) == 0
    out = " ".join(capsys.readouterr().out.split())
    method = registry.method_class(name)
    assert f"https://arxiv.org/abs/{method.arxiv}" in out
    assert method.departures in out
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
