"""Measure what compression costs in captions: clips of the demo world as files, against their reference captions.

Example: python examples/captions.py --clips 300 --settings dense,coverage,coverage@0.5,coverage+dart@0.5
"""

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

import ipcv
from ipcv.benchmark.dataset import QUESTIONS_FILE, write_world
from ipcv.benchmark.reference_captions import caption, fact_score
from ipcv.benchmark.settings import parse_settings
from ipcv.world.camera import CAMERAS, CameraKind
from ipcv.world.random_scene import make_scene

SETTINGS = "dense,coverage,coverage@0.5,coverage+dart@0.5,coverage+dart@0.7,coverage+dart@0.85,coverage+fastv@0.5"


def references(folder: Path, clips: int, camera: CameraKind | None) -> dict[Path, str]:
    """Write clips into `folder`; the reference caption of each."""
    for _ in write_world(folder, clips, seed=0, camera=camera):
        pass
    lines = map(json.loads, (folder / QUESTIONS_FILE).read_text(encoding="utf-8").splitlines())
    return {folder / line["video"]: caption(make_scene(line["seed"], line["camera"])) for line in lines}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=300)
    parser.add_argument("--camera", choices=CAMERAS, help="of all clips; without this three in four move")
    parser.add_argument("--settings", default=SETTINGS, help="as in `ipcv bench`")
    args = parser.parse_args()
    settings, model = parse_settings(args.settings), ipcv.load("demo")
    with TemporaryDirectory() as folder:
        truth = references(Path(folder), args.clips, args.camera)
        said = [[model.ask(video, "Describe the video.", each.options).answer for video in truth] for each in settings]
    print(f"{'setting':<24}  facts, F1  right to the word, of {len(truth)}")
    for setting, answers in zip(settings, said, strict=True):
        name = setting.name + (" (default)" if setting.is_default else "")
        facts = np.mean([fact_score(*pair) for pair in zip(truth.values(), answers, strict=True)])
        words = sum(answer.strip() == text for answer, text in zip(answers, truth.values(), strict=True))
        print(f"{name:<24}  {facts:9.3f}  {words:>4}")


if __name__ == "__main__":
    main()
