"""Where memory runs out, the work starts again with less of what took too much."""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from ipcv.answer import Warned
from ipcv.architecture.preprocess import FrameSettings
from ipcv.errors import OUT_OF_MEMORY, MemoryExhaustedError, is_about_memory
from ipcv.limits.budget import Limit
from ipcv.media.frames import FrameSize

Event = TypeVar("Event")
Result = TypeVar("Result")
TRIES = 5  # starts with less before it is given up


class ShortageError(Exception):
    """Memory ran out in a stage that can be given less; `attempts` starts again, or gives up."""

    def __init__(self, *, frame_batch: int, size: FrameSize | None = None, visual: int = 0) -> None:
        super().__init__(OUT_OF_MEMORY)
        self.frame_batch = frame_batch  # frames encoded at a time, in the end
        self.size = size  # height and width of the frames that could not be encoded; None: all were
        self.visual = visual  # tokens in the prompt that the language model could not hold


@contextmanager
def shortages(shortage: Callable[[], ShortageError]) -> Iterator[None]:
    """Turn whatever says that memory ran out into what `shortage` returns; every other error passes."""
    try:
        yield
    except Exception as error:
        if isinstance(error, ShortageError) or not is_about_memory(error):
            raise
        raise shortage() from error


@contextmanager
def no_other_try() -> Iterator[None]:
    """Turn a `ShortageError` into a `MemoryExhaustedError`, where the work cannot start again with less."""
    try:
        yield
    except ShortageError as error:
        raise MemoryExhaustedError(OUT_OF_MEMORY) from error


@dataclass(frozen=True, kw_only=True)
class Room:
    """How much of each video one attempt may use."""

    patches: FrameSettings  # with the pixels that a frame may have
    limit: Limit  # of visual tokens
    frame_batch: int  # frames encoded at a time; the encoder halves them by itself before it gives up
    tries: int = 0  # starts with less so far

    def less(self, shortage: ShortageError) -> tuple["Room", str] | None:
        """Half of what took too much, and a warning that says so; None: there is nothing to halve, or no try left."""
        if self.tries == TRIES:
            return None
        room = replace(self, frame_batch=shortage.frame_batch, tries=self.tries + 1)
        if shortage.size is None:
            return room._fewer_tokens(shortage.visual)
        return room._fewer_pixels(shortage.size)

    def _fewer_tokens(self, visual: int) -> tuple["Room", str] | None:
        half = visual // 2
        if not half:
            return None
        message = f"memory ran out with {visual:,} visual tokens: starting again with {half:,} at most"
        return replace(self, limit=replace(self.limit, visual=half, source="memory")), message

    def _fewer_pixels(self, size: FrameSize) -> tuple["Room", str] | None:
        height, width = size
        half = height * width // 2
        if half < max(self.patches.min_pixels, self.patches.factor**2):
            return None
        message = (
            f"memory ran out with {self.frame_batch} frames of {width} x {height} pixels: starting again with "
            f"{half:,} pixels a frame at most"
        )
        return replace(self, patches=self.patches.limited(half)), message


def attempts(
    room: Room, attempt: Callable[[Room], Generator[Event, None, Result]]
) -> Generator[Event | Warned, None, Result]:
    """Run `attempt`, and again with less room where memory runs out, each time after a warning.

    Yields what the attempts yield; returns what the one that succeeds returns. Raises `MemoryExhaustedError` where
    memory is too little for the least that there can be.
    """
    while True:
        try:
            return (yield from attempt(room))
        except ShortageError as shortage:
            less = room.less(shortage)
            if less is None:
                raise MemoryExhaustedError(OUT_OF_MEMORY) from shortage
        except ValueError as error:
            if not room.tries:
                raise
            raise MemoryExhaustedError(OUT_OF_MEMORY) from error  # so little is too little for the options
        room, message = less  # outside of `except`: the traceback there holds what did not fit
        yield Warned(message=message)


def gathered(work: Generator[Event, None, Result]) -> tuple[list[Event], Result]:
    """All that `work` yields, and what it returns."""
    events = []
    while True:
        try:
            events.append(next(work))
        except StopIteration as end:
            return events, end.value


def returned(work: Generator[Any, None, Result]) -> Result:
    """The value that `work` returns; all that it yields is dropped."""
    return gathered(work)[1]
