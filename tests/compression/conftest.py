"""Fixtures of the compression tests."""

import pytest
from moving_patches import ENCODERS, Family


@pytest.fixture(params=ENCODERS)
def family(request: pytest.FixtureRequest) -> Family:
    """Every family with an encoder of its own. Tests leave its model as they found it."""
    return Family.of(request.param)
