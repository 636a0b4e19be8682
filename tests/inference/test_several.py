"""Several videos and images in one prompt: each with its own frames, times and kept tokens, none mixed up."""

import json
from dataclasses import replace

import commands
import numpy as np
import oracle
import pytest
import torch
from PIL import Image

import ipcv
from ipcv import IPCV, Dart, Options, Sampling, TimedFrames
from ipcv.answer import FrameBatch, Opened
from ipcv.encodings.cache import EncodingCache
from ipcv.errors import VideoError
from ipcv.inference.pipeline import Pipeline
from ipcv.media.clip import open_video
from ipcv.media.sources import choose_frames, find
from ipcv.models.prompt import IMAGE, VIDEO
from ipcv_cli.main import main

COLOUR = "What colour is the circle?"
PLAIN = Options(compressor=None, pruner=None)


@pytest.fixture(scope="module")
def picture(tmp_path_factory, frames):
    """The scene's first frame as a file."""
    path = tmp_path_factory.mktemp("pictures") / "frame.png"
    Image.fromarray(frames.frames[0]).save(path)
    return path


@pytest.fixture(scope="module")
def inputs(clip, clips, picture):
    """A video, an image and another video."""
    return [clip, picture, clips / "1.mp4"]


@torch.no_grad()
def started(model, inputs, options):
    """The encoded inputs, the prompt about them, and that prompt in its cache."""
    pipeline, parts = Pipeline(model.loaded, options), [model.encode(each, options) for each in inputs]
    with pipeline.pruned():
        return parts, pipeline.prompt(parts, COLOUR), pipeline.prefill(parts, COLOUR, pipeline.clock()).decoding


@torch.no_grad()
def test_the_prompt_is_the_one_that_transformers_makes_of_the_same_pixels(demo, inputs):
    encoded, prompt, decoding = started(demo, inputs, PLAIN)
    network, patches = demo.loaded.network, Pipeline(demo.loaded, PLAIN).patches
    pixels = {"image": [], "video": []}
    for each in inputs:
        chosen = choose_frames(find(each), PLAIN.sampling, PLAIN.frame_batch, patches.temporal_patch_size)
        for frames in chosen.read(patches.resize, len(chosen.times)):
            pixels["image" if each.suffix == ".png" else "video"].append(patches.patchify(torch.from_numpy(frames)))
    grids = {kind: torch.tensor([grid for _, grid in parts]) for kind, parts in pixels.items()}
    want = network(
        input_ids=prompt.ids,
        mm_token_type_ids=prompt.types,
        pixel_values=torch.cat([part for part, _ in pixels["image"]]),
        pixel_values_videos=torch.cat([part for part, _ in pixels["video"]]),
        image_grid_thw=grids["image"],
        video_grid_thw=grids["video"],
        position_ids=torch.tensor(places(encoded, prompt)).T[:, None],
        logits_to_keep=1,
    ).logits[:, -1]
    torch.testing.assert_close(decoding.logits, want, atol=1e-3, rtol=1e-3)


def places(encoded, prompt):
    """Where every token of the prompt is, by the rule written naively."""
    kinds, parts, text = prompt.types[0].tolist(), iter(encoded), 0
    found = []
    for at, kind in enumerate(kinds):
        if kind in (IMAGE, VIDEO) and kinds[at - 1] != kind:
            part = next(parts)
            found += [text, (part.kind, *part.grid)]
            text = 0
        text += kind not in (IMAGE, VIDEO)
    return oracle.places(*found, text)


def test_each_has_its_own_frames_times_and_kept_tokens(demo, inputs):
    options = Options(compressor=IPCV(keep=0.5), reducer=ipcv.EVS(keep=0.6), sampling=Sampling(fps=3))
    answer = demo.ask(inputs, COLOUR, options)
    assert [each.kind for each in answer.videos] == ["video", "image", "video"]
    assert [each.video.path for each in answer.videos] == list(map(str, inputs))
    assert (answer.video, answer.frames) == (answer.videos[0].video, answer.videos[0].frames)
    for each, path in zip(answer.videos, inputs, strict=True):
        alone = demo.ask(path, COLOUR, options)
        assert alone.videos == (each,)
        assert each.patches_reused < each.patches
        assert 0 < each.patches_computed <= each.patches - each.patches_reused
    assert answer.videos[1].frames.times == (0.0,)
    stages = {stage.name: stage for stage in answer.stages}
    assert stages["encode"].tokens_in == sum(each.patches for each in answer.videos)
    assert stages["read"].tokens_in == sum(len(each.frames.times) + (each.kind == "image") for each in answer.videos)
    visual = sum(each.frames.visual_tokens for each in answer.videos)
    assert stages["prefill"].tokens_in > visual > stages["prefill"].tokens_computed - 60


def test_events_open_all_before_any_is_encoded(demo, inputs):
    events = list(demo.stream(inputs, COLOUR, Options(frame_batch=4)))
    opened = [event for event in events if isinstance(event, Opened)]
    batches = [event for event in events if isinstance(event, FrameBatch)]
    assert [(event.index, event.videos) for event in opened] == [(0, 3), (1, 3), (2, 3)]
    assert events.index(batches[0]) > events.index(opened[-1])
    assert batches[-1].frames_done == batches[-1].frames == sum(event.frames for event in opened)
    assert sorted(event.frames_done for event in batches) == [event.frames_done for event in batches]


def test_a_wrong_one_is_found_before_any_is_encoded(demo, clip):
    events = []
    with pytest.raises(VideoError, match="no-such-file"):
        events.extend(demo.stream([clip, "no-such-file.mp4"], COLOUR))
    assert not events


def test_the_order_counts(demo, clip, clips):
    one, other = (demo.ask(pair, COLOUR, PLAIN) for pair in ([clip, clips / "0.mp4"], [clips / "0.mp4", clip]))
    assert one.videos == other.videos[::-1]
    assert one.video == one.videos[0].video != other.video


def test_the_baseline_is_the_plain_model_on_all_of_them(demo, inputs):
    answer = demo.ask(inputs, COLOUR, Options(compressor=IPCV(keep=0.2), pruner=None, baseline=True, repeats=1))
    assert answer.savings.baseline.answer == demo.ask(inputs, COLOUR, PLAIN).answer
    assert 0 < answer.savings.baseline.similarity < 1


def test_savings_are_those_of_all_of_them(demo, inputs):
    answer = demo.ask(inputs, COLOUR, Options(compressor=IPCV(keep=0.3), pruner=Dart(keep=0.5)))
    plain = demo.ask(inputs, COLOUR, PLAIN)
    mine, dense = ({stage.name: stage for stage in each.stages} for each in (answer, plain))
    assert mine["encode"].flops_dense == dense["encode"].flops
    assert mine["prefill"].flops_dense == dense["prefill"].flops
    assert answer.savings.total_flops < 1 == plain.savings.total_flops


def test_a_cache_holds_each_on_its_own(demo, inputs, tmp_path):
    cache = EncodingCache(tmp_path / "cache")
    *_, first = demo.stream(inputs[:2], COLOUR, cache=cache)
    assert len(cache.entries()) == 2
    events = list(demo.stream(inputs, COLOUR, cache=cache))
    assert len(cache.entries()) == 3
    third = events[-1].answer.videos[2]
    assert [event.frames for event in events if isinstance(event, FrameBatch)] == [len(third.frames.times)]
    assert events[-1].answer.videos[:2] == tuple(replace(each, reused=True) for each in first.answer.videos)
    assert not third.reused
    stages = {stage.name: stage for stage in events[-1].answer.stages}
    assert stages["encode"].tokens_computed == third.patches_computed
    assert stages["read"].tokens_computed == stages["preprocess"].tokens_computed == len(third.frames.times)
    assert events[-1].answer.answer == demo.ask(inputs, COLOUR).answer


def test_the_cache_does_not_take_an_open_clip_for_its_file(demo, clip, tmp_path):
    cache = EncodingCache(tmp_path / "cache")
    sparse = open_video(clip, Sampling(fps=1), resize=demo.loaded.patches.resize)
    *_, both = demo.stream([clip, sparse], COLOUR, cache=cache)
    *_, alone = demo.stream(clip, COLOUR, cache=cache)
    assert [len(each.frames.times) for each in both.answer.videos] == [8, 4]
    assert len(alone.answer.frames.times) == 8


def test_frames_in_memory_and_encodings_can_be_among_them(demo, frames, clip, picture):
    encoded = demo.encode(picture)
    answer = demo.ask([TimedFrames(frames.frames, frames.times), encoded, clip], COLOUR)
    assert [each.kind for each in answer.videos] == ["video", "image", "video"]
    assert [each.video.reader for each in answer.videos] == ["memory", "pillow", "pyav"]


def test_warnings_say_which_one_they_are_about(demo, clip, clips):
    answer = demo.ask([clip, clips / "0.mp4"], COLOUR, Options(sampling=Sampling(max_frames=2)))
    capped = [warning for warning in answer.warnings if "capped" in warning]
    assert [warning.partition(": ")[0] for warning in capped] == [str(clip), str(clips / "0.mp4")]


def test_nothing_to_ask_about_is_refused(demo):
    with pytest.raises(ValueError, match="no video to ask about"):
        demo.ask([], COLOUR)


# ------------------------------------------------------------------------------------------- images


def test_an_image_is_seen(demo, picture, truth, tmp_path):
    assert demo.ask(picture, COLOUR).answer == truth[COLOUR]
    for name in ("frame.jpg", "frame.webp", "FRAME.BMP"):
        Image.open(picture).save(tmp_path / name)
        assert demo.ask(tmp_path / name, COLOUR).answer == truth[COLOUR]


def test_an_image_is_upright_and_on_white(tmp_path):
    from ipcv.media.images import read_image

    see_through = np.zeros((40, 60, 4), np.uint8)
    see_through[:, 30:] = (255, 0, 0, 255)
    Image.fromarray(see_through).save(tmp_path / "half.png")
    shown, facts, _ = read_image(tmp_path / "half.png")
    assert (shown[0, 0].tolist(), shown[0, 59].tolist()) == ([255, 255, 255], [255, 0, 0])
    assert (facts.height, facts.width, facts.codec) == (40, 60, "png")
    turned = Image.Exif()
    turned[0x0112] = 6  # to be shown turned clockwise
    Image.fromarray(see_through[..., :3]).save(tmp_path / "turned.jpg", exif=turned, quality=95)
    shown, facts, _ = read_image(tmp_path / "turned.jpg")
    assert (facts.height, facts.width) == (60, 40)
    assert shown[59, 20, 0] > 200 > 50 > shown[0, 20, 0]


def test_of_a_file_of_several_images_the_first_is_used_and_that_is_a_warning(demo, frames, tmp_path):
    first, *others = (Image.fromarray(frame) for frame in frames.frames[:3])
    first.save(tmp_path / "pages.tiff", save_all=True, append_images=others)
    answer = demo.ask(tmp_path / "pages.tiff", COLOUR)
    assert any("only the first of 3 pictures" in warning for warning in answer.warnings)


def test_a_moving_image_is_a_video(demo, frames, tmp_path):
    first, *others = (Image.fromarray(frame) for frame in frames.frames[:4])
    first.save(tmp_path / "moving.webp", save_all=True, append_images=others, lossless=True, duration=500)
    answer = demo.ask(tmp_path / "moving.webp", COLOUR)
    assert answer.video.frames == 4


@pytest.mark.parametrize("content", [b"", b"these are notes", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_what_is_no_image_is_a_video_error(demo, content, tmp_path):
    (tmp_path / "wrong.png").write_bytes(content)
    with pytest.raises(VideoError, match=r"wrong\.png"):
        demo.ask(tmp_path / "wrong.png", COLOUR)


def test_an_image_that_is_cut_off_is_a_video_error(demo, picture, tmp_path):
    (tmp_path / "cut.png").write_bytes(picture.read_bytes()[:2000])
    with pytest.raises(VideoError, match=r"cut\.png cannot be decoded"):
        demo.ask(tmp_path / "cut.png", COLOUR)


# ------------------------------------------------------------------------------------------- the command line


def test_the_argument_is_repeated(demo, inputs, capsys):
    assert main(["ask", *map(str, inputs), COLOUR, "--model", "demo", "--json", "--fps", "1"]) == 0
    found = json.loads(capsys.readouterr().out)
    answer = demo.ask(inputs, COLOUR, Options(sampling=Sampling(fps=1)))
    assert found["answer"] == answer.answer
    assert [each["video"]["path"] for each in found["videos"]] == list(map(str, inputs))
    assert [each["frames"]["times"] for each in found["videos"]] == [list(each.frames.times) for each in answer.videos]
    assert found["video"] == found["videos"][0]["video"]


def test_a_wrong_one_is_code_4(clip, capsys):
    assert main(["ask", str(clip), "missing.png", COLOUR, "--model", "./no/such/folder"]) == 4
    assert capsys.readouterr().err == "ipcv: error: missing.png does not exist: check the path\n"


def test_a_forgotten_question_is_code_2_and_says_so(clip, capsys):
    assert main(["ask", str(clip)]) == 2
    assert capsys.readouterr().err.startswith("ipcv: error: Missing argument 'QUESTION' ")
    assert main(["ask", str(clip), str(clip)]) == 2
    assert "the last argument is the question, and " in capsys.readouterr().err


def test_verbose_names_each(inputs):
    done = commands.ipcv("ask", *map(str, inputs), COLOUR, "--model", "demo", "-v")
    assert done.returncode == 0
    kinds = [line.split(": ")[1] for line in done.stderr.splitlines()]
    assert [kind for kind in kinds if kind in ("video", "image")] == ["video", "image", "video"]
