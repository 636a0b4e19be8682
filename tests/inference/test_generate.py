"""Decoding: greedy and sampled tokens, stops, and text that grows by whole characters."""

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from ipcv.architecture.positions import prompt_positions
from ipcv.architecture.visual import Visual
from ipcv.errors import ModelError
from ipcv.inference.generate import Chooser, decode, pieces, prefill
from ipcv.models.prompt import Prompt


@pytest.fixture
def prompt(demo):
    """A short prompt without a video."""
    ids = demo.loaded.tokenizer("How many objects are there?", return_tensors="pt")["input_ids"]
    return Prompt(ids, torch.zeros_like(ids))


def start(network, prompt):
    width = network.config.text_config.hidden_size
    visual = Visual(torch.zeros(0, width), torch.zeros(0, 0, width))
    return prefill(network, prompt, visual, prompt_positions(network, prompt.ids, prompt.types))


@torch.no_grad()
def test_tokens_equal_transformers_own_greedy_generation(demo, prompt):
    network = demo.loaded.network
    tokens = list(decode(network, start(network, prompt), Chooser(network, 0.0, 0), 12))
    expected = network.generate(prompt.ids, do_sample=False, max_new_tokens=12)[0, prompt.ids.shape[1] :].tolist()
    ends = network.generation_config.eos_token_id
    ends = ends if isinstance(ends, list) else [ends]
    assert tokens == [token for token in expected if token not in ends]


@torch.no_grad()
def test_a_model_that_always_says_the_end_token_says_nothing(demo, prompt):
    network = demo.loaded.network
    ends = network.generation_config.eos_token_id
    end = ends[0] if isinstance(ends, list) else ends
    decoding = start(network, prompt)
    assert list(decode(network, decoding, lambda seen, logits: torch.tensor([end]), 5)) == []
    assert decoding.tokens == []


def test_sampling_follows_the_temperature_and_repeats_with_the_seed(demo):
    logits = torch.tensor([[0.0, 1.0, 2.0]])
    seen = torch.zeros(1, 1, dtype=torch.long)

    def draws(temperature, seed, count=2000):
        chooser = Chooser(demo.loaded.network, temperature, seed)
        return torch.cat([chooser(seen, logits) for _ in range(count)])

    shares = draws(2.0, 0).bincount(minlength=3) / 2000
    assert torch.allclose(shares, (logits[0] / 2).softmax(-1), atol=0.04)
    assert torch.equal(draws(2.0, 3, 50), draws(2.0, 3, 50))
    assert not torch.equal(draws(2.0, 3, 50), draws(2.0, 4, 50))
    assert set(draws(0.0, 0, 5).tolist()) == {2}


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_no_numbers_are_an_error_and_no_token(temperature, demo):
    chooser = Chooser(demo.loaded.network, temperature, 0)
    with pytest.raises(ModelError, match=r"computes no numbers \(NaN\) in float32"):
        chooser(torch.zeros(1, 1, dtype=torch.long), torch.tensor([[0.0, float("nan")]]))


def test_the_models_own_repetition_penalty_applies(demo, monkeypatch):
    logits = torch.tensor([[2.0, 1.9]])
    seen = torch.tensor([[0]])
    assert Chooser(demo.loaded.network, 0.0, 0)(seen, logits).item() == 0
    monkeypatch.setattr(demo.loaded.network.generation_config, "repetition_penalty", 1.2)
    assert Chooser(demo.loaded.network, 0.0, 0)(seen, logits).item() == 1


def test_no_piece_of_the_text_ends_within_a_character():
    characters = pre_tokenizers.ByteLevel.alphabet()
    raw = Tokenizer(models.BPE(vocab={character: index for index, character in enumerate(characters)}, merges=[]))
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw)
    text = "schön 🐈 ok"
    ids = tokenizer(text)["input_ids"]
    assert len(ids) == len(text.encode())
    assert list(pieces(tokenizer, iter(ids))) == list(text)
