"""One clip of a batch on its way into prompts: encoded once for all questions, anew where memory runs out."""

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, field, replace

from ipcv.answer import FrameBatch, Warned
from ipcv.batch.plan import Cause, FailedStage
from ipcv.encodings.encoded import Encoded
from ipcv.encodings.reuse import Reuse
from ipcv.inference.clock import Clock
from ipcv.inference.pipeline import Pipeline, Prefilled
from ipcv.inference.retry import Room
from ipcv.limits.budget import Budget, Share, explain
from ipcv.media.clip import Clip
from ipcv.media.segments import Span
from ipcv.readers.job import ReadJob

Encoding = Generator[FrameBatch | Warned, None, Encoded]


@dataclass(kw_only=True, eq=False)
class PreparedClip:
    """A clip, the room that there is for it, and its encoding."""

    pipeline: Pipeline
    job: ReadJob  # opens this clip alone, once more
    span: Span  # seconds of source time
    clip: Clip | Encoded | None  # None: used up, and opened anew if it is wanted again
    share: Share  # of the budget
    room: Room
    reuse: Reuse | None  # the cache, if the encoding goes there
    encoded: Encoded | None = None
    stage: FailedStage = "encode"  # how far it came
    shortages: list[str] = field(default_factory=list)  # warnings of what was done because memory ran out

    @property
    def budget(self) -> Budget:
        """The budget of visual tokens in each of its prompts."""
        return Budget.of(self.room.limit, [self.share])

    def lowered(self) -> tuple[tuple[Cause, str], ...]:
        """Warnings that there is less of the clip than was asked for, each with its cause."""
        memory: list[tuple[Cause, str]] = [("memory", message) for message in self.shortages]
        return (*memory, *(("budget", message) for message in explain(self.budget, [("", self.share)])))

    def prefill(self, question: str, room: Room) -> Generator[FrameBatch | Warned, None, tuple[Prefilled, Clock]]:
        """Put the question into a cache of its own; encode the clip before unless it is encoded in this `room`.

        Yields the events of encoding. Raises `ShortageError`, and errors of reading.
        """
        if room != self.room:
            self.room, self.encoded = room, None
        if self.encoded is None:
            self.encoded = yield from self._encode()
        self.stage = "generate"
        clock = self.pipeline.clock()
        clock.add(self.encoded.seconds)
        with self.pipeline.pruned():
            return self.pipeline.prefill([self.encoded], question, clock), clock

    def _encode(self) -> Encoding:
        clip, self.clip = self.clip, None
        if isinstance(clip, Encoded):
            return replace(clip, reused=False)  # a line of captions says how its video was encoded, whenever that was
        if clip is not None:
            return (yield from self._encode_opened(clip))
        planner = replace(self.job.planner, patches=self.room.patches)
        with closing(replace(self.job, planner=planner, limit=self.room.limit).clips()) as clips:
            _, clip, self.share = next(clips)
            return (yield from self._encode_opened(clip))

    def _encode_opened(self, clip: Clip) -> Encoding:
        encoded = yield from self.pipeline.encode(
            clip, self.pipeline.clock(), share=self.share, frame_batch=self.room.frame_batch
        )
        encoded = replace(encoded, video=replace(encoded.video, path=self.job.video))
        if self.reuse and not self.room.tries:
            self.reuse.keep(encoded)
        self.room = replace(self.room, frame_batch=encoded.frame_batch)
        return encoded
