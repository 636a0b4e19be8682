"""How many processors may be used, by affinity and by a container's quota."""

import os

import pytest

from ipcv.processors import _quotas, usable_processors


def test_no_more_than_the_process_may_run_on(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 7})
    monkeypatch.setattr("ipcv.processors._quotas", lambda *_: [])
    assert usable_processors() == 3
    monkeypatch.setattr("ipcv.processors._quotas", lambda *_: [2, 8])
    assert usable_processors() == 2


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "150000 100000"}, [2]),
        ("0::/a/b\n", {"a/b/cpu.max": "400000 100000", "a/cpu.max": "50000 100000"}, [4, 1]),
        ("3:cpu,cpuacct:/a\n", {"cpu/a/cpu.cfs_quota_us": "300000", "cpu/a/cpu.cfs_period_us": "100000"}, [3]),
        ("3:cpu:/a\n", {"cpu/a/cpu.cfs_quota_us": "-1", "cpu/a/cpu.cfs_period_us": "100000"}, []),
        ("5:memory:/a\n0::/\n", {"memory/a/cpu.max": "100000 100000"}, []),
    ],
)
def test_quotas_of_both_versions_of_control_groups(tmp_path, own, files, expected):
    (tmp_path / "own").write_text(own)
    for name, text in files.items():
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).write_text(text + "\n")
    assert list(_quotas(tmp_path / "root", tmp_path / "own")) == expected
