"""Parameters that the library's messages name, as options of the command line."""

import re
from pathlib import Path

import pytest
import typer

import ipcv
from ipcv_cli.display.parameters import OPTIONS, as_options
from ipcv_cli.main import app

SOURCES = [*Path(ipcv.__file__).parent.rglob("*.py")]


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("lower max_frames, max_pixels or frame_batch", "lower --max-frames, --max-pixels or --frame-batch"),
        ('try `quant="4bit"` or a smaller model', "try --quant 4bit or a smaller model"),
        ("choose the settings without `fit`", "choose the settings without --fit"),
        ("give `overwrite=True`", "give --overwrite"),
        ("batch_size=0 must be at least 1", "--batch-size 0 must be at least 1"),
        ('is bundled (name="demo")', "is bundled (--model demo)"),
        ("reuse=0.02 needs stabilize='all', not 3", "--reuse 0.02 needs --stabilize all, not 3"),
        ("stabilizer='none' is not known", "--stabilizer none is not known"),
    ],
)
def test_a_parameter_becomes_its_option(message, shown):
    assert as_options(message) == shown


@pytest.mark.parametrize(
    "message",
    [
        "videos/max_pixels.mp4: the file is empty",
        "'max_pixels': no such file",
        "the repository has no revision 'v9'",
        "these videos fit, seed by seed",
        "lower --max-pixels",
        "coverage in the setting 'coverage:reuse=2': reuse=2.0 must be at least 0 and less than 1",
        "keep=2 must be at most 1",  # of which of the methods?
        "`ipcv models pull owner/model --revision v1` fetches it",
    ],
)
def test_other_words_stay(message):
    assert as_options(message) == message


def test_every_option_is_one_of_some_command():
    commands = typer.main.get_command(app).commands.values()
    assert set(OPTIONS.values()) <= {word for command in commands for each in command.params for word in each.opts}


def test_no_message_of_the_library_names_an_option():
    named = re.compile(r"(?<![\w-])--[a-z][\w-]*")
    lines = [line for source in SOURCES for line in source.read_text().splitlines() if '"' in line or "'" in line]
    found = [line for line in lines if named.search(line) and "`ipcv " not in line]
    assert found == []
