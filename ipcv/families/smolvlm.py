"""SmolVLM2: frames of one size through a SigLIP; the prompt introduces the video and gives each frame's clock time."""

from datetime import timedelta
from typing import Any

from torch import Tensor

from ipcv.architecture import positions
from ipcv.architecture.encoder import Encoder
from ipcv.architecture.fixed_size import StillSettings
from ipcv.architecture.grids import Grid
from ipcv.architecture.shapes import VisionShape
from ipcv.architecture.visual import Visual
from ipcv.families import framed, siglip
from ipcv.families.family import Family, Language

# What transformers' processor puts in place of the chat template in the model's files, which knows no videos: the same
# text, written anew.
TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{ message.role | capitalize }}:"
    "{{ '' if message.content[0].type == 'image' else ' ' }}"
    "{% for part in message.content %}{{ part.text if part.type == 'text' else '<' ~ part.type ~ '>' }}{% endfor %}"
    "<end_of_utterance>\n{% endfor %}{{ 'Assistant:' if add_generation_prompt }}"
)
FRAME = "\nFrame from {clock}:<fake_token_around_image><global-img><image><fake_token_around_image>"
BELOW_TWENTY = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")


def introduction(frames: int, seconds: float) -> str:
    """The sentence ahead of a video of so many `seconds`, of which the model sees `frames`."""
    length = timedelta(seconds=int(seconds))
    return f"You are provided the following series of {in_words(frames)} frames from a {length} [H:MM:SS] video.\n"


def in_words(number: int) -> str:
    """A number below a million in English words.

    >>> in_words(2064)
    'two thousand and sixty-four'
    """
    if number < 20:
        return BELOW_TWENTY[number]
    if number < 100:
        ten, one = divmod(number, 10)
        return TENS[ten - 2] + (f"-{in_words(one)}" if one else "")
    size, name = (100, "hundred") if number < 1000 else (1000, "thousand")
    many, rest = divmod(number, size)
    between = " and " if rest < 100 else ", "
    return f"{in_words(many)} {name}" + (between + in_words(rest) if rest else "")


def encoder(model: Any) -> Encoder:
    """The encoder of `model`."""
    return siglip.encoder(model.model.vision_model)


def shape(config: Any) -> VisionShape:
    """The encoder's sizes in a configuration."""
    return siglip.shape(
        config.vision_config,
        merge=config.scale_factor**2,
        hidden_width=0,
        out_width=config.get_text_config().hidden_size,
    )


def encode(model: Any, pixels: Tensor, _: Grid) -> Visual:
    """Frames `[n, 3, height, width]` through the encoder; the model's own `get_image_features` may drop black ones."""
    states = model.model.vision_model(pixels.to(model.dtype)).last_hidden_state
    return framed.visual(model.model.connector(states).flatten(0, 1))


FAMILY = Family(
    encoder=encoder,
    language=Language(
        placeholder="<video>",
        image_placeholder=None,
        frame_format=FRAME,
        introduction=introduction,
        ending="\n\n",
        chat_template=TEMPLATE,
        visual_kind="image",
        settings=lambda folder, config: StillSettings.from_folder(
            folder, config.vision_config, merge=config.scale_factor
        ),
        encode=encode,
        as_encoder_output=framed.as_encoder_output,
        positions=positions.of_text,
        unquantized=("model.vision_model", "model.connector", "lm_head"),
        vision=shape,
    ),
)
