"""What can be asked about: files, images, frames in memory; found first, and read once it is known how."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ipcv.media.clip import Clip, Resize, clip_from_frames, clip_from_image, open_video
from ipcv.media.frames import MediaKind
from ipcv.media.images import is_image, read_image
from ipcv.media.probe import IndexedVideo, probe
from ipcv.media.sampling import Sampling, choose


@dataclass(frozen=True, eq=False)
class TimedFrames:
    """A video that is in memory already; all of its frames are used."""

    frames: np.ndarray  # uint8 RGB [n, height, width, 3]
    times: Sequence[float] | None = None  # when each is shown, in seconds, ascending; None: two per second


Source = str | Path | TimedFrames | Clip  # a clip is open already


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """A video or image that is there; of a file no more than its first frame has been decoded."""

    name: str  # of its file, "" if there is none
    kind: MediaKind
    times: Sequence[float]  # of the frames that the settings ask for, in seconds
    height: int  # as displayed
    width: int
    read: Callable[[Resize, int], Clip]  # the size of the frames, and at most how many there are -> the frames


def check(path: str | Path) -> None:
    """Raise `VideoError` unless the file can be read."""
    read_image(path) if is_image(path) else probe(path)


def find(source: str | Path | TimedFrames, sampling: Sampling, frame_batch: int, multiple: int) -> Found:
    """What there is to see in `source`: frames by `sampling`, to be handed out in batches of `frame_batch`.

    Raises `VideoError` if it cannot be read, `TypeError` for what is no video.
    """
    if isinstance(source, str | Path):
        return _image(source, multiple) if is_image(source) else find_in(probe(source), sampling, frame_batch, multiple)
    if not isinstance(source, TimedFrames):
        raise TypeError(f"a video is a path or ipcv.TimedFrames, not {type(source).__name__}")
    clip = clip_from_frames(source.frames, source.times, frame_batch=frame_batch, multiple=multiple)

    def read(resize: Resize, most: int) -> Clip:
        video = source if most >= len(clip.times) else _thinned(source, clip.times, most)
        return clip_from_frames(video.frames, video.times, resize=resize, frame_batch=frame_batch, multiple=multiple)

    return Found(name="", kind="video", times=clip.times, height=clip.size[0], width=clip.size[1], read=read)


def find_in(video: IndexedVideo, sampling: Sampling, frame_batch: int, multiple: int) -> Found:
    """The same in a file that is probed already."""
    choice = choose(video.times.tolist(), sampling, duration=video.facts.duration, multiple=multiple)

    def read(resize: Resize, most: int) -> Clip:
        fewer = replace(sampling, max_frames=min(sampling.max_frames, most))
        return open_video(video, fewer, resize=resize, frame_batch=frame_batch, multiple=multiple)

    return Found(
        name=video.facts.path,
        kind="video",
        times=video.times[list(choice.positions)].tolist(),
        height=video.facts.height,
        width=video.facts.width,
        read=read,
    )


def _image(path: str | Path, multiple: int) -> Found:
    picture, facts, warnings = read_image(path)

    def read(resize: Resize, _: int) -> Clip:
        return clip_from_image(picture, facts, resize=resize, multiple=multiple, warnings=warnings)

    return Found(
        name=str(path), kind="image", times=(0.0,) * multiple, height=facts.height, width=facts.width, read=read
    )


def _thinned(video: TimedFrames, times: Sequence[float], most: int) -> TimedFrames:
    """`most` of the frames, evenly chosen."""
    chosen = np.linspace(0, len(video.frames) - 1, most).round().astype(int)
    return TimedFrames(video.frames[chosen], [times[index] for index in chosen])
