"""Libraries of extras: imported where they are installed, named where they are not."""

import sys

import pytest

from ipcv.extras import require


@pytest.mark.parametrize(
    ("module", "extra", "library"),
    [("pyarrow.parquet", "parquet", "pyarrow"), ("ray", "ray", "Ray"), ("scenedetect", "scenes", "PySceneDetect")],
)
def test_what_is_missing_is_named_with_its_extra(module, extra, library, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=rf"need.* {library}: pip install 'ipcv\[{extra}\]'$"):
        require(module)


def test_what_is_there_is_imported():
    assert require("pyarrow.parquet").__name__ == "pyarrow.parquet"
