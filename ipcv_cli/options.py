"""The options that commands share.

Where an option was not given it is `None` and the library's default applies; the help only repeats that default.
"""

from typing import Annotated, Any, Literal

import typer

from ipcv_cli import completion

DEFAULT_MODEL = "Qwen/Qwen2-VL-2B-Instruct"
INPUT, MODEL, FRAMES, COMPRESSION = "Videos", "Model", "Frames", "Compression"  # panels of the help
ANSWER, OUTPUT = "Answer", "Output"


def option(panel: str, text: str, *names: str, metavar: str | None = "", default: str | None = None) -> Any:
    """A Typer option in a panel of the help. `default` is what the library does when the option is not given."""
    if default:
        text += rf" [dim]\[default: {default}][/dim]"
    return typer.Option(*names, rich_help_panel=panel, help=text, metavar=metavar)


ModelName = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME",
        autocompletion=completion.asked,
        rich_help_panel=MODEL,
        help="A repository on the Hugging Face hub, fetched on first use (later, `ipcv models pull` updates it; "
        "`ipcv models` lists some); a folder; or demo, which is bundled and knows only its own little world.",
    ),
]
Revision = Annotated[
    str | None, option(MODEL, "Branch, tag or commit of the repository.", "--revision", metavar="NAME")
]
Offline = Annotated[bool, option(MODEL, "Make no network call.", "--offline")]
Device = Annotated[str, option(MODEL, "auto, cpu, cuda, cuda:1, mps or xpu.", "--device", metavar="NAME")]
Dtype = Annotated[
    Literal["auto", "float32", "bfloat16", "float16"],
    option(
        MODEL,
        "auto: bfloat16 on an accelerator (float16 on a CUDA GPU without it), float32 on the CPU, where bfloat16 takes "
        "half the memory and more time.",
        "--dtype",
        metavar=None,
    ),
]
Quant = Annotated[
    Literal["auto", "4bit", "8bit", "none"],
    option(
        MODEL,
        "Quantise the language model's linear layers. auto: 4bit on CUDA and XPU, none elsewhere.",
        "--quant",
        metavar=None,
    ),
]
Fit = Annotated[
    bool,
    option(
        MODEL,
        "Before loading, choose quantisation, frame batch, pixels and visual tokens for the memory that is free; what "
        "the other options say is not exceeded.",
        "--fit",
    ),
]

Fps = Annotated[
    float | None, option(FRAMES, "Frames to take per second of source time.", "--fps", metavar="N", default="2")
]
MaxFrames = Annotated[
    int | None,
    option(FRAMES, "At most this many, evenly over the clip.", "--max-frames", metavar="N", default="64"),
]
Start = Annotated[
    str | None,
    option(FRAMES, "Begin here, in source time: 90, 1:30 or 0:01:30.5.", "--start", metavar="TIME"),
]
End = Annotated[str | None, option(FRAMES, "End here.", "--end", metavar="TIME")]
MaxPixels = Annotated[
    int | None,
    option(FRAMES, "Pixels per frame after resizing.", "--max-pixels", metavar="N", default="200704 (448 × 448)"),
]
_LOWERED = (
    "without, what the model's context leaves. If it binds, these are lowered in turn: frames to one per second, "
    "pixels to 128 tokens a picture, what stays of them to a quarter, frames, pixels."
)
MaxVisualTokens = Annotated[
    int | None, option(FRAMES, f"Of all videos together; {_LOWERED}", "--max-visual-tokens", metavar="N")
]
MaxVisualTokensEach = Annotated[
    int | None, option(FRAMES, f"Of each video, or segment; {_LOWERED}", "--max-visual-tokens", metavar="N")
]
FrameBatch = Annotated[
    int | None,
    option(
        FRAMES,
        "Frames encoded at a time: fewer need less memory. Kept tokens are chosen within a batch.",
        "--frame-batch",
        metavar="N",
        default="16",
    ),
]

System = Annotated[
    str | None,
    option(ANSWER, "System prompt, in place of the model's own.", "--system", metavar="TEXT"),
]
MaxNewTokens = Annotated[
    int | None,
    option(ANSWER, "Cut the answer off after this many tokens.", "--max-new-tokens", metavar="N", default="512"),
]
Temperature = Annotated[
    float | None,
    option(ANSWER, "0: always the likeliest token; above: more variety.", "--temperature", metavar="T", default="0"),
]
Seed = Annotated[int | None, option(ANSWER, "For temperatures above 0.", "--seed", metavar="N", default="0")]

Json = Annotated[bool, option(OUTPUT, "Print one JSON object; ipcv schema describes it.", "--json")]
JsonStream = Annotated[bool, option(OUTPUT, "Print a JSON line for everything that happens.", "--json-stream")]
Quiet = Annotated[bool, option(OUTPUT, "Only the answer and errors; JSON keeps the warnings.", "--quiet", "-q")]
Verbose = Annotated[bool, option(OUTPUT, "Also model, video and frames, on stderr.", "--verbose", "-v")]
Debug = Annotated[bool, option(OUTPUT, "Show the traceback of an error.", "--debug")]
NoColor = Annotated[bool, option(OUTPUT, "No colours on stderr, as with NO_COLOR set.", "--no-color")]
