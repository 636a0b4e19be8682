"""Build the prompt of a question about videos: token ids in the model's own chat template."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from ipcv.architecture.visual import VisualSpan
from ipcv.families import find_language
from ipcv.families.family import Language
from ipcv.media.frames import MediaKind
from ipcv.models.guard.template import render

TEXT, IMAGE, VIDEO = 0, 1, 2  # token types, as transformers numbers them
TYPES: dict[MediaKind, int] = {"image": IMAGE, "video": VIDEO}


@dataclass(frozen=True)
class Prompt:
    """A prompt with one placeholder per visual token."""

    ids: Tensor  # [1, length]
    types: Tensor  # [1, length], TEXT, IMAGE or VIDEO

    def only(self, rows: Tensor) -> "Prompt":
        """The tokens at the positions `rows` `[m]` alone."""
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
    shown: Sequence[VisualSpan],
    system: str | None = None,
    processor: str | None = None,
) -> Prompt:
    """The prompt for `question` behind the videos and images in `shown`. Errors as in `check_text`.

    Several inputs are numbered ("Video 1: ") if the model's template can do that. `processor` is the class that the
    model's files name, and decides how some families write times.
    """
    check_text(tokenizer, question, system)
    language = find_language(config.model_type)
    if language.placeholder in f"{question}\n{system}":
        raise ValueError(f"the text contains {language.placeholder!r}, which stands for a video: leave it out")
    parts: list[dict[str, str]] = [
        {"type": language.template_kind if each.kind == "video" else each.kind} for each in shown
    ]
    messages = [] if system is None else [_message("system", system)]
    messages.append(_message("user", question, parts))
    rendered = render(
        tokenizer, messages, language.chat_template, add_generation_prompt=True, add_vision_id=len(shown) > 1
    )
    text = _filled(rendered, language, shown, processor)
    if question.strip() not in rendered or (system or "").strip() not in rendered:
        raise ValueError("the model's chat template leaves out the question or the system prompt: leave the latter out")
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"][0]
    places, counts, types = _places(ids, config, language, shown)
    every, kinds = torch.ones_like(ids), torch.full_like(ids, TEXT)
    every[places], kinds[places] = counts, types
    return Prompt(ids.repeat_interleave(every)[None], kinds.repeat_interleave(every)[None])


def _message(role: str, text: str, before: Sequence[dict[str, str]] = ()) -> dict[str, Any]:
    """A message whose text is a list of parts, the only form that every template takes."""
    return {"role": role, "content": [*before, {"type": "text", "text": text}]}


def _filled(rendered: str, language: Language, shown: Sequence[VisualSpan], processor: str | None) -> str:
    """The rendered template, with the family's text in the place of each video and image."""
    video, image = language.placeholder, language.image_placeholder
    wanted = [video if each.kind == "video" else image for each in shown]
    places = re.compile("|".join(re.escape(place) for place in (video, image) if place))
    if (found := places.findall(rendered)) != wanted:
        kinds = ", ".join(each.kind for each in shown)
        raise ValueError(f"the model's chat template gives {len(found)} places for {kinds}")
    videos = (
        language.video_text(each.moments(language.moment), seconds=each.seconds, processor=processor)
        for each in shown
        if each.kind == "video"
    )
    still = language.image_text or language.image_placeholder
    texts = iter([next(videos) if each.kind == "video" else still for each in shown])
    return places.sub(lambda _: next(texts) or "", rendered)


def _places(
    ids: Tensor, config: PretrainedConfig, language: Language, shown: Sequence[VisualSpan]
) -> tuple[Tensor, Tensor, Tensor]:
    """Where `ids` `[n]` have placeholders of visual tokens: positions, tokens for each, and their type, all `[m]`."""
    kinds = [language.visual_kind if each.kind == "video" else each.kind for each in shown]
    counts, types = [], []
    for each, kind in zip(shown, kinds, strict=True):
        number = each.grid[0] if each.kind == "video" and language.frame_format else 1
        counts += [each.tokens // number] * number
        types += [TYPES[kind]] * number
        if each.kind == "video" and language.newline:
            counts.append(1)
            types.append(TEXT)
    tokens = torch.tensor([getattr(config, f"{kind}_token_id") for kind in dict.fromkeys(kinds)])
    places = torch.isin(ids, tokens).nonzero()[:, 0]
    if len(places) != len(counts):
        raise ValueError(f"the model's chat template gives {len(places)} visual tokens for {len(counts)} places")
    return places, torch.tensor(counts), torch.tensor(types)


def check_text(tokenizer: PreTrainedTokenizerBase, question: str, system: str | None = None) -> None:
    """Raise `ValueError` for an empty question, and for text with a control token of the model or half a character."""
    if not question.strip():
        raise ValueError("the question is empty")
    if broken := re.search("[\ud800-\udfff]", f"{question}\n{system or ''}"):
        raise ValueError(f"the text contains {broken[0]!r}, a byte or half that is no character: leave it out")
    for token in tokenizer.get_added_vocab():
        is_space = not token.strip("▁ \n\t")  # Gemma adds runs of spaces and line breaks to its vocabulary
        if not is_space and (token in question or token in (system or "")):
            raise ValueError(f"the text contains {token!r}, which the model reads as a control token: leave it out")
