"""What a GLM-4.xV is given beside what transformers' own processors and models make of the same."""

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
import tiny_glm
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.models.glm4v.image_processing_pil_glm4v import Glm4vImageProcessorPil
from transformers.models.glm4v.processing_glm4v import Glm4vProcessor
from transformers.models.glm4v.video_processing_glm4v import Glm4vVideoProcessor, smart_resize
from transformers.models.glm46v.processing_glm46v import Glm46VProcessor

import ipcv
from ipcv import Options
from ipcv.architecture.preprocess import PatchSettings
from ipcv.architecture.visual import Visual, VisualSpan
from ipcv.errors import ModelError
from ipcv.families import find_language
from ipcv.inference.generate import prefill
from ipcv.inference.pipeline import Pipeline
from ipcv.models.prompt import IMAGE, TEXT, VIDEO, Prompt, build_prompt
from ipcv.models.tokenizer import read_processor

VALUES = {
    "size": {"longest_edge": 47040000, "shortest_edge": 12544},
    "patch_size": 14,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
KINDS = [{"video_processor_type": "Glm4vVideoProcessor"}, {"image_processor_type": "Glm46VImageProcessor"}]
PROCESSORS = {"Glm4vProcessor": Glm4vProcessor, "Glm46VProcessor": Glm46VProcessor}
RATE, NUMBERS = 24, [36, 48, 60, 72, 84, 96]  # of a source's frames a second, and those that were taken


@given(
    height=st.integers(1, 3000),
    width=st.integers(1, 3000),
    frames=st.sampled_from([2, 6, 16, 64, 600]),
    kind=st.sampled_from(KINDS),
    most=st.sampled_from([47040000, 786432]),
)
def test_sizes_depend_on_the_number_of_frames(height, width, frames, kind, most):
    if max(height, width) > 150 * min(height, width):
        return
    size = {"shortest_edge": 12544, "longest_edge": most}
    settings = PatchSettings.from_dict(VALUES | kind | {"size": size})
    assert settings.resize(height, width, frames) == smart_resize(frames, height, width, 2, 28, 12544, most)


def pictures(frames: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (frames, 56, 84, 3), dtype=np.uint8))


def test_stills_equal_the_familys_image_processor():
    own = {name: value for name, value in VALUES.items() if name != "size"}
    stills = pictures(3)
    want = Glm4vImageProcessorPil(do_resize=False, **own)(images=list(stills.numpy()), return_tensors="pt")
    patches, grid = PatchSettings.from_dict(VALUES | KINDS[0]).patchify(stills.repeat_interleave(2, 0))
    assert (len(stills), *want["image_grid_thw"][0, 1:].tolist()) == grid
    torch.testing.assert_close(patches, want["pixel_values"], rtol=0, atol=1e-6)


def test_frames_are_cut_as_by_the_familys_video_processor():
    frames, settings = pictures(6), PatchSettings.from_dict(VALUES | KINDS[0])
    mean, std = torch.tensor(settings.image_mean), torch.tensor(settings.image_std)
    normalised = ((frames / 255 - mean) / std).permute(0, 3, 1, 2)[None]
    want, *grid = Glm4vVideoProcessor().patchify(normalised, patch_size=14, merge_size=2, temporal_patch_size=2)
    patches, ours = settings.patchify(frames)
    assert ours == tuple(grid)
    torch.testing.assert_close(patches, want[0], rtol=0, atol=1e-6)


# --------------------------------------------------------------------------------------------------- prompts


def rendered(name: str, tokens: int = 1) -> str:
    """What the processor `name` makes of a video of six frames at a steady rate, so many tokens for each pair."""
    processor = PROCESSORS[name].__new__(PROCESSORS[name])  # its construction would ask for torchvision
    processor.video_processor, processor.image_token = SimpleNamespace(merge_size=2), "<|image|>"
    times = SimpleNamespace(fps=RATE, timestamps=[number / RATE for number in NUMBERS])
    given_ = {"video_grid_thw": torch.tensor([[3, 2, 2 * tokens]]), "video_metadata": [times]}
    return processor.replace_video_token(given_, 0)


def video(tokens: int = 1) -> VisualSpan:
    """The same video."""
    times = tuple(number / RATE for number in NUMBERS)
    return VisualSpan(kind="video", grid=(3, 2, 2 * tokens), times=times, tokens=3 * tokens)


@pytest.mark.parametrize("name", PROCESSORS)
@pytest.mark.parametrize("family", ["glm4v", "glm4v_moe", "glm46v"])
def test_a_prompt_has_the_text_of_the_processor_that_the_model_names(family, name):
    tokenizer = tiny.tokenizer(*tiny_glm.WORDS)
    photo, question = tiny.shown("image", 4), "Which circle is red?"
    content = [{"type": "video"}, {"type": "image"}, {"type": "text", "text": question}]
    template = tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    want = tokenizer(template.replace("<|image|>", "<|image|>" * 4).replace("<|video|>", rendered(name, 5))).input_ids
    image = tokenizer.convert_tokens_to_ids("<|image|>")
    config = SimpleNamespace(model_type=family, image_token_id=image, video_token_id=None)
    prompt = build_prompt(tokenizer, config, question, [video(5), photo], processor=name)
    assert prompt.ids[0].tolist() == want
    assert want.count(image) == 19
    assert prompt.types[0].tolist() == [IMAGE * (token == image) for token in want]


@pytest.mark.parametrize(
    ("family", "name"),
    [("glm4v", "Glm4vProcessor"), ("glm4v_moe", "Glm4vProcessor"), ("glm46v", "Glm46VProcessor")],
)
@pytest.mark.parametrize("other", [None, "Qwen3VLProcessor"])
def test_without_a_name_that_is_known_it_is_the_familys(family, name, other):
    language = find_language(family)
    assert language.video_text(video().moments(language.moment), processor=other) == rendered(name)


def test_the_two_write_times_differently():
    assert rendered("Glm4vProcessor").endswith("<|end_of_image|>3")
    assert rendered("Glm46VProcessor").endswith("<|end_of_image|>3.5 seconds")


def test_times_are_those_of_the_source_rounded_down_to_seconds():
    text = find_language("glm4v").video_text([90.96, 3600.25])
    assert text.split("<|end_of_image|>")[1:] == ["90<|begin_of_image|><|image|>", "3600"]


@pytest.mark.parametrize(
    ("files", "name"),
    [
        ({}, None),
        ({"preprocessor_config": {}, "tokenizer_config": {"processor_class": "Glm46VProcessor"}}, "Glm46VProcessor"),
        (
            {
                "tokenizer_config": {"processor_class": "Glm46VProcessor"},
                "preprocessor_config": {"processor_class": "Glm4vProcessor"},
            },
            "Glm4vProcessor",
        ),
    ],
)
def test_the_name_is_in_one_of_a_models_files(tmp_path, files, name):
    for file, values in files.items():
        (tmp_path / f"{file}.json").write_text(json.dumps(values))
    assert read_processor(tmp_path) == name


def test_a_file_that_is_cut_off_is_an_error_that_names_it(tmp_path):
    (tmp_path / "preprocessor_config.json").write_text('{"processor_class": "Glm4')
    with pytest.raises(ModelError, match=r"preprocessor_config\.json cannot be read .* fetch the model again"):
        read_processor(tmp_path)


@pytest.mark.parametrize(("name", "times"), [("Glm4vProcessor", "1 2 3"), ("Glm46VProcessor", "1.5 seconds 2.5")])
def test_a_model_is_asked_as_its_files_say(tmp_path, name, times):
    tokenizer = tiny.tokenizer(*tiny_glm.WORDS)
    tokenizer.save_pretrained(tmp_path)
    special = {f"{kind}_token_id": tokenizer.convert_tokens_to_ids(f"<|{kind}|>") for kind in ("image", "video")}
    tiny_glm.glm4v(depth=1, layers=1, width=64, words=len(tokenizer), special=special).save_pretrained(tmp_path)
    size = {"shortest_edge": 64, "longest_edge": 64 * 64}
    values = VALUES | {"patch_size": tiny.PATCH, "processor_class": name, "size": size}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(values))
    model = ipcv.load(str(tmp_path))
    assert model.loaded.processor == name
    pipeline = Pipeline(model.loaded, Options(compressor=None, pruner=None))
    text = tokenizer.decode(pipeline.prompt([SimpleNamespace(span=video())], "What?").ids[0])
    said = text.partition("<|begin_of_video|>")[2].partition("<|end_of_video|>")[0].split("<|end_of_image|>")
    assert " ".join(part.partition("<")[0] for part in said[1:]).startswith(times)


# ------------------------------------------------------------------------------------- several in one prompt

GRIDS = [(3, 4, 6), (1, 8, 4), (2, 4, 4)]


@pytest.fixture(scope="module")
def glm() -> Any:
    return tiny_glm.glm4v()


def several(kinds: str) -> tuple[torch.Tensor, list[VisualSpan]]:
    """A prompt `[1, length]` with some of `GRIDS`, videos (v) and images (i), and words between all frames."""
    parts, shown = [torch.tensor([5, 6])], []
    for index, (kind, (frames, rows, columns)) in enumerate(zip(kinds, GRIDS, strict=True)):
        if kind == "-":
            continue
        tokens = rows * columns // 4
        for frame in range(frames):
            parts += [torch.full((tokens,), tiny.IMAGE), torch.tensor([10 * index + frame, 7, 8])]
        times = tuple(float(second) for second in range(2 * frames))
        name: Any = "video" if kind == "v" else "image"
        shown.append(VisualSpan(kind=name, grid=(frames, rows, columns), times=times, tokens=frames * tokens))
    return torch.cat(parts)[None], shown


@torch.no_grad()
def asked(model: Any, ids: torch.Tensor, shown: list[VisualSpan]) -> torch.Tensor:
    """The logits behind the prompt, with everything encoded by itself."""
    language = find_language("glm4v")
    prompt = Prompt(ids, torch.where(ids == tiny.IMAGE, IMAGE, TEXT))
    visual = [language.encode(model, tiny.patches([each.grid], seed), each.grid) for seed, each in enumerate(shown)]
    return prefill(model, prompt, Visual.cat(visual), language.positions(model, ids, prompt.types, shown)).logits


def pixels(shown: list[VisualSpan]) -> torch.Tensor:
    return torch.cat([tiny.patches([each.grid], seed) for seed, each in enumerate(shown)])


@torch.no_grad()
@pytest.mark.parametrize("kinds", ["v--", "v-v"])
def test_videos_are_seen_as_transformers_shows_them(glm, kinds):
    ids, shown = several(kinds)
    want = glm(
        input_ids=ids,
        mm_token_type_ids=torch.where(ids == tiny.IMAGE, VIDEO, TEXT),
        pixel_values_videos=pixels(shown),
        video_grid_thw=torch.tensor([each.grid for each in shown]),
    ).logits[:, -1]
    torch.testing.assert_close(asked(glm, ids, shown), want, atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("kinds", ["-i-", "viv"])
def test_images_are_seen_as_transformers_shows_them_and_each_frame_of_a_video_is_one(glm, kinds):
    """transformers takes no images beside videos here: it looks for both in the places of both."""
    ids, shown = several(kinds)
    want = glm(
        input_ids=ids,
        mm_token_type_ids=torch.where(ids == tiny.IMAGE, IMAGE, TEXT),
        pixel_values=pixels(shown),
        image_grid_thw=torch.tensor([(1, *each.grid[1:]) for each in shown for _ in range(each.grid[0])]),
    ).logits[:, -1]
    torch.testing.assert_close(asked(glm, ids, shown), want, atol=1e-4, rtol=1e-4)
