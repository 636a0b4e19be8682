"""Answers written together are the answers written alone, whatever the lengths and whatever was pruned."""

import pytest
import torch

from ipcv import IPCV, Dart, FastV, Options, Sampling
from ipcv.inference.generate import Chooser, pieces
from ipcv.inference.generate_batch import decode_together
from ipcv.inference.pipeline import Pipeline
from ipcv.world.mp4 import write_clip
from ipcv.world.random_scene import make_clip
from ipcv.world.scene import HELD_OUT_SEEDS

QUESTIONS = ("Describe the video.", "How many objects are there?", "What colour is the circle?", "Describe the video.")


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Clips of different lengths."""
    folder = tmp_path_factory.mktemp("films")
    paths = []
    for index, place in enumerate((-568, 11, 12, 13)):
        paths.append(folder / f"{index}.mp4")
        write_clip(paths[-1], make_clip(HELD_OUT_SEEDS[place], size=168, fps=8))
    return paths


@torch.no_grad()
def started(demo, films, options):
    """A prompt in its cache for each film."""
    pipeline = Pipeline(demo.loaded, options)
    decodings = []
    for path, question in zip(films, QUESTIONS, strict=True):
        parts = [demo.encode(path, options)]
        with pipeline.pruned():
            decodings.append(pipeline.prefill(parts, question, pipeline.clock()).decoding)
    return decodings


@pytest.mark.parametrize("pruner", [Dart(keep=0.5, layer=2), FastV(keep=0.3, layer=1), None])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@torch.no_grad()
def test_together_is_as_alone(demo, films, pruner, attention):
    options = Options(compressor=IPCV(keep=0.5), pruner=pruner, sampling=Sampling(max_frames=12))
    network = demo.loaded.network
    before = network.config._attn_implementation
    network.set_attn_implementation(attention)
    try:
        alone = [demo.ask(film, question, options) for film, question in zip(films, QUESTIONS, strict=True)]
        decodings = started(demo, films, options)
        lengths = {decoding.cache.get_seq_length(3) for decoding in decodings}
        assert len(lengths) > 1
        held = [decoding.cache.layers[3].keys.clone() for decoding in decodings]
        decode_together(network, decodings, [Chooser(network, 0.0, 0) for _ in decodings], options.max_new_tokens)
    finally:
        network.set_attn_implementation(before)
    texts = ["".join(pieces(demo.loaded.tokenizer, iter(decoding.tokens))) for decoding in decodings]
    assert texts == [answer.answer for answer in alone]
    assert all(torch.equal(d.cache.layers[3].keys, keys) for d, keys in zip(decodings, held, strict=True))
    assert not any(layer._forward_pre_hooks for layer in network.get_decoder().layers)


@torch.no_grad()
def test_the_numbers_agree_and_depend_on_the_mask(demo, films):
    options = Options(sampling=Sampling(max_frames=12))
    network = demo.loaded.network
    logits = []

    class Watching(Chooser):
        def __call__(self, seen, scores):
            logits.append(scores.clone())
            return super().__call__(seen, scores)

    single, *_ = started(demo, films, options)
    decode_together(network, [single], [Watching(network, 0.0, 0)], 6)
    alone, logits = logits, []
    decodings = started(demo, films, options)
    choosers = [Watching(network, 0.0, 0), *(Chooser(network, 0.0, 0) for _ in decodings[1:])]
    decode_together(network, decodings, choosers, 6)
    assert len(alone) == len(logits) == 6
    for one, other in zip(alone, logits, strict=True):
        torch.testing.assert_close(one, other, atol=2e-4, rtol=1e-4)


@torch.no_grad()
def test_each_ends_at_the_limit_or_by_itself(demo, films):
    options = Options(sampling=Sampling(max_frames=12))
    decodings = started(demo, films, options)
    network = demo.loaded.network
    decode_together(network, decodings, [Chooser(network, 0.0, 0) for _ in decodings], 9)
    counts = [len(decoding.tokens) for decoding in decodings]
    assert max(counts) == 9
    assert min(counts) < 9


@torch.no_grad()
def test_prompts_can_be_decoded_together_once_more(demo, films):
    """A batch for which memory ran out is written again from the same prompts."""
    network, options = demo.loaded.network, Options(sampling=Sampling(max_frames=12))
    decodings = started(demo, films, options)
    texts = []
    for count in (4, 9):
        for decoding in decodings:
            decoding.tokens.clear()
        decode_together(network, decodings, [Chooser(network, 0.0, 0) for _ in decodings], count)
        texts.append([decoding.tokens[:4] for decoding in decodings])
    assert texts[0] == texts[1]
