"""The language model's half: prefill with visual embeddings, then one token at a time."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from tokenizers.decoders import DecodeStream
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase, RepetitionPenaltyLogitsProcessor

from ipcv.architecture.internals import cache_argument, encoder_outputs
from ipcv.architecture.masks import token_table
from ipcv.architecture.positions import next_positions
from ipcv.architecture.prefill import in_chunks
from ipcv.architecture.shapes import CHUNK
from ipcv.architecture.visual import Visual
from ipcv.architecture.windows import in_pieces, in_windows, masks
from ipcv.families import find_language
from ipcv.models.prompt import TEXT, TYPES, Prompt


@dataclass
class Decoding:
    """A prompt in the cache, and the tokens that follow it."""

    cache: DynamicCache
    position: Tensor  # [3, 1, 1] of the next token, or [1, 1] where positions have no axes
    logits: Tensor  # [1, vocabulary] for the next token
    seen: Tensor  # [1, length] ids of the prompt and all tokens since
    tokens: list[int] = field(default_factory=list)  # generated so far, without the end-of-sequence token
    held: dict[int, Tensor] = field(default_factory=dict)  # by layer with a window, positions of what its cache holds


def prefill(
    model: PreTrainedModel, prompt: Prompt, visual: Visual, positions: Tensor, *, chunk: int = CHUNK
) -> Decoding:
    """Run the prompt with `visual` in place of its visual tokens; `positions` are `[3, 1, length]` or `[1, length]`.

    A prompt of more than `chunk` tokens goes through the layers in chunks of so many, which cut no picture whose tokens
    attend to each other.
    """
    ids, language = prompt.ids.to(model.device), find_language(model.config.model_type)
    cache = DynamicCache(config=model.config.get_text_config())
    types = prompt.types[prompt.types != TEXT].to(visual.tokens.device)
    if language.newline:
        visual, types = _with_newlines(model, prompt, visual, language.newline(model))
    encoded = {name: language.taken(visual[types == number]) for name, number in TYPES.items() if number in types}
    inputs = {"input_ids": ids, "position_ids": positions, **encoder_outputs(encoded), **cache_argument(model, cache)}
    if not language.reach:
        with in_chunks(model, chunk):
            output = _forward(model, **inputs)
        return Decoding(cache, next_positions(positions), output.logits[:, -1], ids)
    told = token_table(positions[0], (prompt.types[0] != TEXT).to(ids.device))
    with in_pieces(model, chunk) as held:
        output = _forward(model, **inputs, attention_mask=masks(model, told))
    return Decoding(cache, next_positions(positions), output.logits[:, -1], ids, held=held)


def _with_newlines(model: PreTrainedModel, prompt: Prompt, visual: Visual, newline: Tensor) -> tuple[Visual, Tensor]:
    """`visual` with the newline behind each video, and all their types.

    It is text to all that chooses tokens, but has the id of a visual one, as transformers' processors write it.
    """
    types, kind = prompt.types[0].to(newline.device), TYPES["video"]
    seen = (types != TEXT) | (prompt.ids[0].to(newline.device) == model.config.video_token_id)
    is_newline = types[seen] == TEXT
    tokens = newline.to(visual.tokens.dtype).repeat(len(is_newline), 1)
    tokens[~is_newline] = visual.tokens
    return Visual(tokens, tokens.new_empty(0, *tokens.shape)), types[seen].masked_fill(is_newline, kind)


def decode(model: PreTrainedModel, decoding: Decoding, chooser: "Chooser", limit: int) -> Iterator[int]:
    """Up to `limit` tokens, one at a time, without the end-of-sequence token, after which it stops."""
    ends = end_tokens(model)
    for count in range(limit):
        token = chooser(decoding.seen, decoding.logits)
        number = int(token)
        if number in ends:
            return
        decoding.tokens.append(number)
        yield number
        if count + 1 < limit:
            step = token.view(1, 1)
            decoding.seen = torch.cat([decoding.seen, step], dim=1)
            inputs = {"input_ids": step, "position_ids": decoding.position, **cache_argument(model, decoding.cache)}
            if decoding.held:
                inputs["attention_mask"] = masks(model, None)  # layers with a window get their own below
            with in_windows(model, decoding.held, decoding.position):
                output = _forward(model, **inputs)
            decoding.logits, decoding.position = output.logits[:, -1], decoding.position + 1


class Chooser:
    """Picks the next token: the likeliest, or at a `temperature` above 0 a random one with a generator of its own.

    The model's own repetition penalty applies, if its generation settings name one.
    """

    def __init__(self, model: PreTrainedModel, temperature: float, seed: int) -> None:
        self.temperature = temperature
        self.generator = torch.Generator(model.device).manual_seed(seed)
        penalty = getattr(model.generation_config, "repetition_penalty", None)
        self.penalty = RepetitionPenaltyLogitsProcessor(penalty) if penalty and penalty != 1 else None

    def __call__(self, seen: Tensor, logits: Tensor) -> Tensor:
        """The id `[1]` of the token after `seen` `[1, length]`, from its `logits` `[1, vocabulary]`."""
        if self.penalty is not None:
            logits = self.penalty(seen, logits)
        if self.temperature == 0:
            return logits.argmax(-1)
        chances = (logits.float() / self.temperature).softmax(-1)
        return chances.multinomial(1, generator=self.generator)[0]


def pieces(tokenizer: PreTrainedTokenizerBase, tokens: Iterator[int]) -> Iterator[str]:
    """The text of `tokens` as it grows: no piece ends within a character."""
    stream = DecodeStream(skip_special_tokens=True)
    for token in tokens:
        if piece := stream.step(tokenizer.backend_tokenizer, token):
            yield piece


def _forward(model: PreTrainedModel, **inputs: Any) -> Any:
    return model(**inputs, use_cache=True, logits_to_keep=1)


def end_tokens(model: PreTrainedModel) -> set[int]:
    """The ids that end an answer."""
    ends = model.generation_config.eos_token_id if model.generation_config else None
    if ends is None:
        ends = model.config.get_text_config().eos_token_id
    return set(ends) if isinstance(ends, list) else {ends}
