"""A job for a reader process: one video, opened as one clip or as one clip per segment."""

from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ipcv.errors import VideoError
from ipcv.limits.budget import Limit, Share
from ipcv.limits.measure import BudgetPlanner
from ipcv.media.clip import Clip
from ipcv.media.remote.access import Access
from ipcv.media.remote.copies import fetch, local_path, naming
from ipcv.media.sampling import Sampling
from ipcv.media.segments import Segments, Span
from ipcv.media.sources import choose_frames
from ipcv.media.video.probe import IndexedVideo, probe
from ipcv.readers.scratch import scratch_folder
from ipcv.text import shown

ClipRead = tuple[Span, Clip, Share]  # span of source time, frames, share of the budget
Message = tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class ReadJob:
    """One video to read."""

    video: str  # a path or a URL
    sampling: Sampling
    segments: Segments | None  # None: the whole video is one clip
    planner: BudgetPlanner  # how frames are cut into patches, and how many visual tokens there is room for
    limit: Limit  # of each clip's visual tokens
    frame_batch: int
    access: Access = field(default_factory=Access)  # how far a remote file may be followed

    def clips(self, scratch: Path | None = None) -> Generator[ClipRead, None, None]:
        """Open the clips one after the other. Raises `VideoError`, and `ValueError` if the limit is too low.

        A remote file is copied into a temporary folder (under `scratch` if given), which is removed at the end.
        """
        with self._local(scratch) as path:
            video = probe(path)
            video = replace(video, facts=replace(video.facts, path=self.video))
            for span in self._spans(video):
                sampling = self.sampling
                if self.segments:
                    sampling = replace(sampling, start=span[0], end=span[1])
                found = choose_frames(video, sampling, self.frame_batch, self.planner.patches.temporal_patch_size)
                clip, share = self.planner.read(found, self.limit)
                with clip:
                    yield span, clip, share

    def messages(self, scratch: Path) -> Iterator[Message]:
        """Messages for whoever started the reader process, for each clip.

        `("clip", span, facts, times, size, warnings, share)`, then `("frames", array)`, then
        `("closed", facts, warnings)`.
        """
        for span, clip, share in self.clips(scratch):
            yield "clip", span, clip.facts, clip.times, clip.size, clip.warnings, share
            for frames in clip:
                yield "frames", frames
            yield "closed", clip.facts, clip.warnings

    @contextmanager
    def _local(self, scratch: Path | None) -> Iterator[Path]:
        if (path := local_path(self.video, self.access)) is not None:
            yield path
            return
        with ExitStack() as stack:
            folder = scratch or stack.enter_context(scratch_folder())
            path = Path(stack.enter_context(TemporaryDirectory(prefix="video-", dir=folder))) / "video"
            fetch(self.video, path, self.access)
            with naming(self.video, path):
                yield path

    def _spans(self, video: IndexedVideo) -> Iterator[Span]:
        """Divide the video; parts that end before its first picture are left out."""
        start, since = self.sampling.start or 0.0, float(video.times[0])
        over = video.facts.duration
        if start >= over:
            raise VideoError(
                f"{shown(self.video)}: the clip would start at {start:g} s, but the video ends at {over:.3f} s"
            )
        end = min(over, self.sampling.end or over)
        if end <= since:
            raise VideoError(
                f"{shown(self.video)}: the clip would end at {end:g} s, but the first picture appears at {since:.3f} s"
            )
        if self.segments is None:
            return iter([(start, end)])
        return (span for span in self.segments.spans(video, start, end) if span[1] > since)
