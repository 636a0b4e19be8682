"""Which visual tokens the encoder reused: these are those of the slice before, whatever the family makes of patches."""

import pytest
import torch
from family_cases import CASES

from ipcv import IPCV
from ipcv.architecture.visual import reused_tokens
from ipcv.families import find_language

COMPRESSOR = IPCV(keep=0.5, layer=1, reuse=0.02, stabilizer="neighbors", cut=1.0)


def merged_side(grid, tokens):
    """Patches per side of a token, by how many tokens there are of a slice."""
    return next(side for side in range(1, 9) if -(-grid[1] // side) * -(-grid[2] // side) == tokens)


@pytest.mark.parametrize("place", [0, -1, 17])
@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_a_token_is_reused_if_nothing_that_it_stands_for_was_computed(name, place):
    case = CASES[name]
    model, language = case.build(), find_language(case.build().config.model_type)
    grid = (3, *case.grid[1:])
    pixels = case.input([grid])
    slices = pixels.view(3, -1, *pixels.shape[1:])
    slices[1:] = slices[0]
    if pixels.dim() == 2:
        slices[1, place] += 3
    else:  # of a picture: a patch of it
        row, column = divmod(place % (grid[1] * grid[2]), grid[2])
        side = pixels.shape[2] // grid[1]
        slices[1, 0, :, row * side : (row + 1) * side, column * side : (column + 1) * side] += 3
    with COMPRESSOR(model, video=True) as kept:
        tokens = language.encode(model, pixels, grid).tokens.view(3, -1, model.config.get_text_config().hidden_size)
    (mask,) = kept.masks
    assert mask.flatten(1).sum(1).tolist()[0] == grid[1] * grid[2]
    reused = reused_tokens(mask, merged_side(grid, tokens.shape[1])).view(3, -1)
    moved = (tokens[1:] - tokens[:-1]).norm(dim=-1) / tokens[1:].norm(dim=-1)
    assert not reused[0].any()
    assert 0 < (~reused[1]).sum() < reused.shape[1]
    assert moved[reused[1:]].max() < 1e-5  # a matrix product may round each row in its own way
    assert moved[0][~reused[1]].max() > 1e-3
