"""`ipcv frames`: the pictures that a model is shown of a video, and their times."""

from typing import Annotated

import typer

from ipcv_cli import choices, startup
from ipcv_cli import options as opt
from ipcv_cli import source_options as src
from ipcv_cli.display.stdio import check_stdout
from ipcv_cli.exit import leaving_at_once, reported


def frames(
    video: Annotated[str, typer.Argument(metavar="VIDEO", help="A video or image file, or a URL.")],
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="A folder for the pictures and their index.json; or one contact sheet: a name that ends in .png, "
            ".jpg or .webp.",
            show_default=False,
        ),
    ],
    max_download: src.MaxDownload = "4GB",
    allow_private: src.AllowPrivate = False,
    timeout: src.FetchTimeout = None,
    fps: opt.Fps = None,
    max_frames: opt.MaxFrames = None,
    start: opt.Start = None,
    end: opt.End = None,
    max_pixels: Annotated[
        int | None,
        opt.option(
            opt.FRAMES,
            "Pixels per picture in the folder.",
            "--max-pixels",
            metavar="N",
            default="as displayed",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the pictures or the sheet of an earlier run.")
    ] = False,
    json: opt.Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only errors on stderr.")] = False,
    debug: opt.Debug = False,
    no_color: opt.NoColor = False,
) -> None:
    """Write the frames that a model is shown of a video: pictures named by time, or one contact sheet.

    No model is needed. stdout has a line for each frame: its time in seconds, and its file in the folder.

    Example: ipcv frames clip.mp4 -o frames.png --fps 1
    """
    with reported(debug=debug, no_color=no_color):
        from ipcv_cli.display import stdout
        from ipcv_cli.display.render import line, stderr_console

        check_stdout()
        with leaving_at_once():
            startup.prepare(offline=False, bars=False, debug=debug)
            from ipcv.files import expanded
            from ipcv.media.frame_files import write_frames
            from ipcv.readers.single import FileReader
            from ipcv.text import visible

        chosen = choices.sampling(fps, max_frames, start, end)
        with FileReader(choices.access(max_download, timeout, allow_private)) as reader:
            shown = write_frames(
                video,
                expanded(output),
                chosen,
                max_pixels=max_pixels,
                overwrite=overwrite,
                reader=reader,
            )
        console = stderr_console(no_color=no_color)
        console.quiet = quiet
        for warning in shown.warnings:
            console.print(line("warning", warning), soft_wrap=True)
        if json:
            stdout.write(stdout.frames_object(shown))
        else:
            for each in shown.frames:
                picture = f"\t{visible(shown.output)}/{each.picture}" if each.picture else ""
                stdout.write(f"{each.time:.3f}{picture}\n")
        console.print(line("wrote", f"{len(shown.frames)} frames to {shown.output}"), soft_wrap=True)
