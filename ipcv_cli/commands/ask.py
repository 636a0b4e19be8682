"""`ipcv ask`: a question about videos and images, answered on stdout, with progress and savings on stderr."""

import os
import sys
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from ipcv_cli import choices, startup
from ipcv_cli import compression_options as com
from ipcv_cli import options as opt
from ipcv_cli import source_options as src
from ipcv_cli.display.stdio import check_stdout
from ipcv_cli.exit import UsageError, leaving_at_once, reported

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from ipcv.answer import Event
    from ipcv_cli.display.ask_view import View
    from ipcv_cli.display.stdout import Writer


def ask(
    context: typer.Context,
    videos: Annotated[
        list[str],
        typer.Argument(
            metavar="VIDEO",
            help="A video or image file, or several; also URLs.",
            default_factory=list,
            show_default=False,
        ),
    ],
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="What to ask; - reads it from stdin.")],
    model: opt.ModelName = opt.DEFAULT_MODEL,
    revision: opt.Revision = None,
    offline: opt.Offline = False,
    device: opt.Device = "auto",
    dtype: opt.Dtype = "auto",
    quant: opt.Quant = "auto",
    fit: opt.Fit = False,
    max_download: src.MaxDownload = "4GB",
    allow_private: src.AllowPrivate = False,
    timeout: src.FetchTimeout = None,
    fps: opt.Fps = None,
    max_frames: opt.MaxFrames = None,
    start: opt.Start = None,
    end: opt.End = None,
    max_pixels: opt.MaxPixels = None,
    max_visual_tokens: opt.MaxVisualTokens = None,
    frame_batch: opt.FrameBatch = None,
    no_compress: com.NoCompress = False,
    method: com.Method = None,
    preset: com.Preset = None,
    keep: com.Keep = None,
    quality: com.Quality = None,
    layer: com.Layer = None,
    stabilize: com.Stabilize = None,
    neighbors: com.Neighbors = None,
    stabilizer: com.Stabilizer = None,
    reuse: com.Reuse = None,
    reducer: com.Reducer = None,
    reducer_keep: com.ReducerKeep = None,
    llm_pruner: com.LlmPruner = None,
    llm_keep: com.LlmKeep = None,
    llm_layer: com.LlmLayer = None,
    cache: src.CacheAt = "off",
    cache_limit: src.CacheLimit = "10GB",
    baseline: com.WithBaseline = False,
    repeats: Annotated[
        int | None,
        opt.option(
            opt.COMPRESSION,
            "Pairs of runs that --baseline times; without, until the ranges are narrow, for two minutes or so.",
            "--repeats",
            metavar="N",
        ),
    ] = None,
    system: opt.System = None,
    max_new_tokens: opt.MaxNewTokens = None,
    temperature: opt.Temperature = None,
    seed: opt.Seed = None,
    json: opt.Json = False,
    json_stream: opt.JsonStream = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
    debug: opt.Debug = False,
    no_color: opt.NoColor = False,
) -> None:
    """Ask a question about a video, or about several videos and images.

    The answer goes to stdout as it is written, everything else to stderr.

    Example: ipcv ask clip.mp4 "What colour is the circle?" --model demo
    """
    with reported(debug=debug, no_color=no_color, tell=end_stream if json_stream else None):
        if json:
            choices.exclude("--json", ("--json-stream", json_stream))
        if quiet:
            choices.exclude("--quiet", ("--verbose", verbose))
        if no_compress:
            choices.exclude("--no-compress", ("--baseline", baseline))
        if baseline:
            choices.exclude("--baseline", ("--cache", cache != "off"))
        check_stdout()
        if not videos:  # Typer takes a single argument for the question
            raise UsageError("Missing argument 'QUESTION'")
        asked = read_question(question)
        check_encoding("--system", system or "")
        check_files(videos)  # before torch is imported, which takes seconds
        from ipcv_cli.display.ask_view import View

        with View(quiet=quiet, verbose=verbose, no_color=no_color, baseline=baseline) as view, ExitStack() as stack:
            with leaving_at_once():
                view.status("starting")
                startup.prepare(offline=offline, bars=view.animated, debug=debug)
                from ipcv.readers.single import FileReader

                reader = stack.enter_context(FileReader(choices.access(max_download, timeout, allow_private)))
                startup.check_model(model, revision)
                reader.start()  # while torch is imported
                settings = choices.answer_options(context.params)
                found = [reader.find(video) for video in videos]  # wrong ones are told before a large model is loaded
                source = choices.model_source(context.params)
                store = choices.encoding_cache(cache, cache_limit, view.warn)
                ready = startup.load_model(
                    source, settings, [asked], quiet=quiet, no_color=no_color, status=view.status, reader=reader
                )
            follow(
                ready.model.stream(found, asked, ready.options, cache=store),
                choose_writer(json=json, json_stream=json_stream),
                view,
            )


def read_question(text: str) -> str:
    """The question; `-` reads it from stdin. Raises `UsageError` for an empty one, and for the name of a file."""
    from ipcv.media.remote.access import is_remote

    if text == "-":
        if sys.stdin is None:
            raise UsageError("the question was to come from stdin, which is closed")
        text = sys.stdin.buffer.read().decode("utf-8-sig", errors="surrogateescape")
    elif is_file(text) or (is_remote(text) and " " not in text):
        kind = "an address" if is_remote(text) else "a file"
        raise UsageError(f"the last argument is the question, and {text!r} is {kind}: add what to ask about it")
    if not text.strip():
        raise UsageError("the question is empty")
    return check_encoding("the question", text).strip()


def check_files(videos: "Sequence[str]") -> None:
    """Raise `VideoError` for what is no file or an empty one; of a folder, the message names `ipcv caption`."""
    from ipcv.errors import VideoError
    from ipcv.media.remote.access import is_remote
    from ipcv.media.video.container import check_file
    from ipcv.text import shown

    for video in videos:
        if os.path.isdir(video):  # noqa: PTH112 - it never raises
            raise VideoError(
                f"{shown(video)} is a folder, not a video: give one file, or caption all with ipcv caption"
            )
        if not is_remote(video):
            check_file(Path(video))


def is_file(text: str) -> bool:
    """Whether `text` is the path of an existing file."""
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # too long for a path, or no path at all
        return False


def check_encoding(what: str, text: str) -> str:
    """Return `text`. Raises `UsageError` if it holds bytes that are not UTF-8."""
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise UsageError(f"{what} is not text in UTF-8: {text!r}")
    return text


def end_stream(message: str, exit_code: int) -> None:
    """Write the last line of a stream of events that ends without an answer."""
    from ipcv_cli.display.stdout import Failed, json_line, write

    write(json_line(Failed(message=message, exit_code=exit_code)))


def choose_writer(*, json: bool, json_stream: bool) -> "Writer":
    """The function that turns an event into text for stdout, in the chosen format."""
    from ipcv_cli.display import stdout
    from ipcv_cli.display.render import is_terminal

    if json:
        return stdout.json_object
    return stdout.json_line if json_stream else stdout.AnswerText(terminal=is_terminal(sys.stdout))


def follow(events: "Iterator[Event]", writer: "Writer", view: "View") -> None:
    """Write events to stdout and show them on stderr. A line that was begun is ended, also after an error."""
    from ipcv_cli.display.stdout import write

    text = "\n"
    try:
        with closing(cast("Generator[Event, None, None]", events)):
            for event in events:
                if addition := writer(event):
                    view.make_room()
                    write(text := addition)
                view.show(event)
    finally:
        if not text.endswith("\n"):
            write("\n")
