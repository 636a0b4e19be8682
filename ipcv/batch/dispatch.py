"""What is known about the videos of a batch before they are read: what there is to read, or what the cache has."""

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace

from ipcv.batch.plan import Plan, WorkItem
from ipcv.batch.prepared_clip import PreparedClip
from ipcv.batch.presets import second_try
from ipcv.encodings import fingerprint
from ipcv.encodings.cache import EncodingCache
from ipcv.encodings.encoded import Encoded
from ipcv.encodings.reuse import Cached
from ipcv.inference.model import Model
from ipcv.limits.budget import Limit, Share
from ipcv.limits.room import Room
from ipcv.media.clip import Clip
from ipcv.media.segments import Span
from ipcv.options import Options
from ipcv.readers.job import ClipRead, ReadJob

MAX_DOWNLOAD = 4 << 30  # bytes
ClipToEncode = tuple[Span, Clip | Encoded, Share]  # like `ClipRead`, but it may be encoded already


@dataclass(frozen=True, kw_only=True, eq=False)
class DispatchedVideo:
    """A video that is to be captioned."""

    options: Options
    job: ReadJob
    keep: Callable[[Encoded], None]  # into the cache, if there is one
    encoded: Encoded | None  # from there

    def clips(self, reading: Iterable[ClipRead] | None) -> Iterable[ClipToEncode]:
        """The video as the cache has it, or else as it is read."""
        if self.encoded is None or self.encoded.share is None:
            return reading or ()
        sampling, over = self.options.sampling, self.encoded.video.duration
        return [((sampling.start or 0.0, min(over, sampling.end or over)), self.encoded, self.encoded.share)]

    def piece(self, model: Model, given: ClipToEncode, make_room: Callable[[], bool]) -> PreparedClip:
        """One of its clips, with what it takes to read it again."""
        span, clip, share = given
        job = self.job
        if job.segments:
            job = replace(job, sampling=replace(job.sampling, start=span[0], end=span[1]), segments=None)

        def reread(room: Room) -> Generator[ClipRead, None, None]:
            measure = replace(job.measure, patches=room.patches)
            yield from replace(job, measure=measure, limit=room.limit).clips()

        return PreparedClip(
            model=model,
            options=self.options,
            video=job.video,
            clip=clip,
            share=share,
            room=Room(patches=job.measure.patches, limit=job.limit, frame_batch=job.frame_batch),
            reread=reread,
            make_room=make_room,
            keep=self.keep,
        )


class Dispatcher:
    """Looks videos up, for `model` and `plan`; encodings of whole videos are taken from `cache`.

    Raises `ValueError` if model and plan do not go together.
    """

    def __init__(self, model: Model, plan: Plan, cache: EncodingCache | None, max_download: int) -> None:
        self.model, self.plan, self.cache, self.max_download = model, plan, cache, max_download
        self.measure = model.measure(plan.options, model.check(plan.options, *plan.questions))
        self.identity = fingerprint.model(model.facts)
        self._limit = self._room(plan.questions)  # unless an item has a question of its own

    def look_up(self, work: WorkItem) -> DispatchedVideo:
        """What is known about one of them."""
        item, options = work.item, self.plan.settings(work.item)
        limit = self._room([item.question]) if item.question else self._limit
        job = ReadJob(
            video=item.video,
            sampling=options.sampling,
            segments=self.plan.segments,
            measure=self.measure,
            limit=limit,
            frame_batch=options.frame_batch,
            max_download=self.max_download,
        )
        if self.cache is None or work.content is None or self.plan.segments:
            return DispatchedVideo(options=options, job=job, keep=lambda _: None, encoded=None)
        cached = Cached(self.cache, self.identity, options, self.measure)
        return DispatchedVideo(
            options=options, job=job, keep=cached.keep, encoded=cached.load(item.video, limit, work.content)
        )

    def _room(self, questions: Sequence[str]) -> Limit:
        """What a prompt has room for, whichever of `questions` it asks, and that of a second try."""
        again = [second_try("")] if self.plan.structured else []
        return self.model.limit(self.plan.options, [*questions, *again])
