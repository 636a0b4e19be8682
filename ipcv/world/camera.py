"""The camera that films a scene. Imports no numpy, so that the command line can name the cameras."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

CameraKind = Literal["still", "moving"]
CAMERAS: tuple[CameraKind, ...] = get_args(CameraKind)


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A camera that pans and shakes, which shifts everything in the frame, or that does neither and stands still."""

    pan: tuple[float, float]  # per second
    shake: float  # largest shift
    frequencies: tuple[float, float]  # of the shaking, per second, along each axis
    phases: tuple[float, float]
    noise: float = 0.0  # standard deviation of a pixel's noise, of 255

    @property
    def kind(self) -> CameraKind:
        """Whether it moves."""
        return "moving" if any(self.pan) or self.shake else "still"

    def at(self, time: float) -> tuple[float, float]:
        """The shift at `time` seconds."""
        x, y = (
            pan * time + self.shake * math.sin(2 * math.pi * (frequency * time + phase))
            for pan, frequency, phase in zip(self.pan, self.frequencies, self.phases, strict=True)
        )
        return x, y
