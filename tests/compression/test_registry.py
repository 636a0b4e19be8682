"""The registry of methods: all that a new method needs is its file and its line there."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

import ipcv
from ipcv import DTD, EVS, IPCV, Dart, FastV, Options, ToMe, V2Drop, VidCom2
from ipcv.architecture.shapes import NEEDS
from ipcv.compression import registry
from ipcv.compression.compressors.compressor import Compressor
from ipcv.compression.compressors.presets import PRESETS
from ipcv.compression.pruners.pruner import Pruner
from ipcv.compression.reducers.reducer import Reducer

ROOT = Path(__file__).parents[2]
BASES = {"compressor": Compressor, "reducer": Reducer, "pruner": Pruner}

COMPRESSORS = (IPCV(keep=0.2), IPCV.paper(), ToMe(), None)
REDUCERS = (EVS(), VidCom2(keep=0.3), DTD(), None)
PRUNERS = (Dart(), FastV(keep=0.3), V2Drop(), None)

NEW = '''
import sys
from dataclasses import dataclass, field
from types import ModuleType
from typing import ClassVar, Literal

import torch

from ipcv.compression.reducers.reducer import Dropper


@dataclass(frozen=True, kw_only=True)
class Halving(Dropper):
    """Keep every second token."""

    name: ClassVar[str] = "halving"
    arxiv: ClassVar[str] = ""
    departures: ClassVar[str] = ""

    keep: float = 0.5
    offset: int = 0
    method: Literal["halving"] = field(default="halving", init=False)

    def choose(self, tokens):
        return torch.arange(tokens.shape[1]).expand(tokens.shape[:2]) % 2 == self.offset

    def most(self, frames, tokens):
        return frames * (tokens - tokens // 2)

    def flops(self, frames, tokens, width):
        return 0


sys.modules["ipcv.compression.reducers.halving"] = ModuleType("halving")
sys.modules["ipcv.compression.reducers.halving"].Halving = Halving
from ipcv.compression import registry

registry.METHODS["halving"] = "reducers.halving:Halving"

import json
from contextlib import redirect_stdout
from io import StringIO

from pydantic import TypeAdapter

from ipcv import Options
from ipcv.benchmark.settings import parse_settings
from ipcv_cli.choices import compression
from ipcv_cli.main import main


def printed(*words):
    with redirect_stdout(StringIO()) as out:
        main(words)
    return out.getvalue()


others = dict.fromkeys("keep layer stabilize neighbors llm_pruner llm_keep llm_layer".split())
seen = {
    "ask": printed("ask", "--help"),
    "bench": printed("bench", "--help"),
    "schema": json.loads(printed("schema")),
    "methods": json.loads(printed("methods", "halving", "--json")),
    "chosen": str(compression(no_compress=False, reducer="halving", reducer_keep=0.25, **others)["reducer"]),
    "setting": str(parse_settings("paper+halving:offset=1")[0].options.reducer),
    "options": TypeAdapter(Options).dump_python(Options(reducer=Halving()))["reducer"],
}
print(json.dumps(seen))
'''


@pytest.fixture(scope="module")
def seen() -> dict[str, Any]:
    """What a new process sees in which the registry has one more line."""
    wide = os.environ | {"COLUMNS": "200"}  # or choices are parted where a line ends
    done = subprocess.run([sys.executable, "-c", NEW], capture_output=True, encoding="utf-8", env=wide, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", registry.METHODS)
def test_every_method_says_what_it_is(name):
    method, made = registry.method_class(name), registry.maker(name)()
    assert type(made) is method
    assert isinstance(made, BASES[registry.place_of(name)])
    assert method.place == registry.place_of(name)
    assert re.fullmatch(r"(\d{4}\.\d{5})?", method.arxiv)
    assert isinstance(registry.departures_of(name), str)
    assert method.needs <= NEEDS.keys()
    assert getattr(ipcv, method.__name__) is method
    assert (
        method.name == name or len([other for other in registry.METHODS if registry.method_class(other) is method]) > 1
    )


def test_a_preset_is_a_few_settings_of_the_default_method():
    assert registry.preset_of("fast") == IPCV(**PRESETS["fast"])
    assert IPCV.preset("fast", keep=0.3) == IPCV(**{**PRESETS["fast"], "keep": 0.3})
    assert IPCV.preset("balanced") == IPCV()
    shares = [IPCV.preset(name).keep or 0 for name in ("fast", "balanced", "careful")]
    assert shares == sorted(set(shares))
    with pytest.raises(ValueError, match="preset 'quick' is not known; known: fast, balanced, careful"):
        IPCV.preset("quick")


def test_no_two_methods_have_one_name():
    classes = [method for place in registry.PLACES for method in registry.classes(place)]
    assert max(Counter(method.name for method in classes).values()) == 1
    assert all(method.__dataclass_params__.frozen for method in classes)


def test_no_caller_asks_which_method_it_has():
    classes = {each.__name__ for place in registry.PLACES for each in registry.classes(place)}
    asking = re.compile(rf"(?:isinstance|issubclass)\([^)]*\b(?:{'|'.join(sorted(classes))})\b")
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for package in ("ipcv", "ipcv_cli")
        for path in sorted((ROOT / package).rglob("*.py"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if asking.search(line)
    ]
    assert found == []


def test_no_module_outside_compression_imports_a_method():
    modules = {path.partition(":")[0] for path in registry.METHODS.values()}
    importing = re.compile(rf"^\s*(?:from|import) ipcv\.compression\.(?:{'|'.join(map(re.escape, sorted(modules)))})\b")
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for package in ("ipcv", "ipcv_cli")
        for path in sorted((ROOT / package).rglob("*.py"))
        if path != ROOT / "ipcv/__init__.py" and ROOT / "ipcv/compression" not in path.parents  # public names, helpers
        for line in path.read_text(encoding="utf-8").splitlines()
        if importing.match(line)
    ]
    assert found == []


def test_a_new_line_in_the_registry_is_a_choice_on_the_command_line(seen):
    assert "halving" in seen["ask"]
    assert seen["chosen"] == "Halving(keep=0.25, offset=0, method='halving')"


def test_a_new_line_in_the_registry_is_a_setting_of_the_benchmark(seen):
    assert "halving" in seen["bench"]
    assert seen["setting"] == "Halving(keep=0.5, offset=1, method='halving')"


def test_a_new_line_in_the_registry_is_listed_and_described(seen):
    (method,) = seen["methods"]["methods"]
    assert method["settings"] == {"keep": 0.5, "offset": 0}
    assert "qwen2_vl" in method["families"]


def test_a_new_line_in_the_registry_is_in_the_schema_and_in_answers(seen):
    definitions = seen["schema"]["$defs"]
    assert {"$ref": "#/$defs/Halving"} in definitions["Options"]["properties"]["reducer"]["anyOf"]
    assert definitions["Halving"]["properties"].keys() == {"keep", "offset", "method"}
    assert seen["options"] == {"keep": 0.5, "offset": 0, "method": "halving"}


@pytest.mark.parametrize("methods", list(product(COMPRESSORS, REDUCERS, PRUNERS)), ids=str)
def test_options_that_are_read_back_from_json_have_the_methods_they_had(methods):
    compressor, reducer, pruner = methods
    options, adapter = Options(compressor=compressor, reducer=reducer, pruner=pruner), TypeAdapter(Options)
    assert adapter.validate_json(adapter.dump_json(options)) == options
