"""Ask a video with PyAV and transformers alone, as one does without ipcv; `against_transformers.py` times it.

Example: python examples/ask_transformers.py FOLDER clip.mp4 "What happens?" --frames 16
"""

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import resident
import torch
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoTokenizer

VIDEO = "<|video_pad|>"


def fitting(height: int, width: int, side: int, most: int) -> tuple[int, int]:
    """Height and width in whole tokens of `side` pixels, in proportion, with at most `most` pixels."""
    rows, columns = round(height / side), round(width / side)
    if rows * columns * side**2 > most:
        scale = math.sqrt(height * width / most)
        rows, columns = (max(1, math.floor(each / scale / side)) for each in (height, width))
    return rows * side, columns * side


def read(path: str, fps: float, count: int, side: int, most: int) -> Tensor:
    """The first `count` frames of a file at `fps` frames per second, uint8 [count, height, width, 3]."""
    frames: list[np.ndarray] = []
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        step = round(float(stream.average_rate or 0) / fps)
        height, width = fitting(stream.height, stream.width, side, most)
        for index, frame in enumerate(container.decode(stream)):
            if index % step == 0:
                frames.append(frame.to_ndarray(format="rgb24", width=width, height=height, interpolation="BICUBIC"))
            if len(frames) == count:
                break
    return torch.from_numpy(np.stack(frames))


def patches(frames: Tensor, settings: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Turn frames into patches `[n, values]` and their grid `[1, 3]`, as Qwen2-VL's processor does."""
    mean, std = (torch.tensor(settings[name])[:, None, None] for name in ("image_mean", "image_std"))
    values = frames.permute(0, 3, 1, 2).float().div_(255).sub_(mean).div_(std)
    count, _, height, width = values.shape
    side, merge, pair = settings["patch_size"], settings["merge_size"], settings["temporal_patch_size"]
    rows, columns = height // side, width // side
    split = values.view(count // pair, pair, 3, rows // merge, merge, side, columns // merge, merge, side)
    ordered = split.permute(0, 3, 6, 4, 7, 2, 1, 5, 8)
    return ordered.reshape(-1, 3 * pair * side**2), torch.tensor([[count // pair, rows, columns]])


def prompt(tokenizer: Any, question: str, tokens: int) -> Tensor:
    """The ids [1, length] of a question about a video of so many tokens."""
    content = [{"type": "video"}, {"type": "text", "text": question}]
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    text = text.replace(VIDEO, VIDEO * tokens)
    ids: Tensor = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
    return ids


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("video")
    parser.add_argument("question")
    parser.add_argument("--fps", type=float, default=2)
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--pixels", type=int, default=448 * 448)
    parser.add_argument("--keep", help="a file for the visual embeddings and the logits")
    args = parser.parse_args()
    began = time.perf_counter()
    tokenizer = AutoTokenizer.from_pretrained(args.folder)
    settings = json.loads(Path(args.folder, "preprocessor_config.json").read_text(encoding="utf-8"))
    model = AutoModelForImageTextToText.from_pretrained(args.folder, dtype=torch.float32, attn_implementation="sdpa")
    model.eval()
    loading = time.perf_counter() - began
    with torch.inference_mode():
        began = time.perf_counter()
        side = settings["patch_size"] * settings["merge_size"]
        frames = read(args.video, args.fps, args.frames, side, args.pixels)
        values, grid = patches(frames, settings)
        reading = time.perf_counter() - began
        ids = prompt(tokenizer, args.question, len(values) // settings["merge_size"] ** 2)
        inputs = {"pixel_values_videos": values, "video_grid_thw": grid, "input_ids": ids}
        inputs["attention_mask"] = torch.ones_like(ids)
        inputs["mm_token_type_ids"] = 2 * (ids == model.config.video_token_id)
        found = model.generate(
            **inputs, max_new_tokens=1, do_sample=False, output_logits=True, return_dict_in_generate=True
        )
        seconds = time.perf_counter() - began
        peak = resident.peak()
        if args.keep:
            visual = model.get_video_features(values, video_grid_thw=grid).pooler_output[0]
            torch.save({"visual": visual, "logits": found.logits[0], "ids": ids}, args.keep)
    found = {"loading": loading, "seconds": seconds, "peak": peak, "frames": len(frames), "size": frames.shape[1:3]}
    print(json.dumps(found | {"prompt": ids.shape[1], "computed": 1.0, "stages": {"read and preprocess": reading}}))


if __name__ == "__main__":
    main()
