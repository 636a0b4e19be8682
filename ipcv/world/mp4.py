"""Writing a clip of the demo world as an mp4 file."""

from fractions import Fraction
from pathlib import Path

from ipcv.world.scene import SceneClip

FILE_FPS = 16.0  # frames per second of a file


def write_clip(path: Path | str, clip: SceneClip) -> None:
    """Write evenly spaced frames as an H.264 mp4 file at their own rate. It is yuv420p, so their side has to be even.

    Raises `ValueError` for a single frame, which has no rate.
    """
    import av  # only this function needs it

    if len(clip.times) < 2:
        raise ValueError("a clip of one frame has no frame rate: render two or more")
    rate = Fraction(1 / (clip.times[1] - clip.times[0])).limit_denominator(1000)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "20"})
        stream.height, stream.width = clip.frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1  # so that the same clip is the same file on every machine
        for frame in clip.frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
