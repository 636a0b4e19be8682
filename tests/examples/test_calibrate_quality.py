"""The calibration of `quality`: the fit, and its error on clips that it has not seen."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "examples"))
from calibrate_quality import LOSS, Trial, errors, factor


def test_the_fit_finds_the_factor_and_its_error_on_unseen_clips():
    found = [Trial(clip, expected, 2 * expected) for clip in "ab" for expected in (0.01, 0.03)]
    assert factor(found) == pytest.approx(2 * LOSS)
    assert errors(found) == pytest.approx({"a": 0, "b": 0})
    assert errors([*found, Trial("c", 0.02, 0.05)])["c"] == pytest.approx(0.01)
