"""Reading real files: the right frames at the right times, and one clear line for what is not a video."""

import os
import re
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from fractions import Fraction
from pathlib import Path

import numpy as np
import psutil
import pytest
from films import (
    THIRTY_PER_SECOND,
    UNEVEN,
    corner_colours,
    film,
    noise,
    number_in,
    number_picture,
    quarters,
    sound_only,
    trimmed,
    turned,
)

from ipcv.errors import VideoError
from ipcv.media.clip import Clip, clip_from_frames, open_video
from ipcv.media.sampling import Sampling
from ipcv.media.video.decoding import chosen_frames
from ipcv.media.video.probe import probe

CODECS = {"libx264": "mp4", "libx265": "mp4", "libvpx-vp9": "webm", "libsvtav1": "mp4"}


@pytest.fixture(scope="session")
def films(tmp_path_factory) -> Path:
    """Ninety numbered frames at 30 per second by every codec and in several containers."""
    folder = tmp_path_factory.mktemp("films")
    for codec, suffix in CODECS.items():
        film(folder / f"{codec}.{suffix}", codec)
    film(folder / "uneven.mp4", times=UNEVEN)
    film(folder / "uneven.mkv", times=UNEVEN)
    film(folder / "broadcast.ts", times=UNEVEN)
    film(folder / "old.avi")
    film(folder / "raw.h264", form="h264", options={"x264-params": "force-cfr=1"})  # its packets say how long they stay
    film(folder / "closed.mp4", "libx265", options={"x265-params": "log-level=error:open-gop=0"})
    film(folder / "late.mp4", times=[5 + when for when in THIRTY_PER_SECOND])
    film(folder / "front.mp4", container={"movflags": "faststart"})
    trimmed(folder / "libx264.mp4", folder / "trimmed.mp4", 0.5)
    sound_only(folder / "sound.mp4")
    return folder


def numbers(clip) -> list[int]:
    """Which frames the clip hands out."""
    return [number_in(picture) for batch in clip for picture in batch]


def expected(times, clip) -> list[int]:
    """Which of the frames that appear at `times` were on display when the clip says so."""
    return [int(np.searchsorted(times, moment + 5e-4, side="right")) - 1 for moment in clip.times]


def reader_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "ipcv-reader"]


def is_open(path: Path) -> bool:
    return str(path) in {file.path for file in psutil.Process().open_files()}


# The right frames


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(fps=30, max_frames=90), Sampling(fps=30, max_frames=10)])
@pytest.mark.parametrize("codec", CODECS)
def test_every_codec_gives_the_frames_of_the_times_it_says(films, codec, sampling):
    with open_video(films / f"{codec}.{CODECS[codec]}", sampling) as clip:
        assert numbers(clip) == expected(THIRTY_PER_SECOND, clip)
        assert len(clip.times) == min(6 if sampling.fps == 2 else 90, sampling.max_frames)


@pytest.mark.parametrize("name", ["uneven.mp4", "uneven.mkv", "broadcast.ts"])
def test_an_uneven_frame_rate_gives_the_frames_on_display_at_each_time(films, name):
    with open_video(films / name, Sampling(fps=1)) as clip:
        assert numbers(clip) == [0, 32, 35, 39, 42, 45, 49, 52, 55, 59]
        assert np.allclose(clip.times, [0.0, 0.9, 1.8, 3.0, 3.9, 4.8, 6.0, 6.9, 7.8, 9.0], atol=1e-3)


def test_a_video_that_starts_late_is_timed_from_the_start_of_playing(films):
    with open_video(films / "late.mp4") as clip:
        assert clip.times[0] == 0
        assert numbers(clip) == expected(THIRTY_PER_SECOND, clip)


@pytest.mark.parametrize("name", ["closed.mp4", "broadcast.ts", "old.avi", "raw.h264", "trimmed.mp4", "uneven.mkv"])
def test_every_container_gives_the_frames_of_the_times_it_says(films, name):
    times = UNEVEN if name in ("broadcast.ts", "uneven.mkv") else THIRTY_PER_SECOND
    with open_video(films / name, Sampling(fps=9)) as clip:
        found = numbers(clip)
        assert clip.facts.reader == "pyav"
        if name == "raw.h264":
            assert found == expected([index / 25 for index in range(90)], clip)
            assert clip.facts.duration == pytest.approx(90 / 25)
            assert clip.warnings == ("the file does not say when its frames are shown: taken as 25 per second",)
        elif name == "trimmed.mp4":
            assert found == [15 + number for number in expected(times[:75], clip)]
        else:
            assert found == expected(times, clip)


def test_a_damaged_packet_is_passed_over(films, tmp_path):
    content = bytearray((films / "front.mp4").read_bytes())
    start = content.index(b"mdat") + 4
    middle = start + (len(content) - start) // 2
    content[middle : middle + 200] = b"\xff" * 200
    path = tmp_path / "damaged.mp4"
    path.write_bytes(content)
    with open_video(path, Sampling(fps=30, max_frames=90), frame_batch=4) as clip:
        found = numbers(clip)
    assert len(found) == 90
    assert sum(number != wanted for wanted, number in enumerate(found)) <= 24  # at most the damaged group of pictures


# Size and shape


@pytest.mark.parametrize(("degrees", "corners"), [(0, "RGBW"), (90, "BRWG"), (180, "WBGR"), (270, "GWRB")])
def test_turned_videos_are_upright(tmp_path, degrees, corners):
    path = film(tmp_path / "flat.mp4", times=(0.0, 0.1), pictures=[quarters(80, 160)] * 2)
    if degrees:
        path = turned(path, tmp_path / "turned.mp4", degrees)
    video = probe(path)
    assert video.facts.rotation == degrees
    assert (video.facts.height, video.facts.width) == ((160, 80) if degrees % 180 else (80, 160))
    size = (video.facts.height // 2, video.facts.width // 2)
    pictures = list(chosen_frames(video, size, [0, 1], []))
    assert [picture.shape for picture in pictures] == [(*size, 3)] * 2
    assert {corner_colours(picture) for picture in pictures} == {corners}


def test_pixels_that_are_not_square_are_made_square(tmp_path):
    film(tmp_path / "wide.mp4", times=(0.0, 0.1), pictures=[quarters(64, 100)] * 2, pixel_aspect=Fraction(2, 1))
    with open_video(tmp_path / "wide.mp4") as clip:
        assert clip.size == (clip.facts.height, clip.facts.width) == (64, 200)
        assert next(iter(clip)).shape == (2, 64, 200, 3)


def test_odd_sizes_are_read_whole(tmp_path):
    path = film(tmp_path / "odd.webm", "libvpx-vp9", (0.0, 0.1), pictures=[quarters(75, 101)] * 2)
    with open_video(path) as clip:
        (batch,) = clip
        assert batch.shape == (2, 75, 101, 3)
        assert corner_colours(batch[0]) == "RGBW"


def test_frames_come_at_the_size_asked_for(films):
    asked = []
    with open_video(films / "libx264.mp4", resize=lambda *size: asked.append(size) or (56, 112)) as clip:
        assert asked == [(64, 160, 6)]
        assert clip.size == (56, 112)
        assert {batch.shape for batch in clip} == {(6, 56, 112, 3)}


def test_batches_are_full_and_the_last_one_is_shorter_and_even(films):
    with open_video(films / "libx264.mp4", Sampling(fps=9), frame_batch=8) as clip:
        assert [len(batch) for batch in clip] == [8, 8, 8, 4]


@pytest.mark.parametrize("frame_batch", [0, -2, 3])
def test_an_odd_frame_batch_is_refused(films, frame_batch):
    with pytest.raises(ValueError, match="frame_batch must be a multiple of 2 above 0"):
        open_video(films / "libx264.mp4", frame_batch=frame_batch)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize(("codec", "suffix"), CODECS.items())
def test_very_short_videos_fill_their_last_pair(tmp_path, codec, suffix, count):
    plain = {"x265-params": "log-level=error:bframes=0"} if codec == "libx265" else {}  # or it may leave out a time
    path = film(tmp_path / f"short.{suffix}", codec, THIRTY_PER_SECOND[:count], options=plain)
    with open_video(path, Sampling(fps=30)) as clip:
        assert numbers(clip) == [0, 0] if count == 1 else [0, 1] if count == 2 else [0, 1, 2, 2]
        assert any("the last frame is repeated once" in warning for warning in clip.warnings) == (count % 2 == 1)


def test_facts_are_those_of_the_file(films):
    with open_video(films / "libx264.mp4") as clip:
        facts = clip.facts
    assert (facts.path, facts.codec, facts.reader) == (str(films / "libx264.mp4"), "h264", "pyav")
    assert (facts.frames, facts.width, facts.height, facts.rotation) == (90, 160, 64, 0)
    assert facts.duration == pytest.approx(3.0, abs=0.01)
    assert facts.fps == pytest.approx(30.0, abs=0.01)
    assert not clip.warnings


def test_a_window_of_source_time_is_read(films):
    with open_video(films / "libx264.mp4", Sampling(start=1, end=2)) as clip:
        assert numbers(clip) == [30, 45]
    with open_video(films / "libx264.mp4", Sampling(start=2, end=99)) as clip:
        assert numbers(clip) == [60, 75]
        (told,) = clip.warnings
        assert re.fullmatch(r"the clip ends with the video at 3\.00[01] s, before the end asked for \(99 s\)", told)
    with pytest.raises(VideoError, match="start earlier"):
        open_video(films / "libx264.mp4", Sampling(start=4))


# What is not a video, and names


def test_what_is_not_a_readable_video_is_one_clear_line(films, tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("not a video\n" * 50)
    (tmp_path / "notes.txt").write_text("not a video\n" * 50)
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    content = (films / "libx264.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: len(content) // 2])
    os.mkfifo(tmp_path / "pipe")
    for name, problem in {
        ".": "is a folder, not a video: give one file",
        "missing.mp4": "does not exist: check the path",
        "empty.mp4": "is empty: copy or download it again",
        "text.mp4": "is a text file, not a video",
        "notes.txt": "is a text file, not a video",
        "noise.mp4": "is not a video file, or is damaged: try to play it, or convert it with ffmpeg",
        "cut.mp4": "is cut off or was never finished (MP4 without its index): copy, download or record it again",
        "pipe": "is not a regular file: save the video to a file first",
        "a" * 300: "cannot be opened: File name too long",
        "null\0byte": "cannot be opened: embedded null byte",
    }.items():
        with pytest.raises(VideoError) as caught:
            open_video(tmp_path / name)
        assert str(caught.value) == f"{str(tmp_path / name).replace(chr(0), chr(92) + 'x00')} {problem}"
    with pytest.raises(VideoError, match=r"sound\.mp4 has no video stream, only audio: give a file with pictures"):
        open_video(films / "sound.mp4")
    with pytest.raises(VideoError, match="does not exist: download the video first"):
        open_video("https://example.org/video.mp4")


def test_a_file_that_may_not_be_read_is_one_clear_line(films, tmp_path):
    code = """
import os, sys
import ipcv.media.clip
if os.getuid() == 0:
    os.seteuid(65534)
try:
    ipcv.media.clip.open_video(sys.argv[1])
except ipcv.VideoError as error:
    print(error)
"""
    path = film(tmp_path / "mine.mp4", times=(0.0,))
    path.chmod(0)
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert done.stdout == f"{path} may not be read: ask for permission (chmod +r) or copy it\n"


def test_a_file_cut_off_behind_its_index_is_read_as_far_as_it_goes(films, tmp_path):
    content = (films / "front.mp4").read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(content[: len(content) * 6 // 10])
    with open_video(path, Sampling(fps=9)) as clip:
        found = numbers(clip)
        assert found[:-1] == expected(THIRTY_PER_SECOND, clip)[:-1]
        assert 4 <= len(found) < 27
        assert any("of 3.0 s: the file may be cut off" in warning for warning in clip.warnings)


@pytest.mark.parametrize(
    "name",
    [
        "-q.mp4",
        "[bold]x[.mp4",
        "a'b\"c.mp4",
        "日本 é.mp4",
        "a:b.mp4",
        "two\nlines\x1b[31m.mp4",
        os.fsdecode(b"\xff.mp4"),
    ],
)
def test_any_file_name_works_and_is_safe_to_print(films, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(VideoError) as caught:
        open_video(name)
    assert str(caught.value).isprintable()
    Path(name).write_bytes((films / "libx264.mp4").read_bytes())
    with open_video(name) as clip:
        assert numbers(clip) == expected(THIRTY_PER_SECOND, clip)
        assert all(warning.isprintable() for warning in clip.warnings)
        assert not clip.warnings


# The thread that reads ahead


def test_reading_stays_exactly_one_batch_ahead(films):
    pictures = np.zeros((10, 8, 8, 3), np.uint8)
    taken = []

    class Watched(np.ndarray):
        def __getitem__(self, index):
            taken.append(index)
            return np.asarray(self)[index]

    clip = clip_from_frames(pictures.view(Watched), range(10), frame_batch=2)
    taken.clear()
    with closing(iter(clip)) as batches:
        for round_ in range(1, 4):
            next(batches)
            time.sleep(0.1)
            assert taken == list(range(2 * round_ + 2))


@pytest.mark.parametrize("name", ["libx264.mp4", "libx265.mp4"])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, GeneratorExit])
def test_the_thread_and_the_file_are_gone_after_an_error(films, name, error):
    with suppress(error), open_video(films / name, Sampling(fps=30), frame_batch=4) as clip:
        for count, _ in enumerate(clip):
            assert len(reader_threads()) == 1
            if count == 2:
                raise error
    assert not reader_threads()
    assert not is_open(films / name)


@pytest.mark.parametrize("name", ["libx264.mp4", "libx265.mp4"])
def test_the_thread_and_the_file_are_gone_when_iteration_is_abandoned(films, name):
    clip = open_video(films / name, Sampling(fps=30), frame_batch=4)
    for _ in clip:
        break
    assert not reader_threads()
    assert not is_open(films / name)


@pytest.mark.parametrize("name", ["libx264.mp4", "libx265.mp4"])
def test_the_file_is_closed_before_the_last_batch_is_handed_over(films, name):
    clip = open_video(films / name, Sampling(fps=30, max_frames=90), frame_batch=30)
    closed = [not is_open(films / name) for _ in clip]
    assert len(closed) == 3
    assert closed[-1]


def test_closing_wakes_up_who_waits_for_a_batch():
    over = threading.Event()

    class Slow:
        facts, warnings = None, ()

        def frames(self):
            while True:
                time.sleep(0.01)
                yield np.zeros((2, 2, 3), np.uint8)

    clip = Clip(Slow(), [0.0] * 1000, (2, 2), 1000)

    def keep_closing():
        while not over.wait(0.05):
            clip.close()

    threading.Thread(target=keep_closing, daemon=True).start()
    with pytest.raises(RuntimeError, match="was closed while it was being read"):
        next(iter(clip))
    over.set()
    assert not reader_threads()


def test_what_goes_wrong_in_the_thread_reaches_the_reader_of_the_clip(films, tmp_path):
    path = tmp_path / "gone.mp4"
    path.write_bytes((films / "libx265.mp4").read_bytes())
    with open_video(path) as clip:
        path.unlink()
        with pytest.raises(VideoError, match=r"gone\.mp4 does not exist"):
            next(iter(clip))
    assert not reader_threads()


def test_a_clip_can_be_read_again(films):
    with open_video(films / "libx265.mp4") as clip:
        first = numbers(clip)
        told = clip.warnings
        assert numbers(clip) == first
        assert clip.warnings == told


def test_the_time_spent_reading_grows_while_reading_and_only_then(films):
    with open_video(films / "libx264.mp4") as clip:
        opened = clip.read_seconds
        assert opened > 0
        for _ in clip:
            time.sleep(0.3)
        assert opened < clip.read_seconds < opened + 0.3 + 5
        read = clip.read_seconds
        time.sleep(0.05)
        assert clip.read_seconds == read


def test_a_process_that_abandons_its_clip_ends_at_once_and_well(films):
    code = (
        "import sys; from ipcv.media.clip import Sampling, open_video\n"
        "batches = iter(open_video(sys.argv[1], Sampling(fps=30), frame_batch=2)); next(batches)\n"
        "print('read')"
    )
    command = [sys.executable, "-c", code, films / "libx264.mp4"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "read\n", "")


# What reading costs


def test_memory_does_not_grow_with_the_number_of_frames_nor_while_waiting(tmp_path):
    """Peak resident memory of reading 64 and then 512 frames of one long video, and of waiting in between."""
    path = film(
        tmp_path / "long.mp4",
        times=[index / 30 for index in range(1024)],
        pictures=list(noise(8, 180, 320)) * 128,
        options={"preset": "ultrafast", "crf": "40"},
    )
    code = """
import sys, threading, time, psutil, torch
from ipcv.media.clip import open_video
from ipcv.media.sampling import Sampling

def peak(frames, wait):
    top, done = [0], threading.Event()
    def watch():
        while not done.wait(0.005):
            top[0] = max(top[0], psutil.Process().memory_info().rss)
    watcher = threading.Thread(target=watch); watcher.start()
    with open_video(sys.argv[1], Sampling(fps=15, max_frames=frames), resize=lambda h, w, n: (252, 448)) as clip:
        batches = iter(clip)
        count = len(next(batches))
        time.sleep(wait)
        count += sum(map(len, batches))
    done.set(); watcher.join()
    assert (count, clip.facts.reader) == (frames, "pyav"), (count, clip.facts, clip.warnings)
    return top[0]

peak(64, 0)
print(peak(64, 0), peak(512, 0), peak(64, 2))
"""
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    few, many, waiting = (int(part) / 2**20 for part in done.stdout.split())
    assert many - few < 64, f"peak memory rose from {few:.0f} to {many:.0f} MiB"
    assert waiting - few < 64, f"peak memory rose from {few:.0f} to {waiting:.0f} MiB while waiting"


def test_nothing_is_written_to_the_terminal_whatever_the_file(films, tmp_path):
    """Not by Python, not by the C++ libraries: not even for damaged files."""
    generator = np.random.default_rng(0)
    whole = [
        films / name for name in ("libx264.mp4", "libsvtav1.mp4", "libvpx-vp9.webm", "libx265.mp4", "broadcast.ts")
    ]
    whole += [film(tmp_path / "noise.mp4", times=THIRTY_PER_SECOND[:30], pictures=list(noise(30, 64, 160)))]
    for path in whole:
        for copy in range(3):
            content = bytearray(path.read_bytes())
            for position in generator.integers(len(content) // 4, len(content) * 3 // 4, 40):
                content[position] = generator.integers(0, 256)
            (tmp_path / f"{copy}-{path.name}").write_bytes(content)
    code = """
import sys
from ipcv.errors import VideoError
from ipcv.media.clip import open_video
from ipcv.media.sampling import Sampling
for path in sys.argv[1:]:
    try:
        with open_video(path, Sampling(fps=10)) as clip:
            assert sum(map(len, clip)) == len(clip.times)
    except VideoError:
        pass
"""
    paths = [*whole, *sorted(tmp_path.iterdir())]
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# Frames in memory


def test_frames_in_memory_come_out_as_they_went_in():
    pictures = np.stack([number_picture(number) for number in range(6)])
    with clip_from_frames(pictures, [0.0, 0.1, 0.2, 0.3, 0.4, 0.5], frame_batch=4) as clip:
        batches = list(clip)
    assert [len(batch) for batch in batches] == [4, 2]
    assert np.array_equal(np.concatenate(batches), pictures)
    assert clip.times == (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
    assert (clip.facts.reader, clip.facts.frames, clip.facts.fps) == ("memory", 6, pytest.approx(10))
    assert not clip.warnings


def test_frames_in_memory_are_resized_and_paired():
    pictures = np.stack([number_picture(number) for number in range(3)])
    with clip_from_frames(pictures, resize=lambda height, width, frames: (height // 2, width // 2)) as clip:
        (batch,) = clip
    assert batch.shape == (4, 32, 80, 3)
    assert [number_in(picture) for picture in batch] == [0, 1, 2, 2]
    assert clip.times == (0.0, 0.5, 1.0, 1.0)
    assert clip.warnings == (
        "no frame times were given: taken as two frames per second",
        "the last frame is repeated: frames are encoded 2 at a time",
    )


@pytest.mark.parametrize(
    ("frames", "times", "message"),
    [
        (np.zeros((2, 8, 8), np.uint8), None, "frames must be uint8"),
        (np.zeros((2, 8, 8, 4), np.uint8), None, "frames must be uint8"),
        (np.zeros((2, 8, 8, 3), np.float32), None, "frames must be uint8"),
        (np.zeros((0, 8, 8, 3), np.uint8), None, "frames must be uint8"),
        (np.zeros((2, 8, 8, 3), np.uint8), [0.0], "2 ascending numbers"),
        (np.zeros((2, 8, 8, 3), np.uint8), [1.0, 0.0], "2 ascending numbers"),
    ],
)
def test_arrays_that_are_not_frames_are_refused(frames, times, message):
    with pytest.raises(ValueError, match=message):
        clip_from_frames(frames, times)
