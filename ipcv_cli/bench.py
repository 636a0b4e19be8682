"""`ipcv bench`: how often a model is right about the demo world, with and without compression."""

from typing import Annotated

import typer

from ipcv_cli import libraries
from ipcv_cli import options as opt
from ipcv_cli.failure import leaving_at_once, reported


def bench(
    model: opt.ModelName = "demo",
    revision: opt.Revision = None,
    offline: opt.Offline = False,
    device: opt.Device = "auto",
    dtype: opt.Dtype = "auto",
    quant: opt.Quant = "auto",
    questions: Annotated[
        int, typer.Option("--questions", "-n", metavar="N", min=5, help="How many; the same ones every time.")
    ] = 100,
    keep: opt.Keep = None,
    layer: opt.Layer = None,
    stabilize: opt.Stabilize = None,
    neighbors: opt.Neighbors = None,
    llm_pruner: opt.LlmPruner = None,
    llm_keep: opt.LlmKeep = None,
    llm_layer: opt.LlmLayer = None,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
    no_color: opt.NoColor = False,
) -> None:
    """Measure accuracy, time and FLOPs on held-out questions, with and without compression.

    Each question is about a clip of the demo world that no training has seen; both settings answer it side by side.

    Example: ipcv bench --questions 50 --keep 0.2
    """
    with reported(debug=debug, no_color=no_color):
        from ipcv_cli.view import question_bar

        with question_bar(quiet=quiet, no_color=no_color) as bar:
            with leaving_at_once():
                libraries.prepare(offline=offline, bars=not bar.disable, debug=debug)
                compression = opt.compression(
                    no_compress=False,
                    keep=keep,
                    layer=layer,
                    stabilize=stabilize,
                    neighbors=neighbors,
                    llm_pruner=llm_pruner,
                    llm_keep=llm_keep,
                    llm_layer=llm_layer,
                )
                from ipcv import bench as benchmark
                from ipcv.answer import Options
                from ipcv_cli.output import report_object, write
                from ipcv_cli.render import line, report_table, stderr_console

                settings = {"dense": Options(compressor=None, pruner=None), "compressed": Options(**compression)}
                loaded = libraries.load_model(
                    model,
                    revision=revision,
                    offline=offline,
                    quiet=quiet,
                    no_color=no_color,
                    device=device,
                    dtype=dtype,
                    quant=quant,
                )
            task = bar.add_task("questions", total=questions)
            for step in benchmark.bench(loaded, questions, settings):
                if isinstance(step, int):
                    bar.update(task, completed=step)
                else:
                    bar.stop()
                    if not quiet:
                        complaints = stderr_console(no_color=no_color)
                        complaints.print(*(line("warning", text) for text in step.warnings), sep="\n", soft_wrap=True)
                    write(report_object(step) if json else report_table(step))
