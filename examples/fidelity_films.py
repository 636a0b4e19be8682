"""Clips of a fidelity measurement over time: real ones, and kinds that are drawn from these.

Drawn are a camera that stands still, a talk's slides, a screen on which someone types, and a film of hard cuts. Each is
a function from pictures `[frames, side, side, 3]` uint8 to others.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ipcv.media.clip import open_video
from ipcv.media.sampling import Sampling

NOISE = 2.0  # levels of 255, of a sensor
LINES = (
    "The encoder attends to every patch",
    "A patch that did not change is reused",
    "Its keys are those of the last time",
    "Small numbers are read to the letter",
)


def pictures(path: Path, frames: int, rate: float, side: int) -> Tensor:
    """So many frames of a clip at `rate` per second, squeezed to a square; there and back if it is shorter."""
    sampling = Sampling(fps=rate, max_frames=frames, end=frames / rate)
    with open_video(path, sampling, resize=lambda *_: (side, side), frame_batch=frames, multiple=1) as clip:
        found = torch.cat([torch.from_numpy(batch) for batch in clip])
    order = [*range(len(found)), *range(len(found) - 2, 0, -1)]
    return found[[order[number % len(order)] for number in range(frames)]]


def still_camera(film: Tensor) -> Tensor:
    """The first frame stands still under noise; in a quarter of it the film goes on, half as large."""
    noise = torch.Generator().manual_seed(0)
    side = film.shape[1]
    small = film[:, ::2, ::2]
    room = slice(side // 2, side // 2 + small.shape[1] // 2)
    drawn = film[:1].repeat(len(film), 1, 1, 1).float()
    drawn[:, room, room] = small[:, : small.shape[1] // 2, : small.shape[1] // 2].float()
    drawn += NOISE * torch.randn(drawn.shape, generator=noise)
    return drawn.round().clamp(0, 255).to(torch.uint8)


def slides(film: Tensor) -> Tensor:
    """Pages with a heading, lines that appear one by one, a picture and a page number; a quarter of the time each."""
    count, side = film.shape[:2]
    return torch.stack([_slide(number, count, film[number * 4 // count * count // 4], side) for number in range(count)])


def _slide(number: int, count: int, picture: Tensor, side: int) -> Tensor:
    page, within = divmod(number * 4, count)
    image = Image.new("RGB", (side, side), (250, 250, 247))
    draw, text = ImageDraw.Draw(image), ImageFont.load_default(side / 24)
    draw.rectangle((0, 0, side, side // 8), fill=(32, 60, 110))
    draw.text(
        (side // 30, side // 30),
        f"{page + 1}. Frames and patches",
        fill="white",
        font=ImageFont.load_default(side / 16),
    )
    for line in range(1 + within * 3 // count):
        draw.text((side // 20, side * (3 + line) // 15), LINES[(line + page) % 4], fill=(20, 20, 20), font=text)
    if page:
        image.paste(Image.fromarray(picture.numpy()).resize((side // 3, side // 3)), (side * 3 // 5, side * 3 // 5))
    draw.text((side * 9 // 10, side * 15 // 16), f"{page + 1}/4", fill=(90, 90, 90), font=text)
    return torch.from_numpy(np.array(image))


def typing(film: Tensor) -> Tensor:
    """A dark screen: text that grows by some letters a frame, a clock, and a cursor that moves now and then."""
    count, side = film.shape[:2]
    return torch.stack([_screen(number, side) for number in range(count)])


def _screen(number: int, side: int) -> Tensor:
    image = Image.new("RGB", (side, side), (30, 32, 38))
    draw, text = ImageDraw.Draw(image), ImageFont.load_default(side / 28)
    draw.rectangle((0, 0, side, side // 14), fill=(60, 63, 70))
    draw.text((side * 4 // 5, side // 90), f"12:{number // 60:02d}:{number % 60:02d}", fill="white", font=text)
    typed, width = (" ".join(LINES) * 8)[: 20 + 5 * number], 36
    for row, start in enumerate(range(0, len(typed), width)):
        draw.text((side // 40, side * (2 + row) // 18), typed[start : start + width], fill=(205, 210, 200), font=text)
    x, y = side // 2 + number // 4 * 7, side * 3 // 4
    draw.polygon([(x, y), (x, y + side // 22), (x + side // 34, y + side // 30)], fill="white")
    return torch.from_numpy(np.array(image))


def hard_cuts(films: Sequence[Tensor]) -> Tensor:
    """Two frames of each film in turn."""
    return torch.stack([films[number // 2 % len(films)][number] for number in range(len(films[0]))])


DRAWN: dict[str, Callable[[Tensor], Tensor]] = {"still camera": still_camera, "slides": slides, "typing": typing}


def films_of(paths: Sequence[Path], frames: int, rate: float, side: int, *, drawn: bool) -> dict[str, Tensor]:
    """Pictures of each clip by its name; with `drawn`, those made of them as well."""
    films = {path.stem: pictures(path, frames, rate, side) for path in paths}
    if not drawn:
        return films
    real = list(films.values())
    more = {name: draw(real[number % len(real)]) for number, (name, draw) in enumerate(DRAWN.items(), 1)}
    return films | more | {"hard cuts": hard_cuts(real)}
