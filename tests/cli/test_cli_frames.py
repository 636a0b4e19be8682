"""`ipcv frames` and `ipcv.read_frames`: what a model is shown."""

import json
import pickle
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import jsonschema
import numpy as np
import pytest
from films import UNEVEN, film, number_in, quarters
from PIL import Image

import ipcv
from ipcv_cli.main import main

HALVES = [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]


@pytest.fixture
def clip(tmp_path):
    return film(tmp_path / "clip.mp4")  # three seconds, thirty frames in each


def test_read_frames_gives_pictures_times_facts_and_warnings(clip):
    found = ipcv.read_frames(clip, ipcv.Sampling(fps=2))
    assert found.frames.dtype == np.uint8
    assert found.frames.shape == (6, 64, 160, 3)
    assert [number_in(picture) for picture in found.frames] == [0, 15, 30, 45, 60, 75]
    assert list(found.times) == pytest.approx(HALVES, abs=2e-3)
    assert (found.facts.path, found.facts.frames, found.facts.dynamic_range) == (str(clip), 90, "sdr")
    assert found.warnings == ()
    assert pickle.loads(pickle.dumps(found.facts)) == found.facts  # noqa: S301


def test_each_frame_is_the_one_on_display_at_its_time(tmp_path):
    found = ipcv.read_frames(film(tmp_path / "uneven.mkv", times=UNEVEN), ipcv.Sampling(fps=7, max_frames=40))
    want = [max(index for index, when in enumerate(UNEVEN) if when <= time + 2e-3) for time in found.times]
    assert [number_in(picture) for picture in found.frames] == want


def test_read_frames_scales_down_and_never_up(clip):
    assert ipcv.read_frames(clip, max_pixels=2560).frames.shape == (6, 32, 80, 3)
    assert ipcv.read_frames(clip, max_pixels=10**9).frames.shape == (6, 64, 160, 3)
    with pytest.raises(ValueError, match="max_pixels must be at least 1, not 0"):
        ipcv.read_frames(clip, max_pixels=0)


def test_an_image_is_one_frame(tmp_path):
    Image.fromarray(quarters(40, 60)).save(tmp_path / "image.png")
    found = ipcv.read_frames(tmp_path / "image.png")
    assert np.array_equal(found.frames, quarters(40, 60)[None])
    assert (found.times, found.facts.reader) == ((0.0,), "pillow")


@pytest.fixture
def server(tmp_path):
    """The address of a web server of this folder."""
    web = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=tmp_path))
    threading.Thread(target=web.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{web.server_port}"
    web.shutdown()
    web.server_close()


def test_a_url_is_fetched(clip, server, tmp_path, capsys):
    found = ipcv.read_frames(f"{server}/clip.mp4")
    assert np.array_equal(found.frames, ipcv.read_frames(clip).frames)
    assert found.facts.path == f"{server}/clip.mp4"
    assert main(["frames", f"{server}/clip.mp4", "-o", str(tmp_path / "sheet.png"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["video"]["path"] == f"{server}/clip.mp4"
    assert main(["frames", f"{server}/none.mp4", "-o", str(tmp_path / "none.png")]) == 4
    assert "none.mp4 cannot be fetched: the server answers 404" in capsys.readouterr().err
    assert ipcv.read_frames(clip.as_uri()).facts.path == clip.as_uri()


def test_frames_that_were_read_can_be_asked_about(demo, clip):
    found = ipcv.read_frames(clip)
    assert demo.ask(found, "What is shown?").answer == demo.ask(clip, "What is shown?").answer


def test_a_folder_holds_pictures_named_by_time_and_an_index(clip, tmp_path, capsys):
    folder = tmp_path / "new" / "frames"
    assert main(["frames", str(clip), "-o", str(folder), "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == f"ipcv: wrote: 6 frames to {folder}\n"
    told = json.loads(out)
    assert told == json.loads((folder / "index.json").read_text())
    names = [f"{number:04d}_0h00m{time:06.3f}s.png" for number, time in enumerate(HALVES, 1)]
    assert [each["picture"] for each in told["frames"]] == names
    assert {path.name for path in folder.iterdir()} == {"index.json", *names}
    pictures = [np.asarray(Image.open(folder / name)) for name in names]
    assert np.array_equal(pictures, ipcv.read_frames(clip).frames)
    assert (told["kind"], told["video"]["frames"], told["output"]) == ("video", 90, str(folder))
    main(["schema", "--frames"])
    jsonschema.validate(told, json.loads(capsys.readouterr().out))


def test_stdout_has_times_and_files(clip, tmp_path, capsys):
    assert main(["frames", str(clip), "-o", str(tmp_path / "out"), "--fps", "1", "--start", "1", "-q"]) == 0
    out, err = capsys.readouterr()
    assert out == f"1.000\t{tmp_path}/out/0001_0h00m01.000s.png\n2.000\t{tmp_path}/out/0002_0h00m02.000s.png\n"
    assert err == ""


def test_a_contact_sheet_shows_every_frame_with_its_time(clip, tmp_path, capsys):
    assert main(["frames", str(clip), "-o", str(tmp_path / "sheet.png")]) == 0
    assert capsys.readouterr().out == "".join(f"{time:.3f}\n" for time in HALVES)
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    across, down = 160 + 4, 64 + 18 + 4
    assert sheet.shape == (2 * down + 4, 3 * across + 4, 3)
    for index, number in enumerate([0, 15, 30, 45, 60, 75]):
        top, left = 4 + index // 3 * down, 4 + index % 3 * across
        assert number_in(sheet[top : top + 64, left : left + 160]) == number
        assert sheet[top + 64 : top + 82, left : left + 60].min() < 100, "there is a time below it"


@pytest.mark.parametrize("name", ["frames", "sheet.jpg"])
def test_nothing_is_replaced_unless_told_to(clip, tmp_path, name, capsys):
    output = tmp_path / name
    assert main(["frames", str(clip), "-o", str(output), "--fps", "10"]) == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*g")}
    assert main(["frames", str(clip), "-o", str(output), "--fps", "1"]) == 2
    assert "or give --overwrite" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*g")} == before
    (tmp_path / "frames").mkdir(exist_ok=True)
    (tmp_path / "frames" / "mine.png").write_text("of the user")
    assert main(["frames", str(clip), "-o", str(output), "--fps", "1", "--overwrite"]) == 0
    assert (tmp_path / "frames" / "mine.png").read_text() == "of the user"
    assert len([*tmp_path.glob("frames/0*.png")]) == (4 if name == "frames" else 0)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("taken.txt", "taken.txt is a file: name a folder, or a contact sheet"),
        ("none/sheet.png", "none is no folder: make it first"),
        ("sheet.bmp", "sheet.bmp: a sheet ends in .jpeg, .jpg, .png, .webp; a folder in none of an image"),
    ],
)
def test_what_cannot_be_written_to_is_told_before_reading(clip, tmp_path, output, message, capsys):
    (tmp_path / "taken.txt").write_text("notes")
    assert main(["frames", str(clip), "-o", str(tmp_path / output)]) == 2
    assert message in capsys.readouterr().err


def test_what_is_no_video_leaves_nothing_behind(tmp_path, capsys):
    (tmp_path / "notes.mp4").write_text("these are notes")
    assert main(["frames", str(tmp_path / "notes.mp4"), "-o", str(tmp_path / "out")]) == 4
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_links_in_a_circle_are_no_place_for_a_sheet(clip, tmp_path, capfd):
    sheet = tmp_path / "sheet.png"
    sheet.symlink_to(sheet)
    assert main(["frames", str(clip), "-o", str(sheet)]) == 1
    error = f"ipcv: error: {sheet}: too many levels of symbolic links; name another place, or make this one usable"
    assert capfd.readouterr().err.split() == error.split()
    assert sheet.is_symlink()
