"""Fixtures that several test files share."""

import pytest
import tiny
from transformers import Qwen2VLForConditionalGeneration


@pytest.fixture(scope="session")
def qwen2_vl() -> Qwen2VLForConditionalGeneration:
    """A tiny random Qwen2-VL: float32 on the CPU. Tests leave it as they found it."""
    return tiny.qwen2_vl()
