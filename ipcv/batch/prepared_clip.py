"""One clip of a batch on its way into prompts, encoded once; where memory runs out, again with less of it."""

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, field, replace

from ipcv.batch.plan import Cause, FailedStage
from ipcv.encodings.encoded import Encoded
from ipcv.errors import OUT_OF_MEMORY, MemoryExhaustedError, is_about_memory, memory_errors
from ipcv.inference.generate import Decoding
from ipcv.inference.model import Model
from ipcv.inference.pipeline import Pipeline
from ipcv.limits.budget import Budget, Share, explain
from ipcv.limits.room import Room
from ipcv.media.clip import Clip
from ipcv.media.frames import FrameSize
from ipcv.options import Options
from ipcv.readers.job import ClipRead


@dataclass(kw_only=True, eq=False)
class PreparedClip:
    """A clip, and what is made of it."""

    model: Model
    options: Options
    video: str  # what it is of, as answers have it
    clip: Clip | Encoded | None  # None: it has been used up, and is opened anew if it is wanted again
    share: Share  # of the budget
    room: Room
    reread: Callable[[Room], Generator[ClipRead, None, None]]  # the same clip, opened where there is so much room
    make_room: Callable[[], bool]  # lets go of whatever else holds memory; whether there was anything
    keep: Callable[[Encoded], None]  # gets what has been encoded as the settings ask for it
    encoded: Encoded | None = None
    stage: FailedStage = "encode"  # how far it came
    shortages: list[str] = field(default_factory=list)  # what was done because memory ran out
    size: FrameSize = (0, 0)  # height and width of the frames that were encoded last

    @property
    def budget(self) -> Budget:
        """Of visual tokens, in each of its prompts."""
        return Budget.of(self.room.limit, [self.share])

    def lowered(self) -> tuple[tuple[Cause, str], ...]:
        """What there is less of than was asked for, and why, as warnings."""
        told: list[tuple[Cause, str]] = [("memory", message) for message in self.shortages]
        return (*told, *(("budget", message) for message in explain(self.budget, [("", self.share)])))

    def prompted(self, question: str) -> tuple[Pipeline, Encoded, Decoding]:
        """The question with the encoded clip in the language model's cache.

        Raises `MemoryExhaustedError` where memory is too little for the least that there can be.
        """
        while True:
            run = Pipeline(self.model.loaded, self.room.patches, self.options)
            try:
                self.encoded = self.encoded or self.encode()
                self.stage = "generate"
                return run, self.encoded, prefilled(run, self.encoded, question)
            except Exception as error:
                if not is_about_memory(error) or not self.find_room(run.work.visual):
                    raise
            del run  # not within `except`: what failed is held by its traceback

    def find_room(self, visual: int) -> bool:
        """Whether to try again: with what others held, or else with less of what was too much.

        `visual` tokens were in the prompt, if it came to that.
        """
        if self.make_room():
            return True
        less = self.room.fewer_tokens(visual) if self.encoded else self.room.fewer_pixels(self.size)
        if less:
            self.room, message = less
            self.shortages.append(message)
            self.encoded = None
        return less is not None

    def encode(self) -> Encoded:
        """The clip through the encoder, opened again if it has to be."""
        clip, self.clip = self.clip, None
        if clip:
            return clip if isinstance(clip, Encoded) else self.encoded_from(clip)
        try:
            with closing(self.reread(self.room)) as clips:
                _, clip, self.share = next(clips)
                return self.encoded_from(clip)
        except ValueError as error:
            if not self.room.tries:
                raise
            raise MemoryExhaustedError(OUT_OF_MEMORY) from error  # there is no room for the least that there can be

    def encoded_from(self, clip: Clip) -> Encoded:
        """The clip through the encoder."""
        run, self.size = Pipeline(self.model.loaded, self.room.patches, self.options), clip.size
        run.frames.batch = self.room.frame_batch
        try:
            with memory_errors(OUT_OF_MEMORY):
                for _ in run.encode(clip, self.share):
                    pass
        finally:
            self.shortages += run.frames.warnings
            self.room = replace(self.room, frame_batch=run.frames.batch)
        encoded = replace(run.parts[0], video=replace(run.parts[0].video, path=self.video))
        if not self.shortages:
            self.keep(encoded)
        return encoded


def prefilled(run: Pipeline, encoded: Encoded, question: str) -> Decoding:
    """The question with `encoded` in the language model's cache."""
    run.take(encoded)
    with memory_errors(OUT_OF_MEMORY), run.pruned():
        return run.prefill(run.prompt(question))
