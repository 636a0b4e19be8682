"""Measure the peak memory of reading and encoding by the number of frames, each in a process of its own.

Example: python examples/memory.py --frames 64 512

The video is made on the spot: H.264, 30 frames per second, as long as the largest count needs. Only the visual
embeddings may grow with the frames, and the table says how large they are.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import av
import numpy as np
import torch

import ipcv
from ipcv.inference.pipeline import Pipeline
from ipcv.inference.retry import returned
from ipcv.media.clip import open_video

FPS = 8  # sampled per second


def write_video(path: Path, seconds: int, height: int, width: int) -> None:
    """Moving noise, so that neither the codec nor the reader has it easy."""
    noise = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "ultrafast"})
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for index in range(seconds * 30):
            frame = np.roll(noise, 3 * index, axis=1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


@torch.no_grad()
def peak(path: str, frames: int, model: str, max_pixels: int | None) -> dict[str, float]:
    """MiB resident at most before and after encoding `frames` frames, and MiB of their embeddings."""
    loaded = ipcv.load(model).loaded
    patches = loaded.patches if max_pixels is None else loaded.patches.limited(max_pixels)
    options = ipcv.Options(sampling=ipcv.Sampling(fps=FPS, max_frames=frames))
    pipeline = Pipeline(loaded, options)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    clip = open_video(path, options.sampling, resize=patches.resize, frame_batch=options.frame_batch)
    encoded = returned(pipeline.encode(clip, pipeline.clock()))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    size = encoded.visual.tokens.nbytes / 2**20
    return {"frames": len(encoded.times), "before": before, "after": after, "embeddings": size}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, nargs="+", default=[64, 512])
    parser.add_argument("--model", default="demo")
    parser.add_argument("--max-pixels", type=int)
    parser.add_argument("--size", type=int, nargs=2, default=(360, 640), help="height and width of the video")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # a process of its own measures this file
    args = parser.parse_args()
    if args.one:
        print(json.dumps(peak(args.one, args.frames[0], args.model, args.max_pixels)))
        return
    print(f"$ python {' '.join(sys.argv)}")
    print(f"{'frames':>8}{'loaded':>12}{'peak':>12}{'embeddings':>14}   MiB")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "noise.mp4"
        write_video(path, max(args.frames) // FPS + 1, *args.size)
        for frames in args.frames:
            command = [sys.executable, __file__, "--one", str(path), "--frames", str(frames), "--model", args.model]
            command += [] if args.max_pixels is None else ["--max-pixels", str(args.max_pixels)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
            row = json.loads(done.stdout.splitlines()[-1])
            print(f"{row['frames']:8}{row['before']:12.0f}{row['after']:12.0f}{row['embeddings']:14.2f}")


if __name__ == "__main__":
    main()
