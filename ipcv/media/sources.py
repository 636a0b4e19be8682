"""Videos, images and frames in memory that a question is about: found, then their frames chosen, then read."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from ipcv.media.clip import Clip, Resize, clip_from_frames, clip_from_image, open_chosen
from ipcv.media.frames import FrameArray, FrameSize, MediaKind, VideoFacts
from ipcv.media.images import is_image, read_image
from ipcv.media.remote.access import Access, is_remote
from ipcv.media.remote.copies import at_hand
from ipcv.media.sampling import Choice, Sampling, choose
from ipcv.media.video.probe import IndexedVideo, probe


@dataclass(frozen=True, eq=False)
class TimedFrames:
    """A video that is in memory already; all of its frames are used."""

    frames: np.ndarray  # uint8 RGB [n, height, width, 3]
    times: Sequence[float] | None = None  # when each is shown, in seconds, ascending; None: two per second
    facts: VideoFacts | None = None  # about the file that they are of
    warnings: tuple[str, ...] = ()  # of reading it


@dataclass(frozen=True, eq=False)
class StillImage:
    """An image file that has been read."""

    picture: FrameArray  # uint8 RGB [height, width, 3]
    facts: VideoFacts
    warnings: tuple[str, ...]


FoundFile = IndexedVideo | StillImage  # a file that can be read: its frames are known, or decoded if it is an image
Source = str | Path | FoundFile | TimedFrames | Clip  # a clip is open already


@dataclass(frozen=True, kw_only=True, eq=False)
class ChosenFrames:
    """The frames of a video or image that are asked for; none but an image is decoded yet."""

    name: str  # of its file, "" if there is none
    kind: MediaKind
    times: Sequence[float]  # seconds
    height: int  # as displayed
    width: int
    read: Callable[[Resize, int], Clip]  # the size of the frames, and at most how many there are -> the frames


def find(path: str | Path) -> FoundFile:
    """Index a video file, or decode an image file. Raises `VideoError` if it cannot be read.

    A question takes the result in place of the path, and then does not read the file's index again.
    """
    return StillImage(*read_image(path)) if is_image(path) else probe(path)


def read_frames(path: str | Path, sampling: Sampling | None = None, *, max_pixels: int | None = None) -> TimedFrames:
    """Read the frames that a model is shown of a video or image (a file or a URL), each at the time that it appears.

    They are as a player displays them: upright, in the colours of an ordinary screen, whole where the file is
    interlaced, on white where it is transparent. Those of a video are an even number, as models take them in pairs.
    With `max_pixels` each is scaled down to at most so many pixels. Raises `VideoError`.

    >>> read_frames("clip.mp4", Sampling(fps=1, start=60)).times
    [60.0, 61.0, 62.0, 63.0]
    """
    with _at_hand(str(path)) as found, open_frames(found, sampling, resize=within(max_pixels)) as clip:
        frames = np.empty((len(clip.times), *clip.size, 3), np.uint8)
        done = 0
        for batch in clip:
            frames[done : done + len(batch)] = batch
            done += len(batch)
    return TimedFrames(frames, clip.times, clip.facts, clip.warnings)


@contextmanager
def _at_hand(video: str) -> Iterator[FoundFile]:
    if not is_remote(video):
        yield find(video)
        return
    with at_hand(video, Access(), TemporaryDirectory) as path:
        found = find(path)
        yield replace(found, facts=replace(found.facts, path=video))


def open_frames(source: FoundFile, sampling: Sampling | None = None, *, resize: Resize) -> Clip:
    """Open a video or image file as `read_frames` reads it, with frames of the size that `resize` says."""
    multiple = 1 if isinstance(source, StillImage) else 2
    chosen = choose_frames(source, sampling or Sampling(), 4 * multiple, multiple)
    return chosen.read(resize, len(chosen.times))


def within(max_pixels: int | None) -> Resize:
    """Sizes of at most `max_pixels` in the shape of the picture. Raises `ValueError` for a number below 1."""
    if max_pixels is not None and max_pixels < 1:
        raise ValueError(f"max_pixels must be at least 1, not {max_pixels}")

    def resize(height: int, width: int, _: int) -> FrameSize:
        scale = 1.0 if max_pixels is None else min((max_pixels / (height * width)) ** 0.5, 1.0)
        return max(int(height * scale), 1), max(int(width * scale), 1)

    return resize


def choose_frames(source: FoundFile | TimedFrames, sampling: Sampling, frame_batch: int, multiple: int) -> ChosenFrames:
    """Choose frames of `source` by `sampling`, to be read in batches of `frame_batch`; their count is a `multiple`.

    Raises `VideoError` if `sampling` starts after the end, `TypeError` for what is no video.
    """
    match source:
        case IndexedVideo():
            return _of_video(source, sampling, frame_batch, multiple)
        case StillImage():
            return _of_image(source, multiple)
        case TimedFrames():
            return _of_memory(source, frame_batch, multiple)
    raise TypeError(f"a video is a path or ipcv.TimedFrames, not {type(source).__name__}")


def _of_video(video: IndexedVideo, sampling: Sampling, frame_batch: int, multiple: int) -> ChosenFrames:
    def chosen(most: int | None = None) -> Choice:
        return choose(video.times.tolist(), sampling, duration=video.facts.duration, multiple=multiple, most=most)

    choice = chosen()

    def read(resize: Resize, most: int) -> Clip:
        fewer = choice if most >= len(choice.positions) else chosen(most)
        return open_chosen(video, fewer, resize=resize, frame_batch=frame_batch, multiple=multiple)

    return ChosenFrames(
        name=video.facts.path,
        kind="video",
        times=video.times[list(choice.positions)].tolist(),
        height=video.facts.height,
        width=video.facts.width,
        read=read,
    )


def _of_memory(video: TimedFrames, frame_batch: int, multiple: int) -> ChosenFrames:
    clip = clip_from_frames(video.frames, video.times, frame_batch=frame_batch, multiple=multiple)

    def read(resize: Resize, most: int) -> Clip:
        fewer = video if most >= len(clip.times) else _thinned(video, clip.times, most)
        return clip_from_frames(fewer.frames, fewer.times, resize=resize, frame_batch=frame_batch, multiple=multiple)

    return ChosenFrames(name="", kind="video", times=clip.times, height=clip.size[0], width=clip.size[1], read=read)


def _of_image(image: StillImage, multiple: int) -> ChosenFrames:
    facts = image.facts

    def read(resize: Resize, _: int) -> Clip:
        return clip_from_image(image.picture, facts, resize=resize, multiple=multiple, warnings=image.warnings)

    times = (0.0,) * multiple
    return ChosenFrames(name=facts.path, kind="image", times=times, height=facts.height, width=facts.width, read=read)


def _thinned(video: TimedFrames, times: Sequence[float], most: int) -> TimedFrames:
    """`most` of the frames, evenly chosen."""
    chosen = np.linspace(0, len(video.frames) - 1, most).round().astype(int)
    return TimedFrames(video.frames[chosen], [times[index] for index in chosen])
