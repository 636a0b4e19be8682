"""The run that nothing disturbs, once for all tests of a process."""

import pytest
from undisturbed import Whole, whole


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """Ten clips and a text, captioned."""
    return whole(tmp_path_factory.mktemp("whole"), 10)
