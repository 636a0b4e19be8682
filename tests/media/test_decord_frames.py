"""decord reads short files whole, and nothing that it could get wrong."""

import numpy as np
import pytest
from films import UNEVEN, film, number_in, trimmed, turned

from ipcv.media.clip import open_video
from ipcv.media.sampling import Sampling
from ipcv.media.video import decord_frames
from ipcv.media.video.decoding import chosen_frames
from ipcv.media.video.decord_frames import every_frame
from ipcv.media.video.probe import probe

EVERY = Sampling(fps=30, max_frames=90)
ALL = list(range(90))
BIDIRECTIONAL = {"bf": "2", "g": "15"}
PLAIN = {
    "plain.mp4": ("libx264", {}, {}),
    "no-edit-list.mp4": ("libx264", BIDIRECTIONAL, {"use_editlist": "0"}),
    "fragmented.mp4": ("libx264", BIDIRECTIONAL, {"movflags": "frag_keyframe+empty_moov"}),
    "open-groups.mkv": ("libx264", BIDIRECTIONAL | {"x264-params": "open-gop=1"}, {}),
    "vp9.webm": ("libvpx-vp9", {}, {}),
    "av1.mp4": ("libsvtav1", {}, {}),
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A film of ninety numbered frames."""
    return film(tmp_path_factory.mktemp("films") / "plain.mp4")


def read(path, sampling=EVERY, **more):
    """The reader, the numbers of the frames, and the warnings."""
    with open_video(path, sampling, **more) as clip:
        found = [number_in(picture) for batch in clip for picture in batch]
        return clip.facts.reader, found, clip.warnings


@pytest.mark.parametrize("name", PLAIN)
def test_all_frames_of_a_short_file_come_from_decord_and_are_right(name, tmp_path, monkeypatch):
    import decord

    for seeking in ("seek", "seek_accurate", "skip_frames", "get_batch", "__getitem__"):
        monkeypatch.delattr(decord.VideoReader, seeking)
    codec, options, container = PLAIN[name]
    path = film(tmp_path / name, codec, options=options, container=container)
    assert read(path) == ("decord", ALL, ())


def test_both_decoder_libraries_hand_out_the_same_pictures(plain):
    video = probe(plain)
    for ours, theirs in zip(chosen_frames(video, (70, 126), ALL, []), every_frame(video, (70, 126)), strict=True):
        assert np.abs(ours.astype(int) - theirs).mean() < 1


@pytest.mark.parametrize(("name", "codec"), [("hevc.mp4", "libx265"), ("h264.ts", "libx264"), ("h264.avi", "libx264")])
def test_pyav_reads_files_of_which_decord_loses_frames(name, codec, tmp_path):
    assert read(film(tmp_path / name, codec)) == ("pyav", ALL, ())


def test_pyav_reads_turned_pictures_and_files_with_hidden_frames(plain, tmp_path):
    for path in (turned(plain, tmp_path / "turned.mp4", 90), tmp_path / "trimmed.mp4"):
        if not path.exists():
            trimmed(plain, path, 0.5)
        assert read(path)[0] == "pyav"


@pytest.mark.parametrize("sampling", [Sampling(fps=15), Sampling(fps=30, start=0.1), Sampling(fps=30, end=2.5)])
def test_pyav_reads_where_only_some_frames_are_wanted(plain, sampling):
    reader, found, _ = read(plain, sampling)
    assert reader == "pyav"
    assert found == [number for number in ALL if number in found]


def test_pyav_reads_what_would_take_much_memory(plain, monkeypatch):
    monkeypatch.setattr(decord_frames, "ROOM", 90 * 64 * 160 * 3 - 1)
    assert read(plain) == ("pyav", ALL, ())
    monkeypatch.setattr(decord_frames, "ROOM", 90 * 64 * 160 * 3)
    assert read(plain) == ("decord", ALL, ())


def test_frames_whose_times_are_uneven_are_right_as_well(tmp_path):
    reader, found, _ = read(film(tmp_path / "uneven.mkv", times=UNEVEN), Sampling(fps=500, max_frames=90))
    assert (reader, found) == ("decord", list(range(len(UNEVEN))))


def test_a_frame_that_decord_loses_is_noticed(plain, monkeypatch):
    import decord

    take = decord.VideoReader.next
    taken = []

    def losing(reader):
        taken.append(reader)
        if len(taken) == 40:
            take(reader)
        return take(reader)

    monkeypatch.setattr(decord.VideoReader, "next", losing)
    assert read(plain) == ("pyav", ALL, ())


def test_pyav_reads_a_file_that_decord_cannot_finish(tmp_path):
    path = film(tmp_path / "front.mp4", container={"movflags": "faststart"})
    content = bytearray(path.read_bytes())
    middle = (content.index(b"mdat") + len(content)) // 2
    content[middle : middle + 60] = bytes(60)
    path.write_bytes(content)
    reader, found, _ = read(path)
    assert (reader, len(found)) == ("pyav", 90)


def test_pyav_reads_a_name_that_decord_does_not_take(plain, tmp_path):
    path = tmp_path / "caf\udcff.mp4"
    path.write_bytes(plain.read_bytes())
    assert read(path) == ("pyav", ALL, ())
