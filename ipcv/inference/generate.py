"""The language model's part of an answer: prefill with visual embeddings, then one token at a time."""

from collections.abc import Callable, Iterator, Sequence
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
from ipcv.architecture.windows import every_kind, in_pieces, in_windows
from ipcv.errors import ModelError
from ipcv.families import find_language
from ipcv.models.prompt import TEXT, TYPES, Prompt


@dataclass
class Decoding:
    """A prompt in the cache, and the tokens that follow it. Decoding it alone uses the cache up."""

    cache: DynamicCache
    position: Tensor  # [3, 1, 1] of the first token behind the prompt, or [1, 1] where positions have no axes
    logits: Tensor  # [1, vocabulary] for that token
    seen: Tensor  # [1, length] ids of the prompt
    tokens: list[int] = field(default_factory=list)  # generated so far, without the end-of-sequence token
    held: dict[int, Tensor] = field(default_factory=dict)  # positions in the cache of each layer with a window


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
    kinds = {name: number for name, number in TYPES.items() if number in types}
    encoded = {name: language.as_encoder_output(visual[types == number]) for name, number in kinds.items()}
    inputs = {"input_ids": ids, "position_ids": positions, **encoder_outputs(encoded), **cache_argument(model, cache)}
    if not language.position_masks:
        with in_chunks(model, chunk):
            logits = next_logits(model, **inputs)
        return Decoding(cache, next_positions(positions), logits, ids)
    table = token_table(positions[0], (prompt.types[0] != TEXT).to(ids.device))
    with in_pieces(model, chunk) as held:
        logits = next_logits(model, **inputs, attention_mask=every_kind(model, table))
    return Decoding(cache, next_positions(positions), logits, ids, held=held)


def _with_newlines(model: PreTrainedModel, prompt: Prompt, visual: Visual, newline: Tensor) -> tuple[Visual, Tensor]:
    """`visual` with the newline behind each video, and the types of all these tokens.

    A newline counts as text wherever tokens are chosen, but has the id of a visual token, as transformers' processors
    write it.
    """
    types, kind = prompt.types[0].to(newline.device), TYPES["video"]
    seen = (types != TEXT) | (prompt.ids[0].to(newline.device) == model.config.video_token_id)
    is_newline = types[seen] == TEXT
    tokens = newline.to(visual.tokens.dtype).repeat(len(is_newline), 1)
    tokens[~is_newline] = visual.tokens
    return Visual(tokens, tokens.new_empty(0, *tokens.shape)), types[seen].masked_fill(is_newline, kind)


def decode(model: PreTrainedModel, decoding: Decoding, chooser: "Chooser", limit: int) -> Iterator[int]:
    """Up to `limit` tokens, one at a time, without the end-of-sequence token, after which it stops."""

    def step(token: Tensor, position: Tensor) -> Tensor:
        inputs = {"input_ids": token, "position_ids": position, **cache_argument(model, decoding.cache)}
        if decoding.held:
            inputs["attention_mask"] = every_kind(model, None)  # layers with a window get their own below
        with in_windows(model, decoding.held, position):
            return next_logits(model, **inputs)

    for _ in write(model, [decoding], [chooser], limit, step):
        yield decoding.tokens[-1]


def write(
    model: PreTrainedModel,
    decodings: Sequence[Decoding],
    choosers: Sequence["Chooser"],
    limit: int,
    step: Callable[[Tensor, Tensor], Tensor],
) -> Iterator[None]:
    """Choose up to `limit` tokens behind each of `decodings`, step by step together, and add them to its `tokens`.

    `step` gives the logits `[batch, vocabulary]` after one more token each, from their ids `[batch, 1]` and positions.
    Yields after each token.
    """
    logits = torch.cat([decoding.logits for decoding in decodings])
    position = torch.cat([decoding.position for decoding in decodings], dim=-2)  # [3, batch, 1], or [batch, 1]
    seen = [decoding.seen for decoding in decodings]
    ends, open_ = end_tokens(model), set(range(len(decodings)))
    last = torch.zeros(len(decodings), 1, dtype=torch.long, device=model.device)  # ended ones go on with anything
    for count in range(limit):
        for index in sorted(open_):
            token = choosers[index](seen[index], logits[index : index + 1])
            number = int(token)
            if number in ends:
                open_.remove(index)
                continue
            decodings[index].tokens.append(number)
            yield
            last[index] = token
            seen[index] = torch.cat([seen[index], token.view(1, 1)], dim=1)
        if not open_ or count + 1 == limit:
            return
        logits = step(last, position)
        position = position + 1


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
        """The id `[1]` of the token after `seen` `[1, length]`, from its `logits` `[1, vocabulary]`.

        Raises `ModelError` if they are no numbers: the likeliest token would be an arbitrary one.
        """
        if logits.isnan().any():
            raise ModelError(
                f"the model computes no numbers (NaN) in {str(logits.dtype).removeprefix('torch.')}: try another "
                "`dtype`; if it is the same, its files are damaged"
            )
        if self.penalty is not None:
            logits = self.penalty(seen, logits)
        if self.temperature == 0:
            return logits.argmax(-1)
        chances = (logits.float() / self.temperature).softmax(-1)
        return chances.multinomial(1, generator=self.generator)[0]


def pieces(tokenizer: PreTrainedTokenizerBase, tokens: Iterator[int]) -> Iterator[str]:
    """The text of `tokens` piece by piece as they come; no piece ends within a character."""
    stream = DecodeStream(skip_special_tokens=True)
    for token in tokens:
        if piece := stream.step(tokenizer.backend_tokenizer, token):
            yield piece


def next_logits(model: PreTrainedModel, **inputs: Any) -> Tensor:
    """A pass of the model over `inputs`: the logits `[batch, vocabulary]` for the token behind them."""
    logits: Tensor = model(**inputs, use_cache=True, logits_to_keep=1).logits[:, -1]
    return logits


def end_tokens(model: PreTrainedModel) -> set[int]:
    """The ids that end an answer."""
    ends = model.generation_config.eos_token_id if model.generation_config else None
    if ends is None:
        ends = model.config.get_text_config().eos_token_id
    return set(ends) if isinstance(ends, list) else {ends}
