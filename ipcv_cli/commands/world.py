"""`ipcv world`: clips of the demo world with questions and answers, to try things out on."""

from pathlib import Path
from typing import Annotated

import typer

from ipcv.world.camera import CameraKind
from ipcv_cli import options as opt
from ipcv_cli.exit import UsageError, leaving_at_once, reported


def world(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to write; made if it is not there.")],
    clips: Annotated[int, typer.Option("--clips", "-n", metavar="N", min=1, help="How many clips.")] = 20,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", min=0, help="Another number, other clips; the same one, the same.")
    ] = 0,
    camera: Annotated[
        CameraKind | None,
        typer.Option("--camera", help="Whether the camera stands still or moves. Without this, three in four move."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace clips and questions that are there.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only errors.")] = False,
    debug: opt.Debug = False,
    no_color: opt.NoColor = False,
) -> None:
    """Write clips of the demo world with questions and their answers.

    The clips are mp4 files; questions.jsonl has a line per question. No training has seen these scenes.

    Example: ipcv world out/ --clips 20 --seed 7 --camera still
    """
    with reported(debug=debug, no_color=no_color):
        from ipcv_cli.display.ask_view import count_bar
        from ipcv_cli.display.render import line, stderr_console

        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{folder} is not a folder: give the name of one, new or old")
        with count_bar(quiet=quiet, no_color=no_color) as bar:
            with leaving_at_once():
                from ipcv.benchmark.dataset import write_world
            task = bar.add_task("clips", total=clips)
            for done in write_world(folder, clips, seed, camera=camera, overwrite=overwrite):
                bar.update(task, completed=done)
        if not quiet:
            stderr_console(no_color=no_color).print(line("wrote", f"{clips} clips to {folder}"), soft_wrap=True)
