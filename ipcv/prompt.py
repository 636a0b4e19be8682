"""A question about a video -> token ids, in the model's own chat template."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedTokenizerBase

TEXT, IMAGE, VIDEO = 0, 1, 2  # token types, as transformers numbers them


@dataclass(frozen=True)
class Prompt:
    """A prompt with one placeholder per visual token."""

    ids: Tensor  # [1, length]
    types: Tensor  # [1, length], TEXT, IMAGE or VIDEO

    def only(self, rows: Tensor) -> "Prompt":
        """The prompt with nothing but the tokens at the positions `rows` `[m]`."""
        return Prompt(self.ids[:, rows], self.types[:, rows])

    def rows(self, stays: Tensor) -> Tensor:
        """Positions `[m]`, ascending, of the text and of those visual tokens `[n]` that stay."""
        is_left = self.types[0] == TEXT
        is_left[self.types[0] != TEXT] = stays.to(is_left.device)
        return is_left.nonzero()[:, 0]


def build_prompt(
    tokenizer: PreTrainedTokenizerBase,
    config: PretrainedConfig,
    question: str,
    visual_tokens: int,
    system: str | None = None,
) -> Prompt:
    """The prompt for `question` after one video of `visual_tokens` merged tokens. Errors as in `check_text`."""
    check_text(tokenizer, question, system)
    messages: list[dict[str, Any]] = [] if system is None else [{"role": "system", "content": system}]
    messages.append({"role": "user", "content": [{"type": "video"}, {"type": "text", "text": question}]})
    rendered = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(rendered, add_special_tokens=False, return_tensors="pt")["input_ids"][0]
    (places,) = (ids == config.video_token_id).nonzero(as_tuple=True)
    if len(places) != 1:
        raise ValueError(f"the model's chat template gives {len(places)} places for one video")
    counts = torch.ones_like(ids)
    counts[places] = visual_tokens
    ids = ids.repeat_interleave(counts)[None]
    return Prompt(ids, torch.where(ids == config.video_token_id, VIDEO, TEXT))


def check_text(tokenizer: PreTrainedTokenizerBase, question: str, system: str | None = None) -> None:
    """Raise `ValueError` for an empty question, and for text with one of the model's control tokens in it."""
    if not question.strip():
        raise ValueError("the question is empty")
    for token in tokenizer.get_added_vocab():
        if token in question or token in (system or ""):
            raise ValueError(f"the text contains {token!r}, which the model reads as a control token: leave it out")
