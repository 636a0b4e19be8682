"""Tables and lines for people on stderr. Imports Rich, but not torch."""

import time
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from ipcv.text import visible
from ipcv_cli.display.parameters import as_options
from ipcv_cli.display.stdio import Stderr

if TYPE_CHECKING:
    from ipcv.answer import Answer, Baseline, Event, Quality, Stage, VisualInput

STAGES = ("read", "preprocess", "encode", "prefill", "generate")
UNITS = {"read": "frames", "preprocess": "frames", "encode": "patches", "prefill": "tokens", "generate": "tokens"}
HEADINGS = ("time", "tokens in → computed", "FLOPs", "of dense", "memory")
WIDTHS = (7, 22, 12, 8, 8)
MEMORY = 4
DISPENSABLE = (2, 4, 1, 0)  # columns that a narrow terminal does without, in turn
STYLES = {"error": "bold red", "warning": "bold yellow"}


def stderr_console(*, no_color: bool = False) -> Console:
    """A console on stderr, without markup: names are shown as they are."""
    file: Any = Stderr()
    return Console(file=file, no_color=no_color or None, markup=False, emoji=False, highlight=False)


def is_terminal(stream: TextIO | None) -> bool:
    """Whether `stream` is a terminal; a closed stream is `None`."""
    return stream is not None and stream.isatty()


def line(kind: str, message: str) -> Text:
    """`ipcv: kind: message` on one line, whatever the message holds, with options for the library's parameters."""
    return Text.assemble("ipcv: ", (f"{kind}:", STYLES.get(kind, "dim")), " ", visible(as_options(message)))


class Progress:
    """The progress of an answer, as a table of its stages."""

    def __init__(self) -> None:
        self._stages: dict[str, Stage] = {}
        self._frames = (0, 0)  # done, and the total
        self._tokens = 0
        self._since = time.monotonic()  # when the running stage began

    def take(self, event: "Event") -> None:
        """Update the table by an event."""
        if event.event == "opened":
            if event.index == 0:  # the work begins, or starts again with less
                self._frames = (0, 0)
                self._stages.clear()
            self._frames = (0, self._frames[1] + event.frames)
            self._since = time.monotonic()
        elif event.event == "frame_batch":
            self._frames = (event.frames_done, event.frames)
        elif event.event == "token":
            self._tokens += 1
        elif event.event == "stage":
            self._stages[event.stage.name] = event.stage
            self._since = time.monotonic()

    def table(self) -> "StageTable":
        """The stages: finished ones with their numbers, the running one with its clock, later ones empty."""
        rows = {name: cells(stage) for name, stage in self._stages.items()}
        running = next((name for name in STAGES[2:] if name not in rows), None)  # the first two run along
        if running:
            counts = {"encode": "{:,} of {:,} frames".format(*self._frames), "generate": f"{self._tokens:,} tokens"}
            rows[running] = (seconds(time.monotonic() - self._since), counts.get(running, ""), "", "", "")
        return StageTable(rows, running)


def summary(answer: "Answer") -> RenderableType:
    """The table at the end, with the savings of compression."""
    heading = f"{answer.model.name} on {answer.model.device}, {answer.model.quantization or answer.model.dtype}: "
    heading += "; ".join(map(shape, answer.videos))
    table = StageTable({stage.name: cells(stage) for stage in answer.stages})
    return Group(
        Text(visible(heading), style="dim"), table, *map(Text, savings(answer)), Text(legend(answer), style="dim")
    )


def legend(answer: "Answer") -> str:
    """Which numbers were measured. Memory is, on CUDA alone."""
    has_memory = any(stage.peak_memory is not None for stage in answer.stages)
    measured = "Time, tokens and memory" if has_memory else "Time and tokens"
    return f"{measured} are measured; FLOPs are computed from the model's sizes."


def shape(video: "VisualInput") -> str:
    """The frames that were looked at: their number and size."""
    frames, count = video.frames, len(video.frames.times)
    what = "an image" if video.kind == "image" else f"{count} frames" if count != 1 else "1 frame"
    return f"{what} of {frames.width} × {frames.height}"


class StageTable:
    """A line for each stage, empty without a row, in as many columns as the terminal has room for.

    The column of memory appears once a row has a number for it.
    """

    def __init__(self, rows: Mapping[str, tuple[str, ...]], running: str | None = None) -> None:
        self.rows, self.running = rows, running

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Lay the table out for the width there is."""
        columns = self._columns(options.max_width)
        table = Table(box=SIMPLE_HEAD, padding=(0, 1), collapse_padding=True, pad_edge=False, show_edge=False)
        table.add_column("stage", min_width=10)
        for column in columns:
            table.add_column(HEADINGS[column], justify="right", min_width=WIDTHS[column], no_wrap=True)
        for name in STAGES:
            style = "bold" if name == self.running else "" if name in self.rows else "dim"
            row = self.rows.get(name)
            table.add_row(name, *(row[column] for column in columns if row), style=style)
        yield table
        left_out = [
            HEADINGS[at] for at in DISPENSABLE if at not in columns and any(row[at] for row in self.rows.values())
        ]
        if left_out and not self.running:
            yield Text(f"a wider terminal also shows: {', '.join(left_out)}", style="dim")

    def _columns(self, width: int) -> list[int]:
        """Places of the columns that fit, of those that have anything to say."""
        columns = [at for at in range(len(HEADINGS)) if at != MEMORY or any(row[MEMORY] for row in self.rows.values())]
        for last in DISPENSABLE:
            if 10 + sum(WIDTHS[column] + 2 for column in columns) > width and last in columns:
                columns.remove(last)
        return columns


def cells(stage: "Stage") -> tuple[str, str, str, str, str]:
    """Time, tokens, FLOPs, share of the dense FLOPs, and memory of a stage; empty where unknown."""
    if not stage.tokens_computed:
        return ("", f"{stage.tokens_in:,} {UNITS[stage.name]} reused", "", "", "")
    tokens = f"{stage.tokens_in:,}"
    if stage.tokens_computed != stage.tokens_in:
        tokens += f" → {stage.tokens_computed:,}"
    return (
        seconds(stage.seconds),
        f"{tokens} {UNITS[stage.name]}",
        "" if stage.flops is None else magnitude(stage.flops, 1000, "FLOP"),
        "" if stage.flops is None or not stage.flops_dense else f"{stage.flops / stage.flops_dense:.0%}",
        "" if stage.peak_memory is None else magnitude(stage.peak_memory, 1024, "B"),
    )


def savings(answer: "Answer") -> Iterable[str]:
    """The savings of compression as sentences, which say whether they were measured or computed."""
    saved, reused = answer.savings, sum(video.reused for video in answer.videos)
    if reused == len(answer.videos):
        yield "nothing was read or encoded: the cache had it"
    elif reused:
        yield f"of {reused} of {len(answer.videos)} inputs nothing was read or encoded: the cache had it"
    yield (
        f"computed: {saved.total_flops:.0%} of the uncompressed FLOPs in all, "
        f"{saved.cache_share:.0%} of the key-value cache"
    )
    yield from _reuse([video for video in answer.videos if not video.reused])
    if answer.quality:
        yield from _fidelity(answer.quality)
    if saved.baseline:
        yield from comparison(saved.baseline)


def _reuse(encoded: Sequence["VisualInput"]) -> Iterable[str]:
    """How many patches of what was `encoded` were taken over from earlier frames, if any."""
    if reused := sum(video.patches_reused for video in encoded):
        patches, computed = (sum(map(attrgetter(name), encoded)) for name in ("patches", "patches_computed"))
        yield f"{patches:,} patches: {reused:,} reused, {computed:,} computed to the end"


def _fidelity(quality: "Quality") -> Iterable[str]:
    """The quality that was asked for, and the one that was reached."""
    parts = [f"{quality.asked:g} asked"]
    if quality.expected is not None:
        parts.append(f"{quality.expected:.3f} expected")
    if quality.measured is not None:
        parts.append(
            f"{quality.measured:.3f} measured" + (f", missed by {quality.missed_by:.3f}" if quality.missed_by else "")
        )
    yield f"quality: {', '.join(parts)}; {quality.kept:.1%} of the patches were kept"


def comparison(baseline: "Baseline") -> Iterable[str]:
    """The compressed runs beside those of the uncompressed model."""
    pairs = "1 pair of runs" if baseline.pairs == 1 else f"{baseline.pairs} pairs of runs in turn"
    yield f"measured: times as fast as uncompressed, {pairs}, median (range)"
    for name, found in (("encode", baseline.encode), ("prefill", baseline.prefill), ("in all", baseline.total)):
        yield (
            f"  {name} {found.median:.2f}× ({found.low:.2f}–{found.high:.2f}), {found.verdict}: "
            f"{seconds(found.seconds)} against {seconds(found.seconds_dense)}"
        )
    same = "the same answer" if baseline.same_answer else f"uncompressed, the answer is {baseline.answer!r}"
    yield f"measured: similarity of the visual embeddings {baseline.similarity:.3f}; {same}"


def facts(answer: "Answer") -> Iterable[Text]:
    """The lines that `--verbose` adds: the model, and every video with its frames."""
    model = answer.model
    yield line(
        "model",
        f"{model.name}, {model.family}, {model.parameters:,} parameters, {model.device}, {model.dtype}, "
        f"{model.quantization or 'not quantised'}, {model.attention} attention, revision {model.revision or 'none'}",
    )
    for each in answer.videos:
        video, frames = each.video, each.frames
        if each.kind == "image":
            yield line("image", f"{video.path}, {video.width} × {video.height}, {video.codec}")
            yield line("frames", f"{frames.visual_tokens:,} visual tokens")
            continue
        yield line(
            "video",
            f"{video.path}, {seconds(video.duration)}, {video.width} × {video.height}, "
            f"{video.fps:.3g} frames per second, {video.codec} in {video.container}, read by {video.reader}",
        )
        times = ", ".join(f"{at:.2f}" for at in frames.times)
        yield line("frames", f"{times} s, {frames.visual_tokens:,} visual tokens")


def seconds(value: float) -> str:
    """A time with three digits or so.

    >>> seconds(0.0412), seconds(4.2), seconds(75)
    ('0.041 s', '4.20 s', '75.0 s')
    """
    return f"{value:.3f} s" if value < 1 else f"{value:.2f} s" if value < 10 else f"{value:.1f} s"


def magnitude(value: float, base: int, unit: str) -> str:
    """A large number with a prefix, in steps of `base`: 1,000 or 1,024.

    >>> magnitude(2_530_000, 1000, "FLOP"), magnitude(3 * 1024**3, 1024, "B")
    ('2.53 MFLOP', '3.00 GiB')
    """
    prefixes = ("", "k", "M", "G", "T", "P", "E")
    step = 0
    while value >= base and step + 1 < len(prefixes):
        value, step = value / base, step + 1
    return f"{value:.0f} {unit}" if step == 0 else f"{value:.2f} {prefixes[step]}{'i' if base == 1024 else ''}{unit}"
