"""Calibrate what `quality` expects: the factor of `expected_fidelity`, on DINOv2-small's trained weights and clips.

Every clip is encoded with several shares of its tokens kept, with and without reuse over time. The factor is fitted by
least squares, once for all clips and once without each: the second says how wrong the estimate is for a clip that it
has not seen. Needs the extra: pip install -c constraints.txt '.[fidelity]'. Clips are those of fidelity_video.py.

Example: python examples/calibrate_quality.py
Example: python examples/calibrate_quality.py --clips street.mp4 talk.mp4 film.mp4
"""

import argparse
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
from fidelity import scores
from fidelity_clips import MEAN, SPREAD, load_checked, sample_clips
from fidelity_films import films_of
from torch import Tensor

from ipcv import IPCV
from ipcv.compression.compressors.tensors.selection import LOSS

QUALITIES = (0.90, 0.96, 0.98)  # each keeps another share of the tokens


@dataclass(frozen=True)
class Trial:
    """One pass over a clip: the loss of fidelity that was expected with today's factor, and the loss measured."""

    clip: str
    expected: float
    measured: float


def trials(model: Any, films: dict[str, Tensor]) -> Iterator[Trial]:
    """Every clip at every quality, with reuse and without."""
    for name, pixels in films.items():
        plain = model(pixels).last_hidden_state
        for quality, changes in product(QUALITIES, ({}, {"reuse": 0})):
            with IPCV(quality=quality, **changes)(model, video=True) as kept:
                found = model(pixels).last_hidden_state
            yield Trial(name, 1 - kept.quality[0], 1 - scores(plain, found)["patch_cosine"])


def factor(found: Sequence[Trial]) -> float:
    """The factor of least squared error, if that in force is `LOSS`."""
    both = sum(each.expected * each.measured for each in found)
    return LOSS * both / sum(each.expected**2 for each in found)


def errors(found: Sequence[Trial]) -> dict[str, float]:
    """For each clip the mean error of the estimate whose factor was fitted to all others."""
    by_clip = {}
    for name in dict.fromkeys(each.clip for each in found):
        fitted = factor([each for each in found if each.clip != name]) / LOSS
        wrong = (abs(fitted * each.expected - each.measured) for each in found if each.clip == name)
        by_clip[name] = statistics.mean(wrong)
    return by_clip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, nargs="+", metavar="FILE", help="videos, instead of the default ones")
    parser.add_argument("--frames", type=int, default=16, help="of each clip (default: 16)")
    parser.add_argument("--side", type=int, default=336, help="of the square frames, in pixels (default: 336)")
    args = parser.parse_args()
    taken = films_of(args.clips or sample_clips(), args.frames, 2.0, args.side, drawn=not args.clips)
    films = {name: (each.permute(0, 3, 1, 2) / 255 - MEAN) / SPREAD for name, each in taken.items()}
    with torch.inference_mode():
        model, _ = load_checked(torch.nn.functional.interpolate(next(iter(films.values()))[:1], (224, 224)))
        found = list(trials(model, films))
    print(f"factor {factor(found):.4f}, in force {LOSS}")
    for name, error in errors(found).items():
        print(f"  {name}: mean error {error:.4f} where the fit has not seen this clip")
    print(f"mean of the clips: {statistics.mean(errors(found).values()):.4f}")


if __name__ == "__main__":
    main()
