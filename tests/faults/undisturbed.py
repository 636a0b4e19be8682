"""What a run gives that nothing disturbs, and how a disturbed one is held against it."""

import json
from dataclasses import dataclass
from pathlib import Path

from runner import FAST, Run, complaints, lines

from ipcv.world.mp4 import write_clip
from ipcv.world.random_scene import make_clip
from ipcv.world.scene import HELD_OUT_SEEDS

FILES = ("captions.jsonl", "failures.jsonl")


@dataclass(frozen=True)
class Whole:
    """A folder of clips, and what `ipcv caption` makes of them."""

    videos: Path
    count: int
    first: float  # seconds until something was written
    seconds: float  # that the run took
    files: dict[str, bytes]

    def words(self, *more: str) -> list[str]:
        """The command line that gives this; `more` must not change what is written."""
        return ["caption", str(self.videos), *FAST, "-o", FILES[0], *more]

    def differences(self, folder: Path) -> list[str]:
        """In which way the output in `folder` is another one: byte by byte, and no video more than once."""
        found = {name: (folder / name).read_bytes() if (folder / name).exists() else b"" for name in FILES}
        return [f"{folder / name} differs" for name in FILES if found[name] != self.files[name]] + twice(folder)

    def missing(self, folder: Path) -> list[str]:
        """Which lines in `folder` are not there, or are other ones without a warning that says why, in any order."""
        right = {each["id"]: each for each in map(json.loads, self.files[FILES[0]].splitlines())}
        found = {each["id"]: each for each in lines(folder / FILES[0])}
        told = {name for name, each in found.items() if set(each["warnings"]) - set(right[name]["warnings"])}
        return [f"{folder}: {name}" for name in right if found.get(name) != right[name] and name not in told]

    def finish(self, folder: Path, *more: str) -> list[str]:
        """Run the command once more without a fault, and say what is wrong with all that there is then."""
        run = Run(self.words(*more), folder)
        code = run.wait()
        wrong = [f"{folder}: exit code {code} in the end: {run.err[-300:]}"] if code != 3 else []
        return wrong + complaints(run) + self.differences(folder)


def whole(folder: Path, count: int) -> Whole:
    """`count` clips and a file that is none."""
    videos, output = folder / "videos", folder / "whole"
    videos.mkdir()
    output.mkdir()
    for index in range(count):
        write_clip(videos / f"{index:02}.mp4", make_clip(HELD_OUT_SEEDS[11 + index], size=112, fps=4))
    (videos / "notes.mp4").write_text("These are notes.\n")
    found = Whole(videos, count, 0.0, 0.0, {})
    run = Run(found.words("--readers", "0"), output)
    run.wait_for(lambda: (output / FILES[0]).exists() and (output / FILES[0]).stat().st_size > 0)
    first = run.seconds
    assert run.wait() == 3, run.err
    assert len(lines(output / FILES[0])) == count
    return Whole(videos, count, first, run.seconds, {name: (output / name).read_bytes() for name in FILES})


def twice(folder: Path) -> list[str]:
    """The videos that have more than one result in `folder`."""
    ids = [each["id"] for name in FILES for each in lines(folder / name)]
    return [f"{folder}: {each} is there {ids.count(each)} times" for each in sorted(set(ids)) if ids.count(each) > 1]


def left_behind(folder: Path) -> list[str]:
    """Scratch folders of readers and half-written files, which nobody will ever remove."""
    return [f"{path} is left" for path in folder.iterdir() if path.name.startswith(("ipcv-", ".ipcv-", "tmp"))]
