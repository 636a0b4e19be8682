"""Ask a video with ipcv; `against_transformers.py` times it.

Example: python examples/ask_ipcv.py FOLDER clip.mp4 "What happens?" --frames 16
"""

import argparse
import json
import time
from dataclasses import replace
from typing import Any

import resident
import torch

import ipcv
from ipcv.benchmark.settings import parse_settings
from ipcv.inference.pipeline import Pipeline


def kept(model: ipcv.Model, video: str, question: str, options: ipcv.Options) -> dict[str, Any]:
    """The visual embeddings, the logits behind the prompt, and its ids."""
    pipeline, encoded = Pipeline(model.loaded, options), model.encode(video, options)
    with torch.no_grad(), pipeline.pruned():
        decoding = pipeline.prefill([encoded], question, pipeline.clock()).decoding
    return {"visual": encoded.visual.tokens, "logits": decoding.logits, "ids": decoding.seen}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("video")
    parser.add_argument("question")
    parser.add_argument("--fps", type=float, default=2)
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--pixels", type=int, default=448 * 448)
    parser.add_argument("--setting", default="coverage", help="methods, as `ipcv bench --settings` takes them")
    parser.add_argument("--keep", help="a file for the visual embeddings and the logits")
    args = parser.parse_args()
    began = time.perf_counter()
    model = ipcv.load(args.folder, device="cpu", dtype="float32")
    loading = time.perf_counter() - began
    began = time.perf_counter()
    (setting,) = parse_settings(args.setting)
    sampling = ipcv.Sampling(fps=args.fps, max_frames=args.frames, end=args.frames / args.fps)
    options = replace(setting.options, sampling=sampling, max_pixels=args.pixels, max_new_tokens=1)
    answer = model.ask(args.video, args.question, options)
    seconds = time.perf_counter() - began
    prefill = next(stage for stage in answer.stages if stage.name == "prefill")
    found = {
        "loading": loading,
        "seconds": seconds,
        "peak": resident.peak(),
        "frames": len(answer.frames.times),
        "size": (answer.frames.height, answer.frames.width),
        "prompt": prefill.tokens_computed,
        "stages": {stage.name: stage.seconds for stage in answer.stages},
        "computed": answer.savings.encode_flops,
    }
    if args.keep:
        torch.save(kept(model, args.video, args.question, options), args.keep)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
