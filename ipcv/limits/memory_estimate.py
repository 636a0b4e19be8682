"""How much memory a model and its work need, estimated from its files and its configuration: nothing is loaded."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ipcv.architecture.shapes import CHUNK, TextShape, VisionShape
from ipcv.compression.pruners.decoder_flops import BLOCK, cache_bytes
from ipcv.errors import ModelError, first_line
from ipcv.families import find_language
from ipcv.limits.budget import KEEP, PICTURE
from ipcv.limits.context import picture_text
from ipcv.models.guard.folder import weight_files
from ipcv.models.placement import prequantized
from ipcv.models.tokenizer import read_processor, read_tokenizer

BYTES = {"8bit": 1.1, "4bit": 0.56}  # per parameter of a quantised layer, scales included
AS_STORED = ("bitsandbytes", "gptq", "awq")  # whose packed weights take as much in memory as in the file
_WIDTHS = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2}
_FLOATS = ("F64", "F32", "F16", "BF16")  # of weights that become numbers of the width that is asked for
_PACKING = (".weight.", ".SCB")  # in the names of tensors that belong to packed weights, and stay as they are


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """A model's sizes, as far as memory depends on them."""

    plain: int  # parameters that are never quantised, or not any more
    linear: int  # those of the language model's linear layers
    packed: int = 0  # bytes of what is quantised already
    vision: VisionShape
    text: TextShape
    picture: int = 0  # tokens of text that a prompt has for each picture
    context: int  # tokens

    @classmethod
    def of(cls, folder: Path, config: Any) -> "Sizes":
        """The sizes of the model in `folder`, from the headers of its weights.

        Raises `ValueError` if they are quantised in a way that does not say how large they will be, `ModelError` if
        they cannot be read.
        """
        method, language = prequantized(config), find_language(config.model_type)
        if method and method not in AS_STORED:
            raise ValueError(
                f"`fit` does not know how much memory weights quantised by {method} need: some devices unpack them, "
                f"unlike those of {', '.join(AS_STORED)}; leave it out"
            )
        whole = tuple(name.removeprefix("model.") for name in language.unquantized)  # files may have names without it
        counts: Counter[str] = Counter(plain=0, linear=0, packed=0)
        for name, shape, kind in _tensors(folder):
            if method and (kind not in _FLOATS or any(sign in name for sign in _PACKING)):
                counts["packed"] += math.prod(shape) * _WIDTHS.get(kind, 1)
                continue
            is_linear = (
                ".layers." in name
                and not any(part in name for part in (".experts.", ".mlp.gate."))  # tensors once loaded
                and len(shape) == 2
                and not name.removeprefix("model.").startswith(whole)
            )
            counts["linear" if is_linear and not method else "plain"] += math.prod(shape)
        text, processor = config.get_text_config(), read_processor(folder)
        tokenizer = read_tokenizer(folder, config, processor)
        return cls(
            **counts,
            vision=language.vision(config),
            text=language.decoder(text),
            picture=picture_text(tokenizer, config.model_type, processor).by_digits[-1],
            context=text.max_position_embeddings,
        )

    def weights(self, width: int, quant: str) -> int:
        """Bytes of the parameters in numbers of `width` bytes."""
        return self.packed + self.plain * width + int(self.linear * BYTES.get(quant, width))

    def encoding(self, width: int, patches: int) -> int:
        """Bytes for a frame batch of so many `patches` on its way through the encoder: an estimate from above."""
        pixels = 3 * 4 * self.vision.patch_values  # as numbers, in order, and as patches
        states = width * (12 * self.vision.width + 2 * self.vision.mlp_width)
        return patches * (pixels + states)

    def carried(self, width: int, patches: int) -> int:
        """Bytes that a compressor which reuses patches holds from batch to batch, of frames of so many `patches`.

        Of two slices: the one that a batch goes on from, and the one that it leaves for the next.
        """
        vision = self.vision
        states = 2 * vision.blocks + len(vision.deepstack) + 2  # keys and values; DeepStack's; the choice's, the output
        pixels = 2 * 4 * vision.patch_values  # as last computed, and of the last whole slice
        return 2 * (patches + vision.head) * (width * states * vision.width + pixels)

    def prompting(self, width: int, visual: int, batch_size: int | None = None) -> int:
        """Bytes for a prompt of so many `visual` tokens, left of up to four times as many: an estimate from above.

        With a `batch_size`: for so many prompts in their caches, whose answers are then written together.
        """
        text = self.text
        tokens = visual + math.ceil(visual / (PICTURE * KEEP)) * self.picture  # a picture has few of them at the least
        embeddings = int(visual / KEEP) * text.width * width
        cache = cache_bytes(text, tokens, tokens, width=width)
        held = embeddings + cache if batch_size is None else batch_size * (embeddings + 2 * cache)  # padded copies
        states = 4 * tokens * text.width * width
        rows = min(tokens, CHUNK)
        chunk = rows * width * (8 * text.width + 4 * text.query_width + 3 * text.mlp_width) + rows * tokens * 8
        return held + states + max(chunk, _linear_bytes(text, rows))


def _tensors(folder: Path) -> Iterator[tuple[str, list[int], str]]:
    """Name, shape and kind of number of each tensor, by the headers of the weights. Raises `ModelError`."""
    for weights in weight_files(folder):
        try:
            with safe_open(folder / weights, "pt") as file:
                for name in file.keys():  # noqa: SIM118 - it is no dict
                    part = file.get_slice(name)
                    yield name, part.get_shape(), part.get_dtype()
        except (OSError, SafetensorError) as error:
            raise ModelError(f"cannot load the model in {str(folder)!r}: {weights}: {first_line(error)}") from error


def _linear_bytes(text: TextShape, rows: int) -> int:
    """Bytes for so many `rows` on their way through a layer with linear attention, which computes in float32."""
    if (part := text.linear) is None:
        return 0
    return rows * 4 * (2 * part.convolved + part.heads * (8 * part.key_size + 5 * part.value_size + 6 * BLOCK))
