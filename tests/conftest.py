"""Fixtures that several test files share."""

from collections.abc import Iterator

import pytest
import tiny
import torch
from transformers import Qwen2VLForConditionalGeneration


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny models are many times slower on several threads when the cores are busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def qwen2_vl() -> Qwen2VLForConditionalGeneration:
    """A tiny random Qwen2-VL: float32 on the CPU. Tests leave it as they found it."""
    return tiny.qwen2_vl()
