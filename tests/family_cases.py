"""Every family: a tiny model of it, itself written naively, and prompts through both."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import oracle
import oracle_families
import oracle_gemma
import oracle_glm
import oracle_qwen3_5
import oracle_rivals
import oracle_siglip
import tiny
import tiny_gemma
import tiny_glm
import tiny_qwen3_5
import tiny_siglip
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DynamicCache
from transformers.modeling_outputs import BaseModelOutputWithPooling

from ipcv import Dart, FastV, V2Drop
from ipcv.architecture.visual import Visual, VisualSpan
from ipcv.compression.pruners.pruner import Pruner
from ipcv.families import find_language
from ipcv.inference.generate import decode, prefill
from ipcv.models.prompt import TEXT, TYPES, Prompt

Grids = list[tuple[int, int, int]]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A family, a tiny model of it, and itself written naively."""

    build: Callable[[], Any]
    encoder: type[oracle.Encoder]
    language: type[oracle.LanguageModel] = oracle.LanguageModel
    places: Callable[..., list[oracle.Place]] = oracle_families.places  # of a prompt, as in `ask`
    words: int = 0  # of text between two temporal patches
    one: Grids = field(default_factory=lambda: [(3, 8, 6)])
    several: Grids = field(default_factory=lambda: [(2, 6, 10), (1, 6, 4), (3, 4, 4)])  # all in one pass
    large: Grids = field(default_factory=lambda: [(1, 8, 12), (3, 16, 14)])
    grid: tuple[int, int, int] = (5, 6, 4)  # more patches in time than on the larger side: transformers is wrong there
    step: int = tiny.FRAMES  # frames in a temporal patch
    like: str | None = None  # the case whose encoder this is: compression is compared with the naive one there alone
    linear_layers: tuple[int, ...] = ()  # layers of the language model that have a state in place of keys

    def placed(self, pruner: Any) -> Any:
        """A pruner, at a layer behind one with keys if it needs that."""
        if isinstance(pruner, Dart | FastV) and pruner.layer and pruner.layer - 1 in self.linear_layers:
            return replace(pruner, layer=pruner.layer + 1)
        return pruner

    def input(self, grids: Grids, seed: int = 0) -> Tensor:
        """What the encoder takes."""
        return tiny.patches(grids, seed)

    def encode(self, model: Any, grids: Grids, seed: int = 0) -> Any:
        """What it gives."""
        return model.model.visual(self.input(grids, seed), grid_thw=torch.tensor(grids))


class StillCase(Case):
    """A family that takes frames of one size as they are."""

    def input(self, grids: Grids, seed: int = 0) -> Tensor:
        ((frames, rows, columns),) = grids
        size = (frames, tiny.CHANNELS, rows * tiny.PATCH, columns * tiny.PATCH)
        return torch.randn(size, generator=torch.Generator().manual_seed(seed))

    def encode(self, model: Any, grids: Grids, seed: int = 0) -> Any:
        return model.get_image_features(self.input(grids, seed))


class FrameCase(Case):
    """A family that has its encoder take every temporal patch as an image."""

    def encode(self, model: Any, grids: Grids, seed: int = 0) -> Any:
        output = model.get_video_features(self.input(grids, seed), video_grid_thw=torch.tensor(grids))
        output.pooler_output = torch.cat(output.pooler_output)
        return output


class SiglipCase(StillCase):
    """The same with pixels behind the last patch."""

    def input(self, grids: Grids, seed: int = 0) -> Tensor:
        return F.pad(super().input(grids, seed), (0, 2, 0, 2), value=9.0)


class LlavaCase(SiglipCase):
    """As a video, behind which is a newline."""

    def encode(self, model: Any, grids: Grids, seed: int = 0) -> Any:
        output = model.get_video_features(self.input(grids, seed)[None])
        return BaseModelOutputWithPooling(
            last_hidden_state=output.hidden_states[-1], pooler_output=output.pooler_output[:, :-1]
        )


class SmolCase(SiglipCase):
    """As a prompt's pictures, read behind a norm."""

    def encode(self, model: Any, grids: Grids, seed: int = 0) -> Any:
        output = model.get_image_features(self.input(grids, seed)[None], output_hidden_states=True)
        return BaseModelOutputWithPooling(
            last_hidden_state=output.hidden_states[-1], pooler_output=torch.cat(list(output.pooler_output))
        )


CASES = {
    "qwen2_vl": Case(build=tiny.qwen2_vl, encoder=oracle.Encoder),
    "qwen2_5_vl": Case(
        build=tiny.qwen2_5_vl, encoder=oracle_families.Qwen25Encoder, places=oracle_families.timed_places
    ),
    "qwen3_vl": Case(
        build=tiny.qwen3_vl,
        encoder=oracle_families.Qwen3Encoder,
        language=oracle_families.Qwen3Language,
        places=oracle_families.framed_places,
        words=4,
    ),
    "qwen3_vl_moe": Case(
        build=tiny.qwen3_vl_moe,
        encoder=oracle_families.Qwen3Encoder,
        language=oracle_families.Qwen3MoeLanguage,
        places=oracle_families.framed_places,
        words=4,
    ),
}
CASES["qwen3_5"] = Case(
    build=tiny_qwen3_5.qwen3_5,
    encoder=oracle_qwen3_5.Encoder,
    language=oracle_qwen3_5.Language,
    places=oracle_families.framed_places,
    words=4,
    linear_layers=(0, 2, 4),
)
CASES["qwen3_5_moe"] = replace(CASES["qwen3_5"], build=tiny_qwen3_5.qwen3_5_moe, language=oracle_qwen3_5.MoeLanguage)
CASES["internvl"] = StillCase(
    build=tiny.internvl,
    encoder=oracle_families.InternVLEncoder,
    language=oracle_families.InternVLLanguage,
    places=oracle_families.plain_places,
    words=3,
    one=[(1, 8, 8)],
    several=[(4, 8, 8)],
    large=[(5, 8, 8)],
    grid=(5, 8, 8),
    step=1,
)
CASES["glm4v"] = FrameCase(
    build=tiny_glm.glm4v,
    encoder=oracle_glm.Encoder,
    language=oracle_glm.Language,
    places=oracle_families.framed_places,
    words=4,
)
CASES["glm4v_moe"] = replace(CASES["glm4v"], build=tiny_glm.glm4v_moe, language=oracle_glm.MoeLanguage)
CASES["glm46v"] = replace(CASES["glm4v"], build=tiny_glm.glm46v, like="glm4v")
CASES["gemma3"] = StillCase(
    build=tiny_gemma.gemma3,
    encoder=oracle_gemma.Encoder,
    language=oracle_gemma.LanguageModel,
    places=oracle_families.plain_places,
    words=3,
    one=[(1, 8, 8)],
    several=[(4, 8, 8)],
    large=[(5, 8, 8)],
    grid=(5, 8, 8),
    step=1,
)
CASES["llava_onevision"] = LlavaCase(
    build=tiny_siglip.llava_onevision,
    encoder=oracle_siglip.LlavaEncoder,
    language=oracle_siglip.LlavaLanguage,
    places=oracle_siglip.llava_places,
    one=[(1, 7, 7)],
    several=[(3, 7, 7)],
    large=[(9, 7, 7)],
    grid=(4, 7, 7),
    step=1,
)
CASES["smolvlm"] = SmolCase(
    build=tiny_siglip.smolvlm,
    encoder=oracle_siglip.SmolEncoder,
    language=oracle_siglip.SmolLanguage,
    places=oracle_siglip.smol_places,
    words=3,
    one=[(1, 9, 9)],
    several=[(2, 9, 9)],
    large=[(6, 9, 9)],
    grid=(5, 9, 9),
    step=1,
)
TIMES = [2.0, 2.4, 2.8, 3.2, 3.6, 4.0, 4.4, 4.8, 5.2, 5.6]  # of frames


def ask(case: Case, model: Any, before: int = 3, after: int = 5) -> tuple[Any, ...]:
    """A prompt of words, a video and words: the prompt, its video and its positions, as `ipcv ask` makes them."""
    language = find_language(model.config.model_type)
    visual = language.encode(model, case.input([case.grid]), case.grid)
    tokens, random = len(visual) // case.grid[0], torch.Generator().manual_seed(0)
    pads = torch.full((tokens,), getattr(model.config, f"{language.visual_kind}_token_id"))
    parts = [torch.randint(0, 90, (before,), generator=random)]
    for patch in range(case.grid[0]):
        parts += [pads] if patch == 0 else [torch.randint(0, 90, (case.words,), generator=random), pads]
    newline = pads[:1] if language.newline else pads[:0]
    ids = torch.cat([*parts, newline, torch.randint(0, 90, (after,), generator=random)])[None]
    prompt = Prompt(ids, torch.where(ids == pads[0], TYPES[language.visual_kind], TEXT))
    if language.newline:
        prompt.types[0, -after - 1] = TEXT
    times = TIMES[: case.step * case.grid[0]]
    shown = VisualSpan(kind="video", grid=case.grid, times=tuple(times), tokens=len(visual))
    return prompt, visual, language.positions(model, ids, prompt.types, [shown])


def run(model: Any, prompt: Prompt, visual: Visual, positions: Tensor, steps: int) -> tuple[list[Tensor], DynamicCache]:
    """The logits behind the prompt and behind each of `steps` greedy tokens."""
    logits: list[Tensor] = []

    def greedy(_: Tensor, scores: Tensor) -> Tensor:
        logits.append(scores[0])
        return scores.argmax(-1)

    decoding = prefill(model, prompt, visual, positions)
    for _ in decode(model, decoding, greedy, steps + 1):
        pass
    return logits, decoding.cache


def naive_run(case: Case, model: Any, pruner: Pruner | None, steps: int) -> tuple[list[Tensor], Any]:
    """The same by the family written naively."""
    prompt, visual, _ = ask(case, model)
    layers = model.config.get_text_config().num_hidden_layers
    if isinstance(pruner, V2Drop):
        own = () if case.language is oracle.LanguageModel else (case.language,)
        both = type("Both", (*own, oracle_rivals.LanguageModel), {})
        language = both(model, steps=pruner.steps(layers, case.linear_layers), shares=pruner.keep)
    elif pruner is None:
        language = case.language(model)
    else:
        method = oracle.dart if isinstance(pruner, Dart) else oracle.fastv
        language = case.language(model, *pruner.steps(layers, case.linear_layers), method(pruner.keep))
    is_visual = (prompt.types[0] != TEXT).tolist()
    places = case.places(3, case.grid, TIMES[:: case.step], case.words, 5 + steps)
    rows, given = iter(visual.tokens.double()), language.embed(prompt.ids[0].tolist())
    states = torch.stack([next(rows) if seen else word for seen, word in zip(is_visual, given, strict=True)])
    language.taps = visual.deepstack.double()
    logits = [language.feed(states, places[: len(states)], is_visual)]
    for step in range(steps):
        word = language.embed([int(logits[-1].argmax())])
        logits.append(language.feed(word, [places[len(states) + step]], [False]))
    return logits, language
