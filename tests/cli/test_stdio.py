"""Standard streams that are closed."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("closed", ["0", "1", "2", "0 1 2"])
def test_no_file_takes_the_place_of_a_closed_standard_stream(tmp_path, closed):
    code = (
        "import os, sys\nfor number in map(int, sys.argv[2].split()):\n    os.close(number)\n"
        "from ipcv_cli.display.stdio import open_closed\nopen_closed()\n"
        "file = open(sys.argv[1], 'w')\n"
        "file.write(f'{file.fileno()} {[os.path.realpath(f\"/proc/self/fd/{number}\") for number in range(3)]}')\n"
    )
    out = tmp_path / "numbers"
    subprocess.run([sys.executable, "-c", code, str(out), closed], check=True, capture_output=True, stdin=-1)
    number, places = out.read_text().split(" ", 1)
    assert int(number) > 2
    assert places.count("/dev/null") == len(closed.split())
