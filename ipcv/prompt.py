"""A question about a video -> token ids, in the model's own chat template."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from ipcv.probe import Kind

TEXT, IMAGE, VIDEO = 0, 1, 2  # token types, as transformers numbers them
TYPES: dict[Kind, int] = {"image": IMAGE, "video": VIDEO}


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
    visual: Sequence[tuple[Kind, int]],
    system: str | None = None,
) -> Prompt:
    """The prompt for `question` after videos and images, each of so many visual tokens. Errors as in `check_text`.

    Several ones are numbered ("Video 1: "), where the model's template can do that.
    """
    check_text(tokenizer, question, system)
    messages: list[dict[str, Any]] = [] if system is None else [{"role": "system", "content": system}]
    parts = [{"type": kind} for kind, _ in visual]
    messages.append({"role": "user", "content": [*parts, {"type": "text", "text": question}]})
    rendered = tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True, add_vision_id=len(visual) > 1
    )
    ids = tokenizer(rendered, add_special_tokens=False, return_tensors="pt")["input_ids"][0]
    types = torch.where(ids == config.video_token_id, VIDEO, torch.where(ids == config.image_token_id, IMAGE, TEXT))
    places = types.nonzero()[:, 0]
    if types[places].tolist() != [TYPES[kind] for kind, _ in visual]:
        raise ValueError(
            f"the model's chat template gives {len(places)} places for {', '.join(kind for kind, _ in visual)}"
        )
    counts = torch.ones_like(ids)
    counts[places] = torch.tensor([count for _, count in visual])
    return Prompt(ids.repeat_interleave(counts)[None], types.repeat_interleave(counts)[None])


def check_text(tokenizer: PreTrainedTokenizerBase, question: str, system: str | None = None) -> None:
    """Raise `ValueError` for an empty question, and for text with one of the model's control tokens in it."""
    if not question.strip():
        raise ValueError("the question is empty")
    for token in tokenizer.get_added_vocab():
        if token in question or token in (system or ""):
            raise ValueError(f"the text contains {token!r}, which the model reads as a control token: leave it out")
