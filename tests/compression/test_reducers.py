"""Visual tokens left out of the prompt: which, at which positions, and what that saves."""

from dataclasses import dataclass

import oracle
import oracle_rivals
import pytest
import torch
from flop_count import ELEMENTWISE, count
from hypothesis import given, settings
from hypothesis import strategies as st
from probes import OperatorCount
from torch import Tensor

from ipcv import DTD, EVS, Dart, FastV, Options, Sampling, ToMe, V2Drop, VidCom2
from ipcv.architecture.shapes import TextShape
from ipcv.compression.pruners.decoder_flops import decode_flops, prefill_flops
from ipcv.compression.reducers.reducer import Reduced, Reducer
from ipcv.models.prompt import TEXT, VIDEO, Prompt

COLOUR = "What colour is the circle?"
REDUCERS = [EVS(keep=0.4), DTD(keep=0.3), DTD(threshold=0.6), VidCom2(keep=0.3)]
PLAIN = Options(compressor=None, pruner=None)


def video(frames: int = 5, tokens: int = 12, width: int = 16, seed: int = 0) -> Tensor:
    """Embeddings `[frames, tokens, width]` that change a little from frame to frame, some places more than others."""
    random = torch.Generator().manual_seed(seed)
    steps = torch.randn(frames, tokens, width, generator=random) * torch.rand(1, tokens, 1, generator=random) * 2
    return steps.cumsum(0)


def naive(reducer: Reducer, tokens: Tensor) -> Tensor:
    frames = [list(frame) for frame in tokens.double()]
    if isinstance(reducer, EVS):
        stays = oracle_rivals.evs(frames, reducer.keep)
    elif isinstance(reducer, DTD):
        stays = oracle_rivals.dtd(frames, reducer.keep, reducer.threshold)
    else:
        stays = oracle_rivals.vidcom2(frames, reducer.keep)
    mask = torch.zeros(tokens.shape[:2], dtype=torch.bool)
    for time, place in stays:
        mask[time, place] = True
    return mask


# ------------------------------------------------------------------------------------------- the methods themselves


@pytest.mark.parametrize("reducer", REDUCERS, ids=str)
def test_dropped_tokens_leave_the_others_as_they_are(reducer):
    tokens = video()
    left, stays = reducer(tokens), reducer.choose(tokens).flatten()
    assert left.donor.tolist() == [place for place, is_left in enumerate(stays.tolist()) if is_left]
    assert torch.equal(left.tokens, tokens.flatten(0, 1)[stays])


@pytest.mark.parametrize("keep", [0.1, 0.3, 0.55, 0.9])
@pytest.mark.parametrize("shape", [(5, 12, 16), (2, 30, 8), (8, 4, 33)])
@pytest.mark.parametrize("method", [EVS, DTD, VidCom2])
def test_the_choice_is_that_of_the_method_written_naively(method, shape, keep):
    reducer, tokens = method(keep=keep), video(*shape)
    stays = reducer.choose(tokens)
    assert stays.dtype == torch.bool
    assert torch.equal(stays, naive(reducer, tokens))
    assert not stays.all()


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.95])
def test_dtd_drops_what_is_above_its_threshold(threshold):
    reducer, tokens = DTD(threshold=threshold), video()
    assert torch.equal(reducer.choose(tokens), naive(reducer, tokens))
    assert 12 < reducer.choose(tokens).sum() < 60


@given(frames=st.integers(1, 6), tokens=st.integers(1, 20), keep=st.floats(0.01, 1), seed=st.integers(0, 2**31))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_about_the_share_stays_for_any_video(frames, tokens, keep, seed):
    embeddings, total = video(frames, tokens, 8, seed), frames * tokens
    assert EVS(keep=keep).choose(embeddings).sum() == max(tokens, int(total * keep))
    per_frame = DTD(keep=keep).choose(embeddings).sum(1).tolist()
    assert per_frame == [tokens] + [int(tokens * keep)] * (frames - 1)
    per_frame = VidCom2(keep=keep).choose(embeddings).sum(1)
    assert per_frame.min() >= 1
    assert per_frame.sum() <= total * keep + frames


@pytest.mark.parametrize(("reducer", "left"), [(EVS(keep=0.4), 14), (DTD(), 9), (DTD(keep=0.4), 18)], ids=str)
def test_of_a_still_video_the_first_frame_stays(reducer, left):
    stays = reducer.choose(torch.randn(1, 9, 16).expand(4, -1, -1))
    assert stays[0].all()
    assert stays.sum() == left


@pytest.mark.parametrize("reducer", [EVS(keep=0.3), DTD(keep=0.1), DTD()], ids=str)
def test_what_changes_stays(reducer):
    tokens = torch.randn(1, 10, 16).repeat(4, 1, 1)
    tokens[2, 7] *= -1
    stays = reducer.choose(tokens)
    assert stays[2, 7]
    assert stays[3, 7]  # it changes back


def test_vidcom2_gives_a_frame_that_stands_out_more():
    torch.manual_seed(0)
    tokens = torch.randn(1, 20, 64).expand(6, -1, -1) + 0.01 * torch.randn(6, 20, 64)
    tokens[4] = torch.randn(20, 64)
    shares = VidCom2(keep=0.3).choose(tokens).sum(1)
    assert shares.argmax() == 4
    assert shares[4] > shares[[0, 1, 2, 3, 5]].max()


@pytest.mark.parametrize("reducer", REDUCERS, ids=str)
def test_half_precision_and_scale_change_nothing(reducer):
    tokens = video().half()
    assert torch.equal(reducer.choose(tokens), reducer.choose(tokens.float()))
    assert torch.equal(reducer.choose(tokens), reducer.choose(16 * tokens))


@pytest.mark.parametrize("reducer", REDUCERS, ids=str)
def test_the_number_of_operations_does_not_grow_with_the_tokens(reducer):
    counts = []
    for frames, tokens in ((3, 8), (9, 40)):
        with OperatorCount() as operators:
            reducer.choose(video(frames, tokens))
        counts.append(operators.count)
    assert counts[0] == counts[1]


@pytest.mark.parametrize("reducer", REDUCERS, ids=str)
def test_choosing_costs_what_its_operations_add_up_to(reducer):
    tokens = video(5, 60, 64)
    counter = count(lambda: reducer.choose(tokens), also=ELEMENTWISE)
    assert reducer.flops(5, 60, 64) == pytest.approx(counter.get_total_flops(), rel=0.01)


@pytest.mark.parametrize(
    ("method", "given", "message"),
    [
        (EVS, {"keep": 0}, "EVS keep=0 must be more than 0"),
        (EVS, {"keep": 1.2}, "EVS keep=1.2 .* at most 1"),
        (VidCom2, {"keep": float("nan")}, "VidCom2 keep=nan"),
        (DTD, {"keep": -1}, "DTD keep=-1"),
        (DTD, {"threshold": 1.5}, "DTD threshold=1.5 must be from -1 to 1"),
        (DTD, {"threshold": float("nan")}, "DTD threshold=nan"),
    ],
)
def test_settings_that_make_no_sense_are_refused_at_once(method, given, message):
    with pytest.raises(ValueError, match=message):
        method(**given)


# -------------------------------------------------------------------------------------------------- in the prompt


def test_a_prompt_keeps_its_text_and_the_visual_tokens_that_stay():
    types = torch.tensor([[TEXT, VIDEO, VIDEO, VIDEO, TEXT]])
    prompt = Prompt(torch.tensor([[7, 1, 2, 3, 9]]), types)
    rows = prompt.rows(torch.tensor([False, True, True]))
    assert rows.tolist() == [0, 2, 3, 4]
    assert prompt.only(rows).ids.tolist() == [[7, 2, 3, 9]]
    assert prompt.only(rows).types.tolist() == [[TEXT, VIDEO, VIDEO, TEXT]]


@pytest.mark.parametrize("reducer", [EVS(keep=1), DTD(keep=1), VidCom2(keep=1)], ids=str)
def test_keeping_everything_is_the_plain_model(demo, clip, reducer):
    answer, plain = (demo.ask(clip, COLOUR, Options(compressor=None, pruner=None, reducer=r)) for r in (reducer, None))
    assert answer.answer == plain.answer
    assert answer.savings.total_flops == 1
    assert answer.savings.cache_share == 1


def seen(demo, clip, options):
    """What the language model is given in the prefill: positions, embeddings and lengths of the cache."""
    calls = []
    language = demo.loaded.network.model.language_model

    def look(_, __, kwargs, output):
        cache = output.past_key_values
        held = [cache.get_seq_length(layer) for layer in range(len(language.layers))]
        calls.append((kwargs["position_ids"][:, 0].T.tolist(), kwargs["inputs_embeds"][0].clone(), held))

    handle = language.register_forward_hook(look, with_kwargs=True)
    try:
        return demo.ask(clip, COLOUR, options), calls
    finally:
        handle.remove()


@pytest.mark.parametrize("reducer", REDUCERS, ids=str)
def test_what_stays_keeps_its_position_and_its_embedding(demo, clip, reducer):
    sampling = Sampling(fps=4)
    _, [(whole, embeddings, _), *steps] = seen(demo, clip, Options(compressor=None, pruner=None, sampling=sampling))
    answer, [(places, given, held), *later] = seen(
        demo, clip, Options(compressor=None, pruner=None, reducer=reducer, sampling=sampling)
    )
    before = next(at for at, place in enumerate(whole) if len(set(place)) > 1) - 1
    shape = (len(answer.frames.times) // 2, answer.frames.height // 28, answer.frames.width // 28)
    count = shape[0] * shape[1] * shape[2]
    visual = embeddings[before : before + count].view(shape[0], -1, embeddings.shape[1])
    stays = reducer.choose(visual).flatten().tolist()
    rows = [at for at in range(len(whole)) if not before <= at < before + count or stays[at - before]]
    assert 0 < sum(stays) < count
    assert places == [whole[at] for at in rows]
    assert torch.equal(given, embeddings[rows])
    assert [step[0] for step in later[: len(steps)]] == [step[0] for step in steps[: len(later)]]  # the text goes on
    assert held == [len(rows)] * len(held)
    assert answer.frames.visual_tokens == sum(stays)
    naive_places = oracle.places(before, ("video", shape[0], 2 * shape[1], 2 * shape[2]), len(whole) - before - count)
    assert whole == [list(place) for place in naive_places]


@dataclass(frozen=True, kw_only=True)
class Averaging(Reducer):
    """Merge the tokens of each place over the whole video; the first one gives the place."""

    keep: float = 0.25

    def __call__(self, tokens: Tensor, _: Tensor | None = None) -> Reduced:
        return Reduced(tokens.mean(0), torch.arange(tokens.shape[1]))

    def most(self, _: int, tokens: int) -> int:
        return tokens

    def flops(self, frames: int, tokens: int, width: int) -> int:
        return frames * tokens * width


def test_merged_tokens_have_the_positions_of_their_donors(demo, clip):
    _, [(whole, embeddings, _), *_] = seen(demo, clip, PLAIN)
    answer, [(places, given, held), *_] = seen(demo, clip, Options(compressor=None, pruner=None, reducer=Averaging()))
    before = next(at for at, place in enumerate(whole) if len(set(place)) > 1) - 1
    count = answer.frames.visual_tokens
    visual = embeddings[before : before + 4 * count].view(4, count, -1)
    rows = [*range(before + count), *range(before + 4 * count, len(whole))]
    assert places == [whole[at] for at in rows]
    assert torch.equal(given[before : before + count], visual.mean(0))
    assert torch.equal(given[:before], embeddings[:before])
    assert torch.equal(given[before + count :], embeddings[before + 4 * count :])
    assert held == [len(rows)] * len(held)


@pytest.mark.parametrize("pruner", [Dart(keep=0.5, layer=2), FastV(keep=0.5, layer=1), V2Drop(), None], ids=str)
@pytest.mark.parametrize("reducer", [EVS(keep=0.5), DTD(keep=0.4), VidCom2(keep=0.3)], ids=str)
def test_savings_count_what_was_left_out(demo, clip, reducer, pruner):
    answer, [(_, given, held), *_] = seen(demo, clip, Options(compressor=None, reducer=reducer, pruner=pruner))
    plain = demo.ask(clip, COLOUR, PLAIN)
    prefill, dense = ({stage.name: stage for stage in each.stages}["prefill"] for each in (answer, plain))
    text = TextShape.of(demo.loaded.network.config.text_config)
    visual, all_visual = answer.frames.visual_tokens, plain.frames.visual_tokens
    length = dense.tokens_in - all_visual + visual
    assert len(given) == length
    assert visual < all_visual
    assert (prefill.tokens_in, prefill.tokens_computed) == (dense.tokens_in, held[-1])
    own = reducer.flops(4, all_visual // 4, text.width)
    assert prefill.flops == prefill_flops(text, length, visual, pruner) + own
    assert prefill.flops_dense == dense.flops
    generate = answer.stages[-1]
    assert generate.flops == decode_flops(text, length, visual, generate.tokens_in, pruner)
    assert generate.flops_dense == decode_flops(text, dense.tokens_in, all_visual, generate.tokens_in)
    new = generate.tokens_in - 1
    everything = (dense.tokens_in + new) * len(held)
    assert answer.savings.cache_share == pytest.approx((sum(held) + new * len(held)) / everything)
    assert answer.savings.encode_flops == 1
    assert answer.savings.prefill_flops < 1


def test_it_goes_together_with_the_baseline_and_with_merging(demo, clip):
    options = Options(compressor=ToMe(keep=0.6), reducer=EVS(keep=0.5), pruner=Dart(), baseline=True, repeats=1)
    answer = demo.ask(clip, COLOUR, options)
    assert answer.settings.reducer == EVS(keep=0.5)
    encode = answer.stages[2]
    assert encode.tokens_computed == answer.frames.height * answer.frames.width // 14**2 * 6 // 10 * 4
    assert 0.5 < answer.savings.encode_flops < 1
    assert 0 < answer.savings.baseline.similarity < 1
    assert answer.savings.baseline.answer == demo.ask(clip, COLOUR, PLAIN).answer


def test_frames_too_small_to_merge_are_refused_before_anything_is_encoded(demo, clip):
    def fail(*args):
        raise AssertionError("encoded")

    handle = demo.loaded.network.model.visual.register_forward_pre_hook(fail)
    try:
        with pytest.raises(ValueError, match=r"ToMe keep=0\.08 of 36 patches in a frame would merge more than half"):
            demo.ask(clip, COLOUR, Options(compressor=ToMe(keep=0.08), max_pixels=84 * 84))
    finally:
        handle.remove()


def test_more_than_was_asked_for_is_a_warning(demo, clip):
    warnings = [demo.ask(clip, COLOUR, Options(reducer=EVS(keep=keep))).warnings for keep in (0.5, 0.1)]
    assert not any("EVS" in warning for warning in warnings[0])
    (warning,) = (warning for warning in warnings[1] if "EVS" in warning)
    assert warning.endswith("visual tokens, more than keep=0.1: it leaves the first frames whole")
