"""Videos, images and frames in memory that a question is about: found, then their frames chosen, then read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ipcv.media.clip import Clip, Resize, clip_from_frames, clip_from_image, open_chosen
from ipcv.media.frames import FrameArray, MediaKind, VideoFacts
from ipcv.media.images import is_image, read_image
from ipcv.media.sampling import Choice, Sampling, choose
from ipcv.media.video.probe import IndexedVideo, probe


@dataclass(frozen=True, eq=False)
class TimedFrames:
    """A video that is in memory already; all of its frames are used."""

    frames: np.ndarray  # uint8 RGB [n, height, width, 3]
    times: Sequence[float] | None = None  # when each is shown, in seconds, ascending; None: two per second


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
