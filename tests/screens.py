"""Drawn screen recordings: text pages on which a little changes at a time."""

from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
from films import film
from PIL import Image, ImageDraw, ImageFont

FRAMES = 12
SENTENCE = "the patch of a slice is computed where a letter has changed and kept from before where all stands still"
ARROW = [(0, 0), (0, 15), (4, 11), (7, 17), (9, 16), (6, 10), (11, 10)]
PALE, PAPER = (150, 150, 158), (236, 236, 240)  # a contrast of a third


class Screen:
    """One picture under way."""

    def __init__(self, height: int, width: int, paper: tuple[int, int, int] = (255, 255, 255)) -> None:
        self.image = Image.new("RGB", (width, height), paper)
        self.draw = ImageDraw.Draw(self.image)
        self.height, self.width = height, width

    def text(self, left: int, top: int, words: str, size: int = 12, ink: tuple[int, int, int] = (20, 20, 20)) -> None:
        self.draw.text((left, top), words, ink, ImageFont.load_default(size))

    def page(self, seed: int, size: int = 11, ink: tuple[int, int, int] = (40, 40, 40), top: int = 40) -> None:
        """Lines of words down to the end."""
        random = np.random.default_rng(seed)
        for line in range(top, self.height - size, round(1.6 * size)):
            self.text(12, line, " ".join(random.choice(SENTENCE.split(), 7)), size, ink)

    def pixels(self) -> np.ndarray:
        return np.asarray(self.image)


def cursor(height: int, width: int) -> Iterator[np.ndarray]:
    """An arrow moves over a page; in the end it stands still."""
    for number in range(FRAMES):
        screen = Screen(height, width)
        screen.page(1)
        step = min(number, FRAMES - 4)
        screen.draw.polygon([(30 + 17 * step + x, 50 + 11 * step + y) for x, y in ARROW], "black", "white")
        yield screen.pixels()


def typing(height: int, width: int) -> Iterator[np.ndarray]:
    """Letters appear one by one in a line of 13 pixels; a caret goes ahead of them."""
    text = "Answer: forty-two"
    for number in range(FRAMES):
        screen = Screen(height, width)
        screen.page(2, top=80)
        screen.text(14, 45, text[: 3 + number] + "|", 13)
        yield screen.pixels()


def clock(height: int, width: int) -> Iterator[np.ndarray]:
    """Seconds of 10 pixels tick in the corner of a dark screen."""
    for number in range(FRAMES):
        screen = Screen(height, width, (24, 26, 32))
        screen.page(3, ink=(200, 200, 200))
        screen.text(
            width - 60, 8, f"12:59:{54 + number:02}" if number < 6 else f"13:00:{number - 6:02}", 10, (235,) * 3
        )
        yield screen.pixels()


def pages(height: int, width: int) -> Iterator[np.ndarray]:
    """A page is turned after every fourth frame, and its number with it."""
    for number in range(FRAMES):
        screen = Screen(height, width)
        screen.page(10 + number // 4, 13)
        screen.text(width // 2, 10, f"{11 + number // 4} / 30", 12)
        yield screen.pixels()


def score(height: int, width: int) -> Iterator[np.ndarray]:
    """Over a green field with grain, one digit of the score changes now and then, and no more."""
    grain = np.random.default_rng(4).integers(-12, 13, (height, width, 1))
    field = np.clip(np.array([60, 140, 70]) + grain, 0, 255).astype(np.uint8)
    for number in range(FRAMES):
        screen = Screen(height, width)
        screen.image.paste(Image.fromarray(field))
        screen.draw.rectangle((10, 8, 130, 30), (12, 12, 60))
        screen.text(16, 11, f"HOME {number // 3} : {8 - number // 5} AWAY", 14, (255, 255, 255))
        yield screen.pixels()


def pale(height: int, width: int) -> Iterator[np.ndarray]:
    """A number of 12 pixels counts in grey on grey."""
    for number in range(FRAMES):
        screen = Screen(height, width, PAPER)
        screen.page(5, ink=PALE)
        screen.text(20, 14, f"Step {7 * number % 10} of 9", 12, PALE)
        yield screen.pixels()


SCREENS: dict[str, Callable[[int, int], Iterator[np.ndarray]]] = {
    each.__name__: each for each in (cursor, typing, clock, pages, score, pale)
}


def drawn(name: str, height: int, width: int) -> np.ndarray:
    """The frames `[n, height, width, 3]` as they were drawn."""
    return np.stack(list(SCREENS[name](height, width)))


def recorded(frames: np.ndarray, folder: Path) -> np.ndarray:
    """The same frames through H.264, with what it makes of letters and of what stands still."""
    times = [number / 2 for number in range(len(frames))]
    path = film(folder / "screen.mp4", times=times, pictures=list(frames), key_every=5)
    with av.open(path) as clip:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in clip.decode(video=0)])


def changed_ink(frames: np.ndarray, step: int, side: int) -> np.ndarray:
    """How much of a slice's patches was drawn anew `[slices, rows, columns]`, in pixels from black to white.

    A slice is `step` frames; each is compared with the frame of the slice before; the most of them counts.
    """
    slices = frames.reshape(-1, step, *frames.shape[1:]).astype(float) / 255
    difference = np.abs(np.diff(slices, axis=0, prepend=slices[:1])).mean(-1).max(1)
    count, height, width = difference.shape
    return difference.reshape(count, height // side, side, width // side, side).sum((2, 4))
