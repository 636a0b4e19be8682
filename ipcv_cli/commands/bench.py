"""`ipcv bench`: how often a model is right about the demo world, and what that costs, for several settings."""

from pathlib import Path
from typing import Annotated

import typer

from ipcv.compression.compressors.presets import PRESETS
from ipcv.compression.method import Place
from ipcv.compression.registry import names
from ipcv_cli import choices, startup
from ipcv_cli import options as opt
from ipcv_cli.display.stdio import check_stdout
from ipcv_cli.exit import INTERRUPTED, first_interrupt, leaving_at_once, reported


def _any_of(place: Place) -> str:
    """The names of a place's methods in a sentence."""
    *others, last = names(place)
    return f"{', '.join(others)} or {last}"


FEWEST = 11  # questions: one of each kind
SETTINGS = "dense,coverage,coverage+dart,paper,grey"


def _enough(questions: int) -> int:
    """Refuse fewer questions than there are kinds."""
    if questions < FEWEST:
        raise typer.BadParameter(f"at least {FEWEST}, one of each kind")
    return questions


def bench(
    context: typer.Context,
    model: opt.ModelName = "demo",
    revision: opt.Revision = None,
    offline: opt.Offline = False,
    device: opt.Device = "auto",
    dtype: opt.Dtype = "auto",
    quant: opt.Quant = "auto",
    questions: Annotated[
        int,
        typer.Option(
            "--questions",
            "-n",
            metavar="N",
            callback=_enough,
            help=f"How many, {FEWEST} at least; the same ones every time.",
        ),
    ] = 110,
    settings: Annotated[
        str,
        typer.Option(
            "--settings",
            "-s",
            metavar="LIST",
            help="What to compare, with commas between; the first is what the others are compared with. dense, or "
            f"parts joined by +: {_any_of('compressor')} in the encoder, or a preset of coverage "
            f"({', '.join(PRESETS)}); {_any_of('reducer')} after it; "
            f"{_any_of('pruner')} in the language model; frames or pixels (fewer of them); file (through an mp4 "
            "file); grey or other (a grey clip, or another one). coverage@0.2 keeps a fifth, coverage:layer=4 sets "
            "another of its settings.",
        ),
    ] = SETTINGS,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot",
            metavar="FILE",
            rich_help_panel=opt.OUTPUT,
            help="Also write a plot of accuracy against encoder FLOPs, .png or .svg (needs the extra ipcv\\[plot]).",
        ),
    ] = None,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
    no_color: opt.NoColor = False,
) -> None:
    """Measure accuracy, time and FLOPs on held-out questions, under several settings.

    Each question is about a clip of the demo world that no training has seen; all settings answer it side by side.
    Ctrl-C ends it after the question that is being asked, with a report on those so far; once more, at once.

    Example: ipcv bench --questions 220 --settings dense,coverage,coverage@0.2+dart@0.5,frames@0.5
    """
    with reported(debug=debug, no_color=no_color):
        from ipcv_cli.display import bench_report as output
        from ipcv_cli.display.ask_view import count_bar

        check_stdout()
        if plot:
            output.check_plot(plot)
        with count_bar(quiet=quiet, no_color=no_color) as bar:
            with leaving_at_once():
                startup.prepare(offline=offline, bars=not bar.disable, debug=debug)
                startup.check_model(model, revision)
                from ipcv.benchmark import benchmark
                from ipcv.benchmark.settings import parse_settings
                from ipcv.options import Options
                from ipcv_cli.display.render import line, stderr_console
                from ipcv_cli.display.stdout import report_object, write

                compared = parse_settings(settings)
                source = choices.model_source(context.params)
                loaded = startup.load_model(source, Options(), quiet=quiet, no_color=no_color).model
            task = bar.add_task("questions", total=questions)
            with first_interrupt() as interrupted:
                for step in benchmark.bench(loaded, questions, compared, interrupted):
                    if isinstance(step, int):
                        bar.update(task, completed=step)
                        continue
                    bar.stop()
                    if not quiet:
                        complaints = stderr_console(no_color=no_color)
                        for text in step.warnings:
                            complaints.print(line("warning", text), soft_wrap=True)
                    write(report_object(step) if json else output.report_table(step))
                    if plot:
                        output.plot(step, plot)
                    if step.questions < questions:
                        raise typer.Exit(INTERRUPTED)
