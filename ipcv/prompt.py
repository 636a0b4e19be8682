"""A question about a video -> token ids, in the model's own chat template."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from ipcv.families import find_language

TEXT, IMAGE, VIDEO = 0, 1, 2  # token types, as transformers numbers them
TYPES = {"image": IMAGE, "video": VIDEO}


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
    times: Sequence[float],
    tokens: int,
    system: str | None = None,
) -> Prompt:
    """The prompt for `question` after one video, in its model's own form. Errors as in `check_text`.

    `times` are those of the video's temporal patches, in seconds; each has as many visual `tokens`.
    """
    check_text(tokenizer, question, system)
    language = find_language(config.model_type)
    messages: list[dict[str, Any]] = [] if system is None else [{"role": "system", "content": system}]
    messages.append({"role": "user", "content": [{"type": "video"}, {"type": "text", "text": question}]})
    rendered: Any = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    if (found := rendered.count(language.placeholder)) != 1:
        raise ValueError(f"the model's chat template gives {found} places for one video")
    shown = rendered.replace(language.placeholder, language.text(times))
    ids = tokenizer(shown, add_special_tokens=False, return_tensors="pt")["input_ids"][0]
    is_visual = ids == getattr(config, f"{language.kind}_token_id")
    if not (places := int(is_visual.sum())) or len(times) % places:
        raise ValueError(f"the model's chat template gives {places} visual tokens for {len(times)} temporal patches")
    counts = torch.where(is_visual, tokens * len(times) // places, 1)
    types = torch.where(is_visual, TYPES[language.kind], TEXT)
    return Prompt(ids.repeat_interleave(counts)[None], types.repeat_interleave(counts)[None])


def check_text(tokenizer: PreTrainedTokenizerBase, question: str, system: str | None = None) -> None:
    """Raise `ValueError` for an empty question, and for text with one of the model's control tokens in it."""
    if not question.strip():
        raise ValueError("the question is empty")
    for token in tokenizer.get_added_vocab():
        if token in question or token in (system or ""):
            raise ValueError(f"the text contains {token!r}, which the model reads as a control token: leave it out")
