"""Telling a lack of memory from other errors."""

import errno

import pytest
import torch

from ipcv.errors import MemoryExhaustedError, ModelError, first_line, memory_errors


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("Tried to allocate 20 GiB"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
    ],
    ids=str,
)
def test_a_lack_of_memory_is_recognised(error):
    with pytest.raises(MemoryExhaustedError, match=r"^take less$") as caught, memory_errors("take less"):
        raise error
    assert caught.value.__cause__ is error


def test_the_cpus_own_lack_of_memory_is_recognised():
    with pytest.raises(MemoryExhaustedError), memory_errors("take less"):
        torch.empty(10**15)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("shapes differ"),
        OSError(errno.ENOENT, "out of memory.mp4"),
        ModelError("out of memory"),
        ValueError("out of memory"),
        KeyboardInterrupt(),
    ],
    ids=repr,
)
def test_other_errors_pass(error):
    with pytest.raises(type(error)) as caught, memory_errors("take less"):
        raise error
    assert caught.value is error


def test_an_error_is_told_in_one_line_even_if_it_says_nothing():
    assert first_line(ValueError("one\ntwo")) == "one"
    assert first_line(ValueError("one:\n  two\nthree")) == "one: two"
    assert first_line(ValueError("\n")) == "ValueError"
