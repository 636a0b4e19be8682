"""Options that commands share about how work is saved: in the encoder, in the prompt, in the language model."""

from typing import TYPE_CHECKING, Annotated, Literal

from ipcv.compression.compressors.presets import PRESETS
from ipcv.compression.registry import names
from ipcv_cli import options as opt

if TYPE_CHECKING:
    CompressorName = str
    ReducerName = str
    PrunerName = str
    PresetName = str
else:  # the registered methods
    CompressorName = Literal[names("compressor")]
    ReducerName = Literal[(*names("reducer"), "none")]
    PrunerName = Literal[(*names("pruner"), "none")]
    PresetName = Literal[tuple(PRESETS)]

NoCompress = Annotated[
    bool,
    opt.option(
        opt.COMPRESSION, "The plain model: nothing is pruned, in the encoder or in the language model.", "--no-compress"
    ),
]
Method = Annotated[
    CompressorName | None,
    opt.option(
        opt.COMPRESSION,
        "How the encoder saves work; `ipcv methods` describes each method.",
        "--method",
        metavar=None,
        default="coverage",
    ),
]
Preset = Annotated[
    PresetName | None,
    opt.option(
        opt.COMPRESSION,
        "How much work the encoder saves: ready-made settings, which the options below can change one by one.",
        "--preset",
        metavar=None,
        default="balanced",
    ),
]
Keep = Annotated[
    float | None,
    opt.option(
        opt.COMPRESSION,
        "Of the visual tokens that are not reused, the share that the encoder's later blocks compute. 1: all.",
        "--keep",
        metavar="SHARE",
        default="0.5 (tome: 0.5)",
    ),
]
Quality = Annotated[
    float | None,
    opt.option(
        opt.COMPRESSION,
        "In place of --keep: keep as few as needed for this fidelity (0 to 1, estimated) of the encoder's output.",
        "--quality",
        metavar="Q",
    ),
]
Layer = Annotated[
    int | None,
    opt.option(opt.COMPRESSION, "First encoder block on fewer tokens.", "--layer", metavar="N", default="2 (paper: 3)"),
]
Stabilize = Annotated[
    str | None,
    opt.option(
        opt.COMPRESSION,
        "Blocks from there on whose attention still sees every token, or all.",
        "--stabilize",
        metavar="N",
        default="all (paper: 7)",
    ),
]
Neighbors = Annotated[
    int | None,
    opt.option(
        opt.COMPRESSION,
        "Kept tokens that rebuild a dropped one.",
        "--neighbors",
        metavar="N",
        default="4 (paper: 10)",
    ),
]
Stabilizer = Annotated[
    Literal["states", "neighbors"] | None,
    opt.option(
        opt.COMPRESSION,
        "Keys and values of a dropped token: from its rebuilt state, or the mean of its kept neighbours'.",
        "--stabilizer",
        metavar=None,
        default="neighbors (with a number of --stabilize: states)",
    ),
]
Reuse = Annotated[
    float | None,
    opt.option(
        opt.COMPRESSION,
        "In a video, compute a patch only if it changed by this share of black to white. 0: every patch.",
        "--reuse",
        metavar="SHARE",
        default="0.1 (with a number of --stabilize: 0)",
    ),
]
Reducer = Annotated[
    ReducerName | None,
    opt.option(
        opt.COMPRESSION, "What leaves visual tokens out of the prompt.", "--reducer", metavar=None, default="none"
    ),
]
ReducerKeep = Annotated[
    float | None,
    opt.option(
        opt.COMPRESSION,
        "Share of visual tokens that stays in it; without, evs keeps half, vidcom2 a quarter, dtd what changes.",
        "--reducer-keep",
        metavar="SHARE",
    ),
]
LlmPruner = Annotated[
    PrunerName | None,
    opt.option(
        opt.COMPRESSION,
        "What prunes visual tokens in the language model; v2drop does so in three layers, as published.",
        "--llm-pruner",
        metavar=None,
        default="none",
    ),
]
LlmKeep = Annotated[
    float | None,
    opt.option(
        opt.COMPRESSION,
        "Share of visual tokens that the language model's later layers see; without, dart and fastv keep half.",
        "--llm-keep",
        metavar="SHARE",
    ),
]
LlmLayer = Annotated[
    int | None,
    opt.option(
        opt.COMPRESSION, "First of its layers on fewer tokens; without, 3 (Qwen3.5: 4).", "--llm-layer", metavar="N"
    ),
]
WithBaseline = Annotated[
    bool,
    opt.option(opt.COMPRESSION, "Also run uncompressed: measure the speed-up and what compression cost.", "--baseline"),
]
