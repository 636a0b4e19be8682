"""`ipcv caption`: captions for any number of videos, as JSON lines and files beside them; stopped, it goes on."""

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Literal

import typer

from ipcv_cli import choices, startup
from ipcv_cli import compression_options as com
from ipcv_cli import options as opt
from ipcv_cli import source_options as src
from ipcv_cli.display.render import is_terminal
from ipcv_cli.exit import leaving_at_once, reported

BATCH, CLUSTER = "Batch", "Cluster"


def caption(
    context: typer.Context,
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="VIDEO...",
            help="Video files, folders (all the way down), URLs, manifests (.jsonl: id, video, question, start, end); "
            "- reads a list of them from stdin.",
            show_default=False,
        ),
    ],
    model: opt.ModelName = opt.DEFAULT_MODEL,
    revision: opt.Revision = None,
    offline: opt.Offline = False,
    device: opt.Device = "auto",
    dtype: opt.Dtype = "auto",
    quant: opt.Quant = "auto",
    fit: opt.Fit = False,
    nul: Annotated[bool, opt.option(opt.INPUT, "The list on stdin has a NUL after each path.", "--nul", "-0")] = False,
    glob: Annotated[
        list[str] | None,
        opt.option(opt.INPUT, "In folders, take what matches, whatever its ending.", "--glob", metavar="PATTERN"),
    ] = None,
    exclude: Annotated[
        list[str] | None, opt.option(opt.INPUT, "In folders, leave out what matches.", "--exclude", metavar="PATTERN")
    ] = None,
    limit: Annotated[int | None, opt.option(opt.INPUT, "Only the first N.", "--limit", metavar="N")] = None,
    shard: src.Shard = None,
    max_download: src.MaxDownload = "4GB",
    allow_private: src.AllowPrivate = False,
    prompt: Annotated[
        str | None,
        opt.option(
            opt.ANSWER, "What to ask of every video.", "--prompt", metavar="TEXT", default="Describe the video."
        ),
    ] = None,
    style: Annotated[
        Literal["short", "detailed", "tags", "json"] | None,
        opt.option(opt.ANSWER, "A ready-made prompt; json also checks the answer.", "--style", metavar=None),
    ] = None,
    question: Annotated[
        list[str] | None,
        opt.option(
            opt.ANSWER, "Ask this in place of --prompt, any number of times: videos are encoded once.", metavar="TEXT"
        ),
    ] = None,
    segments: Annotated[
        str | None,
        opt.option(opt.FRAMES, "A caption for every 10s, say, or for every scene: scenes.", metavar="TIME|scenes"),
    ] = None,
    fps: opt.Fps = None,
    max_frames: opt.MaxFrames = None,
    start: opt.Start = None,
    end: opt.End = None,
    max_pixels: opt.MaxPixels = None,
    max_visual_tokens: opt.MaxVisualTokensEach = None,
    frame_batch: opt.FrameBatch = None,
    cache: src.CacheAt = "off",
    cache_limit: src.CacheLimit = "10GB",
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
    system: opt.System = None,
    max_new_tokens: opt.MaxNewTokens = None,
    temperature: opt.Temperature = None,
    seed: opt.Seed = None,
    output: Annotated[
        Path | None,
        opt.option(
            opt.OUTPUT,
            "Append JSON lines here. What is in it is not done again, and never removed without --overwrite. A pipe "
            "gets them too, but remembers nothing.",
            "--output",
            "-o",
            metavar="FILE",
        ),
    ] = None,
    json: Annotated[
        bool, opt.option(opt.OUTPUT, "JSON lines on stdout, even on a terminal, and beside -o.", "--json")
    ] = False,
    sidecar: Annotated[
        list[str] | None,
        opt.option(
            opt.OUTPUT,
            "Also a file per video: txt, json, srt, vtt, csv. Without -o, captions.jsonl goes here or to --output-dir.",
            metavar="KIND",
        ),
    ] = None,
    output_dir: Annotated[
        Path | None,
        opt.option(opt.OUTPUT, "Where those go, in the folders' own tree; else beside the videos.", metavar="DIR"),
    ] = None,
    parquet: Annotated[
        Path | None,
        opt.option(opt.OUTPUT, r"At the end, all of -o as a table (extra ipcv\[parquet]).", metavar="FILE"),
    ] = None,
    failures: Annotated[
        Path | None,
        opt.option(
            opt.OUTPUT, "A line for each video that failed.", metavar="FILE", default="beside -o, named after it"
        ),
    ] = None,
    overwrite: Annotated[
        bool, opt.option(BATCH, "Replace captions in -o that are from other settings or contents.", "--overwrite")
    ] = False,
    retry_failed: Annotated[bool, opt.option(BATCH, "Do again what has failed.", "--retry-failed")] = False,
    dry_run: Annotated[
        bool, opt.option(BATCH, "Only list what is done and what would be done or replaced.", "--dry-run")
    ] = False,
    fail_fast: Annotated[bool, opt.option(BATCH, "Stop at the first failure.", "--fail-fast")] = False,
    max_failures: Annotated[int | None, opt.option(BATCH, "Stop at more failures than this.", metavar="N")] = None,
    timeout: Annotated[
        float | None,
        opt.option(BATCH, "Give a video up whose reading takes longer than this.", metavar="SECONDS"),
    ] = None,
    readers: Annotated[
        int, opt.option(BATCH, "Processes that read ahead. 0: none, one after the other.", metavar="N")
    ] = 2,
    prefetch: Annotated[int, opt.option(BATCH, "Videos read ahead at most.", metavar="N")] = 4,
    batch_size: Annotated[int, opt.option(BATCH, "Answers written at a time.", metavar="N")] = 8,
    engine: Annotated[
        Literal["local", "ray"],
        opt.option(
            CLUSTER,
            "Where the model runs: in this process, or in actors on a Ray cluster, that of RAY_ADDRESS or of this "
            r"machine, else one that is started here (extra ipcv\[ray]). Videos must be where all machines see them; "
            "lines come in the order in which they are done.",
            "--engine",
            metavar=None,
        ),
    ] = "local",
    actors: Annotated[
        int | None,
        opt.option(
            CLUSTER,
            "Processes that hold the model, each with readers of its own.",
            metavar="N",
            default="one for each GPU, or each machine without any",
        ),
    ] = None,
    gpus_per_actor: Annotated[
        float | None,
        opt.option(
            CLUSTER, "A share such as 0.5, or a whole number.", metavar="N", default="1, or 0 where there are none"
        ),
    ] = None,
    quiet: Annotated[bool, opt.option(opt.OUTPUT, "Only errors on stderr.", "--quiet", "-q")] = False,
    debug: opt.Debug = False,
    no_color: opt.NoColor = False,
) -> None:
    """Caption any number of videos; the same command again goes on where it stopped.

    JSON lines as of `ipcv ask --json` go to stdout or -o, one for each answer, as videos are done and in their order.

    Example: ipcv caption clips/ -o captions.jsonl --sidecar txt --model demo
    """
    with reported(debug=debug, no_color=no_color):
        if prompt is not None:
            choices.exclude("--prompt", ("--style", style))
        if segments:
            choices.exclude("--segments", ("--cache", cache != "off"))
        if fail_fast:
            choices.exclude("--fail-fast", ("--max-failures", max_failures))
        from ipcv_cli.captioning import request, runner
        from ipcv_cli.display.caption_view import BatchView

        output = request.output(output)
        to_stdout = json or output == Path("-") or (output is None and not sidecar)
        with BatchView(quiet=quiet, no_color=no_color, shared=to_stdout and is_terminal(sys.stdout)) as view:
            with leaving_at_once():
                view.status("" if "-" in sources else "starting")
                startup.prepare(offline=offline, bars=view.animated, debug=debug)
                from ipcv import caption as caption_run
                from ipcv.batch.engine import EngineSettings
                from ipcv.files import parse_size
                from ipcv_cli.captioning.engines import choose_engine

                inputs = request.inputs(
                    sources, nul=nul, glob=glob or [], exclude=exclude or [], limit=limit, shard=shard
                )
                plan = request.plan(choices.answer_options(context.params), prompt, style, question or [], segments)
                store = choices.encoding_cache(cache, cache_limit, view.warn)
                settings = EngineSettings(
                    source=choices.model_source(context.params),
                    readers=readers,
                    prefetch=prefetch,
                    timeout=timeout,
                    batch_size=batch_size,
                    max_download=parse_size(max_download),
                    allow_private=allow_private,
                    cache=store.folder if store else None,
                    cache_limit=store.limit if store else 0,
                )
                machines = choices.cluster(engine, actors, gpus_per_actor, device)
            if not inputs.sources:
                view.say("done", "the list is empty")
                return
            with ExitStack() as stack:
                run = caption_run(
                    inputs,
                    output,
                    plan,
                    engine=choose_engine(settings, machines, view, stack, no_color=no_color),
                    sidecars=sidecar or [],
                    output_dir=output_dir,
                    parquet=parquet,
                    failures=failures,
                    overwrite=overwrite,
                    retry_failed=retry_failed,
                    max_failures=0 if fail_fast else max_failures,
                    warn=view.warn,
                )
                if dry_run:
                    code = runner.forecast(run, view)
                else:
                    code = runner.follow(run, view, runner.emitter(to_stdout=to_stdout, as_json=json))
        raise typer.Exit(code)
