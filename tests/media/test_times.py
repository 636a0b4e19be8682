"""Times of files that tell them badly: joined recordings, damaged stamps, times in decoding order, late pictures."""

import re
import struct
import tracemalloc
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
from films import THIRTY_PER_SECOND, film, number_in, number_picture
from PIL import Image

from ipcv.errors import VideoError
from ipcv.media.clip import open_video
from ipcv.media.sampling import Sampling
from ipcv.media.segments import windows
from ipcv.media.video.clock import UNKNOWN, continued
from ipcv.media.video.decoding import chosen_frames
from ipcv.media.video.probe import probe

TEN_PER_SECOND = tuple(index / 10 for index in range(60))
STARTS_AGAIN = "the file's clock starts again or jumps once: the times here go on, as they do in a player"


def recording(path: Path, first: int, *, begin: float = 0.0, **container: str) -> Path:
    """Sixty numbered frames of six seconds with B-frames, in groups of twelve."""
    pictures = [number_picture(first + count) for count in range(60)]
    times = [begin + time for time in TEN_PER_SECOND]
    return film(path, times=times, pictures=pictures, key_every=12, options={"bf": "3"}, container=container)


def joined(path: Path, *parts: Path) -> Path:
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def every_number(path: Path) -> tuple[list[int], list[float], tuple[str, ...]]:
    video = probe(path)
    gaps: list[int] = []
    found = [number_in(picture) for picture in chosen_frames(video, (64, 160), range(video.facts.frames), gaps)]
    assert not gaps
    return found, video.times.tolist(), video.warnings


# Recordings one after the other


@pytest.mark.parametrize(
    ("ending", "begin"), [("ts", 0), ("ts", 3), ("ts", 5.95), ("ts", 7200), ("mkv", 0), ("mkv", 3)]
)
def test_joined_recordings_are_seen_one_after_the_other(tmp_path, ending, begin):
    """The second one begins at 0, in the middle of the first, at its end, or hours later."""
    one = recording(tmp_path / f"one.{ending}", 0)
    two = recording(tmp_path / f"two.{ending}", 500, begin=begin)
    found, times, warnings = every_number(joined(tmp_path / f"both.{ending}", one, two))
    assert found == [*range(60), *range(500, 560)]
    assert np.allclose(times, np.arange(120) / 10, atol=2e-3)
    assert warnings == (STARTS_AGAIN,)


def test_three_recordings_and_one_that_starts_in_the_middle_of_a_group(tmp_path):
    parts = [recording(tmp_path / f"{first}.ts", first) for first in (0, 200, 400)]
    late = tmp_path / "late.ts"
    late.write_bytes(parts[0].read_bytes()[188 * 20 :])
    found, times, (told,) = every_number(joined(tmp_path / "three.ts", *parts))
    assert found == [*range(60), *range(200, 260), *range(400, 460)]
    assert np.allclose(times, np.arange(180) / 10, atol=2e-3)
    assert told == STARTS_AGAIN.replace("once", "2 times")
    video = probe(joined(tmp_path / "cut.ts", parts[1], late))
    (*_, last) = chosen_frames(video, (64, 160), [video.facts.frames - 1], [])
    assert number_in(last) == 59
    assert [number_in(each) for each in chosen_frames(video, (64, 160), range(60), [])] == [*range(200, 260)]


def test_windows_of_joined_recordings_follow_the_clock_that_goes_on(tmp_path):
    parts = [recording(tmp_path / f"{first}.ts", first) for first in (0, 500)]
    path = joined(tmp_path / "both.ts", *parts)
    with open_video(path, Sampling(start=5.5, end=7, fps=2)) as clip:
        assert clip.facts.duration == 12
        assert clip.times == (5.5, 6.0, 6.5, 6.9)
        assert [number_in(picture) for batch in clip for picture in batch] == [55, 500, 505, 509]


def test_a_short_gap_in_a_recording_stays(tmp_path):
    one, two = recording(tmp_path / "one.ts", 0), recording(tmp_path / "two.ts", 500, begin=11)
    found, times, warnings = every_number(joined(tmp_path / "both.ts", one, two))
    assert found == [*range(60), *range(500, 560)]
    assert times[60] == pytest.approx(11.0, abs=0.2)
    assert not warnings


def test_a_clock_of_33_bits_that_runs_over_goes_on(tmp_path):
    path = recording(tmp_path / "over.ts", 0, begin=2**33 / 90000 - 3)
    found, times, warnings = every_number(path)
    assert found == [*range(60)]
    assert np.allclose(times, TEN_PER_SECOND, atol=2e-3)
    assert not warnings


def test_a_second_stream_of_pictures_is_not_passed_over_without_a_word(tmp_path):
    one, two = recording(tmp_path / "one.ts", 0), recording(tmp_path / "two.ts", 500, mpegts_start_pid="0x200")
    found, _, warnings = every_number(joined(tmp_path / "both.ts", one, two))
    assert found == [*range(60)]
    assert warnings == ("further video streams in the file are not read: 1",)


@pytest.mark.parametrize("ending", ["mp4", "flv", "late.ts"])
def test_a_recording_behind_another_that_is_not_read_is_told(tmp_path, ending):
    one, two = (recording(tmp_path / f"{first}.{ending}", first) for first in (0, 500))
    if ending == "late.ts":  # a program that is not announced from the start
        container = {"mpegts_start_pid": "0x200", "mpegts_pmt_start_pid": "0x1100"}
        two = recording(tmp_path / "late.ts", 500, **container)
    assert not probe(one).warnings
    found, _, (told,) = every_number(joined(tmp_path / f"both.{ending}", one, two))
    assert found == [*range(60)]
    assert re.fullmatch(r"the last [3-6]\d % of the file are not read, they hold another recording: .*", told)


def test_a_transport_stream_that_is_filled_up_holds_no_other_recording(tmp_path):
    path = recording(tmp_path / "disc.ts", 0, mpegts_m2ts_mode="1")
    assert not probe(path).warnings


# Damaged stamps


def test_one_damaged_stamp_in_the_far_future_costs_no_more_than_its_own_time():
    shown = np.arange(90, dtype=np.int64) * 33
    shown[40] += 9 * 10**15
    clock = continued(shown, None, np.arange(90) % 30 == 0, tick=1e-3, usual=40, restarting=False)
    assert clock.jumps
    assert clock.shown.max() < 5000
    assert sorted(set(range(90)) - {40}, key=lambda frame: clock.shown[frame]) == sorted(set(range(90)) - {40})


@pytest.mark.parametrize("highest", [2**62, -(2**62), 2**63 - 1])
def test_no_stamp_makes_the_clock_run_over(highest):
    shown = np.array([0, highest, 33, -highest, 66, UNKNOWN + 1], np.int64)
    keys = np.zeros(6, bool)
    for decoded in (None, shown):
        clock = continued(shown, decoded, keys, tick=1e-9, usual=0, restarting=True)
        assert clock.shown.max() - clock.shown.min() < 5 * 3600 * 10**9


@pytest.mark.parametrize("edits", ["0", "1"])
@pytest.mark.parametrize("bframes", ["0", "3"])
def test_a_frame_that_claims_to_stay_for_days_does_not(tmp_path, bframes, edits):
    """And the frames after it are in order, in the middle of a group and where an edit list would hide them."""
    path = film(tmp_path / "film.mp4", options={"bf": bframes}, container={"use_editlist": edits})
    content = bytearray(path.read_bytes())
    table = content.index(b"stts") + 12
    (count,) = struct.unpack_from(">i", content, table - 4)
    for entry in (0, count // 3, count // 2, count - 2):
        damaged = content[:]
        struct.pack_into(">i", damaged, table + 8 * entry + 4, 2**31 - 1)
        path.write_bytes(damaged)
        found, times, warnings = every_number(path)
        assert found == [*range(90)]
        assert times[-1] < 3.1
        assert "clock starts again or jumps" in warnings[0]


def test_windows_of_centuries_take_no_memory():
    tracemalloc.start()
    assert len(list(islice(windows(10, 0.0, 9e9), 1000))) == 1000
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


# Other files that tell times badly


@pytest.mark.parametrize("ending", ["mp4", "mkv", "mov"])
def test_frames_whose_times_are_in_decoding_order_are_shown_in_display_order(tmp_path, ending):
    source, path = recording(tmp_path / "source.mp4", 0), tmp_path / f"copied.{ending}"
    with av.open(source) as given, av.open(path, "w") as output:
        stream = given.streams.video[0]
        copy = output.add_stream_from_template(stream)
        for count, packet in enumerate(packet for packet in given.demux(stream) if packet.size):
            packet.time_base = Fraction(1, 10)
            packet.pts, packet.dts, packet.duration = count, count, 1
            packet.stream = copy
            output.mux(packet)
    found, times, warnings = every_number(path)
    assert found == [*range(60)]
    assert np.allclose(times, TEN_PER_SECOND, atol=2e-3)
    assert not warnings
    video = probe(path)
    for position in (1, 17, 40):
        (picture,) = chosen_frames(video, (64, 160), [position], [])
        assert number_in(picture) == position


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_a_file_that_calls_all_frames_key_frames_is_read_right(tmp_path, codec):
    source, path = film(tmp_path / "source.mkv", codec), tmp_path / "keys.mkv"
    with av.open(source) as given, av.open(path, "w") as output:
        stream = given.streams.video[0]
        copy = output.add_stream_from_template(stream)
        for packet in given.demux(stream):
            if packet.size:
                packet.is_keyframe, packet.stream = True, copy
                output.mux(packet)
    positions, gaps = [3, 17, 40, 41, 66, 88], []
    found = [number_in(picture) for picture in chosen_frames(probe(path), (64, 160), positions, gaps)]
    assert (found, gaps) == (positions, [])


def with_sound(path: Path, begin: float, seconds: float) -> Path:
    """A second of pictures from `begin` on, beside `seconds` of silence."""
    with av.open(path, "w") as output:
        pictures, sound = output.add_stream("libx264", rate=30), output.add_stream("aac", rate=16000)
        pictures.width, pictures.height, pictures.pix_fmt = 160, 64, "yuv420p"
        pictures.time_base = pictures.codec_context.time_base = Fraction(1, 30)
        for count in range(30):
            frame = av.VideoFrame.from_ndarray(number_picture(count), format="rgb24")
            frame.pts, frame.time_base = round(begin * 30) + count, Fraction(1, 30)
            output.mux(pictures.encode(frame))
        output.mux(pictures.encode())
        for count in range(round(seconds * 16)):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1000), np.float32), format="fltp", layout="mono")
            silence.rate, silence.pts, silence.time_base = 16000, 1000 * count, Fraction(1, 16000)
            output.mux(sound.encode(silence))
        output.mux(sound.encode())
    return path


def test_a_window_before_the_first_picture_is_refused_and_half_a_window_is_told(tmp_path):
    path = with_sound(tmp_path / "late.mkv", begin=3, seconds=5)
    with pytest.raises(VideoError, match=r"would end at 2 s, but the first picture appears at 3\.0\d+ s: end later"):
        open_video(path, Sampling(start=1, end=2))
    with open_video(path, Sampling(start=1, end=3.5)) as clip:
        assert min(clip.times) >= 3
        assert any("starts with the first picture, at 3.0" in told for told in clip.warnings)


def test_pictures_that_end_before_the_sound_are_not_called_cut_off(tmp_path):
    assert not probe(with_sound(tmp_path / "long.mkv", begin=0, seconds=8)).warnings


def test_times_are_those_of_the_time_base_without_float_dust(tmp_path):
    for name in ("film.ts", "film.mp4", "late.mkv"):
        path = film(tmp_path / name, times=[0.7 + when for when in THIRTY_PER_SECOND])
        times = probe(path).times.tolist()
        assert times == [round(time, 6) for time in times]
        assert times[0] == 0


def test_a_rate_that_is_made_up_is_told(tmp_path):
    path = tmp_path / "camera.mjpeg"
    with path.open("wb") as file:
        for number in range(10):
            Image.fromarray(number_picture(number)).save(file, "JPEG", quality=95)
    video = probe(path)
    assert (video.facts.frames, video.facts.duration) == (10, 0.4)
    assert video.warnings == ("the file does not say when its frames are shown: taken as 25 per second",)
