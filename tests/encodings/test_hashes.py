"""Hashes of whole files: right whatever was done to the file, and computed once."""

import hashlib
import os
import sqlite3
import time

import pytest

from ipcv.encodings import hashes
from ipcv.encodings.fingerprint import content
from ipcv.encodings.hashes import file_hash, hub_hash

SIZE = 1 << 20


@pytest.fixture
def memory(tmp_path, monkeypatch):
    monkeypatch.setenv("IPCV_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / hashes.NAME


@pytest.fixture
def settled(tmp_path):
    """A file that was last changed a while ago."""
    path = tmp_path / "settled.mp4"
    path.write_bytes(bytes(SIZE))
    time.sleep(hashes.SETTLED + 0.1)
    return path


@pytest.mark.parametrize("at", [0, 1000, 70_000, SIZE // 2 - 1, SIZE // 3, SIZE - 1])
def test_one_other_byte_is_another_identity_though_size_and_times_are_the_same(at, memory, tmp_path):
    path = tmp_path / "clip.avi"
    found = set()
    for byte in b"ab":
        path.write_bytes(bytes(at) + bytes([byte]) + bytes(SIZE - at - 1))
        os.utime(path, (1e9, 1e9))
        found.add(content(str(path))["hash"])
    assert len(found) == 2


def test_a_settled_file_is_read_once(memory, settled, monkeypatch):
    right = hashlib.sha256(bytes(SIZE)).hexdigest()
    assert file_hash(settled) == right
    assert memory.exists()
    monkeypatch.setattr(hashes, "file_digest", lambda *_: pytest.fail("it is read again"))
    assert file_hash(settled) == right


def test_a_settled_file_that_changes_is_read_again(memory, settled):
    before, times = file_hash(settled), settled.stat()
    with settled.open("r+b") as file:
        file.seek(SIZE // 3)
        file.write(b"x")
    os.utime(settled, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert file_hash(settled) == hashlib.sha256(settled.read_bytes()).hexdigest() != before


def test_another_file_moved_to_the_same_place_has_its_own_hash(memory, settled, tmp_path):
    before = file_hash(settled)
    other = tmp_path / "other"
    other.write_bytes(b"x" * SIZE)
    os.utime(other, ns=(settled.stat().st_atime_ns, settled.stat().st_mtime_ns))
    other.replace(settled)
    assert file_hash(settled) == hashlib.sha256(b"x" * SIZE).hexdigest() != before


@pytest.mark.parametrize("spoil", ["rubbish", "wrong value", "folder", "other table"])
def test_a_damaged_memory_costs_time_and_nothing_else(spoil, memory, settled):
    memory.parent.mkdir()
    right = hashlib.sha256(bytes(SIZE)).hexdigest()
    if spoil == "folder":
        memory.mkdir()
    elif spoil == "rubbish":
        memory.write_bytes(b"rubbish" * 1000)
    elif spoil == "other table":
        sqlite3.connect(memory).execute("CREATE TABLE hashes (x)").connection.close()
    else:
        file_hash(settled)
        with sqlite3.connect(memory) as database:
            database.execute("UPDATE hashes SET hash = 'wrong'")
        database.close()
    assert [file_hash(settled) for _ in range(3)] == [right] * 3
    if spoil in ("rubbish", "wrong value"):
        assert sqlite3.connect(memory).execute("SELECT hash FROM hashes").fetchall() == [(right,)]


def test_without_a_folder_to_write_to_the_process_remembers(settled, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("IPCV_CACHE", str(tmp_path / "file" / "cache"))
    right = file_hash(settled)
    monkeypatch.setattr(hashes, "file_digest", lambda *_: pytest.fail("it is read again"))
    assert file_hash(settled) == right


def test_the_memory_is_bounded(memory, settled, monkeypatch, tmp_path):
    for name in ("b", "c"):
        (tmp_path / name).write_text(name)
    time.sleep(hashes.SETTLED + 0.1)
    monkeypatch.setattr(hashes, "MOST", 2)
    for path in (settled, tmp_path / "b", tmp_path / "c"):
        file_hash(path)
    assert len(sqlite3.connect(memory).execute("SELECT hash FROM hashes").fetchall()) == 2


def test_a_large_file_of_a_model_in_the_hubs_cache_is_known_by_its_name(memory, tmp_path):
    blob = tmp_path / "models--a--b" / "blobs" / ("ab" * 32)
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"weights")
    link = tmp_path / "model.safetensors"
    link.symlink_to(blob)
    assert hub_hash(link) == "ab" * 32
    assert file_hash(link) == hashlib.sha256(b"weights").hexdigest()
    small = blob.with_name("cd" * 20)
    small.write_bytes(b"{}")
    assert hub_hash(small) is None
