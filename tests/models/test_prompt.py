"""Prompts: the model's own template, one placeholder per visual token, nothing smuggled in."""

import pytest
import tiny

from ipcv.models.prompt import IMAGE, TEXT, VIDEO, build_prompt, check_text


def test_a_prompt_has_one_placeholder_per_visual_token_and_the_question_after_them(demo):
    tokenizer, config = demo.loaded.tokenizer, demo.loaded.network.config
    prompt = build_prompt(tokenizer, config, "What colour is the circle?", [tiny.shown("video", 7)])
    ids = prompt.ids[0].tolist()
    places = [index for index, token in enumerate(ids) if token == config.video_token_id]
    assert len(places) == 7
    assert places == list(range(places[0], places[0] + 7))
    assert ids[places[0] - 1] == config.vision_start_token_id
    assert ids[places[-1] + 1] == config.vision_end_token_id
    assert "What colour is the circle?" in tokenizer.decode(ids[places[-1] + 1 :])
    assert prompt.types[0].tolist() == [VIDEO if token == config.video_token_id else TEXT for token in ids]


def test_a_system_prompt_comes_before_the_video(demo):
    tokenizer, config = demo.loaded.tokenizer, demo.loaded.network.config
    prompt = build_prompt(
        tokenizer, config, "What colour is the circle?", [tiny.shown("video", 1)], system="Answer in one word."
    )
    text = tokenizer.decode(prompt.ids[0])
    assert text.index("Answer in one word.") < text.index("<|video_pad|>") < text.index("What colour")


def test_several_inputs_have_their_places_in_order(demo):
    tokenizer, config = demo.loaded.tokenizer, demo.loaded.network.config
    prompt = build_prompt(
        tokenizer, config, "Which?", [tiny.shown("video", 3), tiny.shown("image", 2), tiny.shown("video", 1)]
    )
    types = prompt.types[0].tolist()
    assert [kind for kind in types if kind != TEXT] == [VIDEO] * 3 + [IMAGE] * 2 + [VIDEO]
    assert [token for token, kind in zip(prompt.ids[0].tolist(), types, strict=True) if kind == IMAGE] == [
        config.image_token_id
    ] * 2


def test_several_inputs_are_numbered_where_the_template_can_do_that(demo, monkeypatch):
    tokenizer, config = demo.loaded.tokenizer, demo.loaded.network.config
    plain = tokenizer.chat_template
    numbered = plain.replace("{% if part['type'] == 'video' %}", "{% if part['type'] == 'video' %}{{ label }}")
    numbered = "{% set label = 'Video : ' if add_vision_id else '' %}" + numbered
    monkeypatch.setattr(tokenizer, "chat_template", numbered)
    several, one = ([tiny.shown("video", 1)] * count for count in (2, 1))
    assert tokenizer.decode(build_prompt(tokenizer, config, "Which?", several).ids[0]).count("Video") == 2
    assert "Video" not in tokenizer.decode(build_prompt(tokenizer, config, "Which?", one).ids[0])


def test_a_template_without_a_place_for_each_is_refused(demo, monkeypatch):
    tokenizer, config = demo.loaded.tokenizer, demo.loaded.network.config
    monkeypatch.setattr(tokenizer, "chat_template", tokenizer.chat_template.replace("'image'", "'picture'"))
    with pytest.raises(ValueError, match="gives 1 places for video, image"):
        build_prompt(tokenizer, config, "Which?", [tiny.shown("video", 1), tiny.shown("image", 1)])


@pytest.mark.parametrize("question", ["", "  \n"])
def test_an_empty_question_is_refused(demo, question):
    with pytest.raises(ValueError, match="the question is empty"):
        check_text(demo.loaded.tokenizer, question)


@pytest.mark.parametrize("token", ["<|video_pad|>", "<|im_end|>"])
def test_control_tokens_in_the_users_text_are_refused(demo, token):
    with pytest.raises(ValueError, match="control token"):
        check_text(demo.loaded.tokenizer, f"What is {token} there?")
    with pytest.raises(ValueError, match="control token"):
        check_text(demo.loaded.tokenizer, "What is there?", system=f"Be brief.{token}")


def test_half_a_character_is_refused(demo):
    for half in ("\ud800", "\udcff"):
        with pytest.raises(ValueError, match="no character: leave it out"):
            check_text(demo.loaded.tokenizer, f"What is {half} there?")
