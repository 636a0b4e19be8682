"""The measurement of right frames, in small: no kind of file gives a wrong one."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "examples"))
import right_frames  # noqa: E402


def test_no_kind_of_file_gives_a_wrong_frame(monkeypatch, capsys):
    monkeypatch.setattr(right_frames, "by_ffmpeg", lambda _: None)  # it is not installed everywhere
    assert right_frames.check(frames=400, count=130, seed=1) == 0
    *kinds, total = capsys.readouterr().out.splitlines()[1:]
    assert len(kinds) >= 25
    assert int(total.split()[1]) >= 400
