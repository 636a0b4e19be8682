"""The colours of an ordinary screen (sRGB) for pictures made for another: HDR (PQ, HLG) and wide gamut.

Light is counted in multiples of reference white, 203 cd/m² (ITU-R BT.2408), which is 1. HDR is mapped by one curve:
light `x` up to 0.7 stays as it is, and above becomes `0.7 + 0.3 u / (1 + u)` where `u = (x - 0.7) / 0.3`. Reference
white comes out at 0.85, which is 237 of 255. The brightest of red, green and blue decides, so that hues stay.
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from ipcv.media.frames import DynamicRange, FrameArray

Gamut = Literal["bt709", "bt2020", "p3"]
Light = NDArray[np.float32]

WHITE = 203.0  # cd/m²
HLG_PEAK = 1000.0  # cd/m²: the screen that HLG is shown on, with the system gamma 1.2 that belongs to it
KNEE = 0.7
_TRANSFERS: dict[int, DynamicRange] = {16: "pq", 18: "hlg"}  # numbers of ITU-T H.273
_GAMUTS: dict[int, Gamut] = {9: "bt2020", 11: "p3", 12: "p3"}
_UNKNOWN, _BT2020_MATRIX = 2, 9
_D65 = (0.3127, 0.3290)
_PRIMARIES: dict[Gamut, tuple[tuple[float, float], ...]] = {  # chromaticities of red, green and blue
    "bt709": ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06)),
    "bt2020": ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    "p3": ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}


@dataclass(frozen=True)
class Colors:
    """The colours that a picture's numbers stand for, where an ordinary screen would show others."""

    dynamic_range: DynamicRange
    gamut: Gamut
    matrix: int | None = None  # from YUV to RGB, where the pictures themselves do not say (a number of H.273)

    def for_screen(self, picture: NDArray[np.uint16]) -> FrameArray:
        """Convert a picture (RGB, 16 bits) to sRGB of 8 bits, with HDR mapped to its range."""
        light = _light(self.dynamic_range)[picture]
        if self.dynamic_range == "hlg":  # light of the scene so far; now of the screen that shows it (BT.2100)
            light *= (light @ _to_xyz(self.gamut)[1])[..., None] ** 0.2
            light *= HLG_PEAK / WHITE
        light = np.maximum(light @ (np.linalg.inv(_to_xyz("bt709")) @ _to_xyz(self.gamut)).T.astype(np.float32), 0)
        if self.dynamic_range != "sdr":
            brightest = np.maximum(light.max(axis=-1, keepdims=True), KNEE)
            light *= _rolled_off(brightest) / brightest
        return _codes()[np.rint(np.minimum(light, 1) * 65535).astype(np.uint16)]


@dataclass(frozen=True)
class ColorTags:
    """The colours that a container or a picture names, in numbers of ITU-T H.273."""

    transfer: int
    primaries: int
    matrix: int


def tags(source: VideoCodecContext | VideoFrame) -> ColorTags:
    """The tags of a decoded picture; or of a container, from a decoder that has not been used and overwritten them."""
    return ColorTags(source.color_trc, source.color_primaries, source.colorspace)


def colors(picture: ColorTags, container: ColorTags) -> Colors | None:
    """The colours to convert from, by the tags of pictures, else of their container. None where they are plain."""
    transfer = container.transfer if picture.transfer == _UNKNOWN else picture.transfer
    primaries = container.primaries if picture.primaries == _UNKNOWN else picture.primaries
    dynamic_range = _TRANSFERS.get(transfer, "sdr")
    default: Gamut = "bt709" if dynamic_range == "sdr" or primaries != _UNKNOWN else "bt2020"
    gamut = _GAMUTS.get(primaries, default)
    if (dynamic_range, gamut) == ("sdr", "bt709"):
        return None
    matrix = _BT2020_MATRIX if container.matrix == _UNKNOWN and gamut == "bt2020" else container.matrix
    return Colors(dynamic_range, gamut, matrix if picture.matrix == _UNKNOWN else None)


def _rolled_off(light: Light) -> Light:
    above = (light - KNEE) / (1 - KNEE)
    return (KNEE + (1 - KNEE) * above / (1 + above)).astype(np.float32)


@cache
def _light(dynamic_range: DynamicRange) -> Light:
    """The light that each of the 65,536 codes stands for."""
    code = np.arange(65536) / 65535
    if dynamic_range == "pq":  # SMPTE ST 2084
        root = code ** (1 / 78.84375)
        light = (
            10000 / WHITE * (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (1 / 0.1593017578125)
        )
    elif dynamic_range == "hlg":  # ITU-R BT.2100
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)
    else:
        light = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)
    return light.astype(np.float32)


@cache
def _codes() -> FrameArray:
    """The sRGB code of each of 65,536 steps of light."""
    light = np.arange(65536) / 65535
    code = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.rint(255 * code).astype(np.uint8)


@cache
def _to_xyz(gamut: Gamut) -> Light:
    """The matrix from red, green and blue light to XYZ."""
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in (*_PRIMARIES[gamut], _D65)]).T
    return (columns[:, :3] * np.linalg.solve(columns[:, :3], columns[:, 3])).astype(np.float32)
