"""Fixtures that several test files share."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy_threads  # noqa: F401 - ahead of numpy
import pytest
import tiny
import torch
import torch.nn.attention.varlen  # registers its operation
from ledger import ledger, pytest_configure, pytest_terminal_summary  # noqa: F401 - a fixture, and the table of faults
from probes import looped
from torch import Tensor
from transformers import Qwen2VLForConditionalGeneration

import ipcv
from ipcv.benchmark.reference_captions import caption
from ipcv.benchmark.wordings import NUMBERS
from ipcv.compression.compressors.tensors import attention
from ipcv.world.mp4 import write_clip
from ipcv.world.random_scene import make_clip, make_scene
from ipcv.world.scene import HELD_OUT_SEEDS, SceneClip

SCENE = HELD_OUT_SEEDS[-568]  # four seconds with one circle that moves, and one tag


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny models are many times slower on several threads when the cores are busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is remembered of files stays out of the user's cache folder."""
    os.environ["IPCV_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def environment_put_back() -> Iterator[None]:
    """Commands that run in this process set variables such as HF_HUB_OFFLINE, which later tests must not inherit."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(scope="session")
def qwen2_vl() -> Qwen2VLForConditionalGeneration:
    """A tiny random Qwen2-VL: float32 on the CPU. Tests leave it as they found it."""
    return tiny.qwen2_vl()


@pytest.fixture(scope="session")
def demo() -> ipcv.Model:
    """The bundled model: it really answers."""
    return ipcv.load("demo", offline=True)


@pytest.fixture(scope="session")
def frames() -> SceneClip:
    """A held-out scene with one circle, in memory."""
    return make_clip(SCENE)


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same scene as a real video file of a higher frame rate."""
    path = tmp_path_factory.mktemp("videos") / "scene.mp4"
    write_clip(path, make_clip(SCENE, size=224, fps=16))
    return path


@pytest.fixture(scope="session")
def truth() -> dict[str, str]:
    """Questions about the scene and their right answers."""
    scene = make_scene(SCENE)
    circle = next(thing for thing in scene.things if thing.shape == "circle")
    return {
        "What colour is the circle?": circle.colour,
        "Which way does the circle move?": circle.motion,
        f"What shape is the {circle.colour} object?": "circle",
        "How many objects are there?": NUMBERS[len(scene.things) - 1],
        "What does the tag say?": scene.tags[0].code,
        "Describe the video.": caption(scene),
    }


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with four small clips of different lengths."""
    folder = tmp_path_factory.mktemp("clips")
    for index, seed in enumerate(HELD_OUT_SEEDS[11:15]):
        write_clip(folder / f"{index}.mp4", make_clip(seed, size=112, fps=4))
    return folder


@pytest.fixture
def packed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """torch's attention over packed rows, for the CPU and as a loop; gives what each call was told, by name."""
    names = [argument.name for argument in torch.ops.torch_attn._varlen_attn.default._schema.arguments]
    calls: list[dict[str, Any]] = []

    def kernel(*given: Any) -> tuple[Tensor, Tensor, Tensor]:
        told = dict(zip(names, given, strict=False))
        calls.append(told)
        lengths = (told[f"cu_seq_{side}"].diff().tolist() for side in "qk")
        mixed = looped((told["query"], told["key"], told["value"]), *lengths, told["scale"])
        return mixed, mixed.new_zeros(mixed.shape[1], len(mixed)), torch.zeros(2, dtype=torch.uint64)

    monkeypatch.setattr(attention, "runs_packed", lambda _: True)
    with torch.library._scoped_library("torch_attn", "IMPL") as library:
        library.impl("_varlen_attn", kernel, "CPU")
        yield calls
