"""Write the example clip: four seconds of a held-out scene of the procedural world at 16 frames per second.

Example: python examples/make_clip.py examples/clip.mp4
"""

import sys

from ipcv.scenes import make_clip
from ipcv.world import HELD_OUT_SEEDS, write_clip

SEED = HELD_OUT_SEEDS[2_000_019]  # far behind the seeds that the benchmark reaches


def main() -> None:
    clip = make_clip(SEED, size=224, fps=16)
    write_clip(sys.argv[1], clip)
    for thing in clip.things:
        print(f"{thing.colour} {thing.shape}: {thing.motion}")


if __name__ == "__main__":
    main()
