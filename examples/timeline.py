"""Draw when each frame batch was read and when it was encoded, and count the reading that happened beside encoding.

Example: python examples/timeline.py examples/clip.mp4 --fps 8 --frame-batch 8
"""

import argparse
import sys
import time
from collections.abc import Iterator

import torch

import ipcv
from ipcv.inference.pipeline import Pipeline
from ipcv.media.clip import open_video
from ipcv.media.frames import FrameArray

Spans = list[tuple[float, float]]  # start and end, in seconds


@torch.no_grad()
def spans(path: str, model: str, options: ipcv.Options) -> tuple[Spans, Spans]:
    """When each batch was read by the reader thread, and when it was preprocessed and encoded."""
    loaded = ipcv.load(model).loaded
    pipeline, read, encoded = Pipeline(loaded, options), [], []
    clip = open_video(path, options.sampling, resize=loaded.patches.resize, frame_batch=options.frame_batch)
    pull = clip._source.frames

    def watched() -> Iterator[FrameArray]:
        stream = pull()
        for index in range(len(clip.times)):
            began = time.perf_counter()
            frame = next(stream)
            if index % options.frame_batch == 0:
                read.append((began, began))
            read[-1] = (read[-1][0], time.perf_counter())
            yield frame

    clip._source.frames = watched
    for event in pipeline.encode(clip, pipeline.clock()):
        if event.event == "frame_batch":
            encoded.append((time.perf_counter() - event.seconds, time.perf_counter()))
    return read, encoded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video")
    parser.add_argument("--model", default="demo")
    parser.add_argument("--fps", type=float, default=2.0)
    parser.add_argument("--max-frames", type=int, default=64)
    parser.add_argument("--frame-batch", type=int, default=16)
    args = parser.parse_args()
    sampling = ipcv.Sampling(fps=args.fps, max_frames=args.max_frames)
    read, encoded = spans(args.video, args.model, ipcv.Options(sampling=sampling, frame_batch=args.frame_batch))
    zero, total = read[0][0], encoded[-1][1] - read[0][0]
    print(f"$ python {' '.join(sys.argv)}\n{'batch':>5}{'read, ms':>16}{'encoded, ms':>16}")
    for index, pair in enumerate(zip(read, encoded, strict=True)):
        cells = [f"{1000 * (start - zero):.0f}-{1000 * (end - zero):.0f}" for start, end in pair]
        bar = [" "] * 48
        for (start, end), mark in zip(pair, "re", strict=True):
            first, last = (min(int(48 * (each - zero) / total), 47) for each in (start, end))
            bar[first : last + 1] = mark * (last + 1 - first)
        print(f"{index + 1:5}{cells[0]:>16}{cells[1]:>16}  {''.join(bar)}")
    both = sum(max(0.0, min(a[1], b[1]) - max(a[0], b[0])) for a in read for b in encoded)
    print(f"{both / sum(end - start for start, end in read):.0%} of the reading was beside encoding")


if __name__ == "__main__":
    main()
