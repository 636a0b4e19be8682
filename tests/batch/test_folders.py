"""Which files of a folder are videos: by ending, by content where that tells nothing; all others are counted."""

import os
from collections import Counter

import av
import numpy as np
import pytest
from PIL import Image

from ipcv.batch.inputs import Inputs, collect
from ipcv.errors import VideoError

CODECS = {
    "mp4": "h264",
    "mkv": "h264",
    "webm": "libvpx",
    "mpegts": "mpeg2video",
    "mpeg": "mpeg2video",
    "avi": "mpeg4",
    "flv": "flv",
    "asf": "msmpeg4",
    "mxf": "mpeg2video",
    "nut": "mpeg4",
    "ogg": "libvpx",
    "ivf": "libvpx",
    "h264": "h264",
    "hevc": "libx265",
    "mpeg2video": "mpeg2video",
    "yuv4mpegpipe": "rawvideo",
    "gif": "gif",
    "apng": "apng",
}


def pictures():
    return [Image.fromarray(np.full((48, 64, 3), 40 * index, np.uint8)) for index in range(5)]


def write(path, form, codec):
    """A video of five frames in the container `form`."""
    with av.open(str(path), "w", format="matroska" if form == "mkv" else form) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = 64, 48
        formats = {"gif": "rgb8", "apng": "rgb24"}
        stream.pix_fmt = formats.get(form, "yuv420p")
        for picture in pictures():
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())


def found(folder):
    passed = Counter()
    return [os.path.basename(item.id) for item in collect([str(folder)], passed=passed)], passed  # noqa: PTH119


@pytest.mark.parametrize("form", CODECS)
@pytest.mark.parametrize("name", ["clip", "clip.bak"])
def test_a_video_is_known_by_its_content_where_its_ending_tells_nothing(tmp_path, form, name):
    write(tmp_path / name, form, CODECS[form])
    assert found(tmp_path) == ([name], Counter())


@pytest.mark.parametrize("ending", "gif apng asf f4v m2v h264 GIF m4v 3g2".split())  # noqa: SIM905
def test_endings_of_videos_are_enough(tmp_path, ending):
    (tmp_path / f"clip.{ending}").write_text("damaged")
    assert found(tmp_path)[0] == [f"clip.{ending}"]


def test_an_animation_is_a_video_and_a_still_is_none(tmp_path):
    first, *others = pictures()
    first.save(tmp_path / "moves.webp", save_all=True, append_images=others, duration=100)
    first.save(tmp_path / "still.webp")
    first.save(tmp_path / "moves", format="PNG", save_all=True, append_images=others, duration=100)
    first.save(tmp_path / "still", format="PNG")
    first.save(tmp_path / "still.jpg")
    assert found(tmp_path) == (["moves", "moves.webp"], Counter({".webp": 1, "without an ending": 1, ".jpg": 1}))


def test_what_is_no_video_is_counted_by_ending(tmp_path):
    for name in ("a.mp4", "b.mp4", "one.txt", "sub/two.TXT", "notes", "music.ogg", "odd.xyz", "code.ts", ".old.mp4"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("const answer = 42;\n")
    os.mkfifo(tmp_path / "pipe.xyz")
    (tmp_path / "broken.xyz").symlink_to("nowhere")
    names, passed = found(tmp_path)
    assert names == ["a.mp4", "b.mp4"]
    assert passed == Counter({".xyz": 3, ".txt": 2, ".ts": 1, ".ogg": 1, "without an ending": 1, "hidden": 1})
    assert Inputs(sources=(str(tmp_path),)).collect().passed == passed
    assert not Inputs(sources=(str(tmp_path),), glob=("*.xyz",)).collect().passed


def test_a_folder_without_videos_says_what_there_is(tmp_path):
    for index in range(3):
        (tmp_path / f"{index}.jpg").touch()
    with pytest.raises(VideoError, match=r"no video in .* \(passed over: 3 \.jpg\): name others"):
        Inputs(sources=(str(tmp_path),)).collect()


def test_sound_alone_is_no_video(tmp_path):
    with av.open(str(tmp_path / "sound"), "w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 960), np.int16), layout="mono")
        frame.sample_rate = 48000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert found(tmp_path) == ([], Counter({"without an ending": 1}))
