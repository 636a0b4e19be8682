"""`ipcv.caption`: whatever the command `ipcv caption` can do, one call from Python can do."""

import doctest
import json
import os
import shutil
from pathlib import Path

import pytest

import ipcv
from ipcv import Captioned, EngineSettings, Failed, Inputs, LocalEngine, Options, Plan, Sampling
from ipcv.batch.plan import Started
from ipcv.errors import OutputBusyError, TooManyFailuresError, VideoError
from ipcv.output.caption import Begun
from ipcv.output.journal import Journal

PLAN = Plan(options=Options(sampling=Sampling(max_frames=4), max_new_tokens=12))


@pytest.fixture
def videos(clips, tmp_path, monkeypatch):
    """The current folder, with the videos in `clips`."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(clips, tmp_path / "clips")
    return Path("clips")


@pytest.fixture
def engine(demo):
    """The demo model, which is loaded already, and no reader processes."""
    return LocalEngine(EngineSettings(readers=0), demo)


def ids(path="captions.jsonl"):
    return [json.loads(line)["id"] for line in Path(path).read_text().splitlines()]


FOUR = [f"clips/{index}.mp4" for index in range(4)]


def test_the_example_of_the_docstring_runs(videos):
    found = doctest.DocTestFinder().find(ipcv.caption, "caption", globs={})
    source = "".join(example.source for test in found for example in test.examples)
    printed = []
    exec(source, {"print": lambda *words: printed.append(words)})  # noqa: S102
    assert [name for name, _ in printed] == FOUR == ids()
    assert all(answer for _, answer in printed)


def test_it_yields_what_happens_and_goes_on_where_it_stopped(videos, engine):
    first = ipcv.caption(Inputs(sources=("clips",), limit=1), "captions.jsonl", PLAN, engine=engine)
    begun, *events = list(first)
    assert isinstance(begun, Begun)
    assert (begun.tally.total, begun.tally.done, begun.tally.left) == (1, 1, 0)
    assert [(type(event), event.item.id) for event in events] == [(Started, FOUR[0]), (Captioned, FOUR[0])]
    second = ipcv.caption(videos, "captions.jsonl", PLAN, engine=engine)
    assert [state for _, state in second.forecast()] == ["done", "todo", "todo", "todo"]
    assert ids() == FOUR[:1]
    assert [event.item.id for event in second if isinstance(event, Captioned)] == FOUR[1:]
    assert ids() == FOUR


def test_a_run_that_is_left_keeps_what_is_done(videos, engine):
    single = LocalEngine(EngineSettings(readers=0, batch_size=1), engine.model)
    events = iter(ipcv.caption(videos, "captions.jsonl", PLAN, engine=single))
    next(event for event in events if isinstance(event, Captioned))
    with pytest.raises(OutputBusyError):
        list(ipcv.caption(videos, "captions.jsonl", PLAN, engine=single))
    events.close()
    assert ids() == FOUR[:1]
    with Journal(Path("captions.jsonl")) as journal:  # nobody holds it any more
        assert [record["id"] for record in journal.records()] == FOUR[:1]


def test_failures_are_events_and_too_many_end_the_run(videos, engine):
    (videos / "1.mp4").write_text("These are notes.\n")
    (videos / "2.mp4").write_text("These are notes.\n")
    run = ipcv.caption(videos, "captions.jsonl", PLAN, engine=engine)
    assert [event.item.id for event in run if isinstance(event, Failed)] == FOUR[1:3]
    assert ids("failures.jsonl") == FOUR[1:3]
    assert not [event for event in ipcv.caption(videos, "captions.jsonl", PLAN, engine=engine) if type(event) is Failed]
    seen = []
    again = ipcv.caption(videos, "captions.jsonl", PLAN, engine=engine, retry_failed=True, max_failures=0)
    with pytest.raises(TooManyFailuresError, match="stopped after 1 failures: 0 are allowed"):
        seen.extend(again)
    assert isinstance(seen[-1], Failed)
    assert ids() == [FOUR[0], FOUR[3]]


def test_a_sidecar_that_is_in_the_way_is_a_failure(videos, engine):
    Path("clips/2.txt").write_text("mine")
    run = ipcv.caption(videos, "captions.jsonl", PLAN, engine=engine, sidecars=["txt"], parquet=Path("table.parquet"))
    (failed,) = (event for event in run if isinstance(event, Failed))
    assert (failed.item.id, failed.stage, failed.error) == (FOUR[2], "write", "SidecarError")
    assert sorted(path.name for path in videos.glob("*.txt")) == ["0.txt", "1.txt", "2.txt", "3.txt"]
    assert Path("clips/2.txt").read_text() == "mine"
    assert Path("table.parquet").stat().st_size


OTHER = Plan(questions=("How many objects are there?",), options=PLAN.options)


def test_captions_from_other_settings_are_never_removed_unasked(videos, engine):
    list(ipcv.caption(["clips/0.mp4", "clips/1.mp4"], "captions.jsonl", PLAN, engine=engine))
    before = Path("captions.jsonl").read_bytes()
    run = ipcv.caption(videos, "captions.jsonl", OTHER, engine=engine)
    assert [state for _, state in run.forecast()] == ["replace", "replace", "todo", "todo"]
    says = "captions.jsonl has captions of 2 of these videos from other settings, contents or an earlier version: name "
    with pytest.raises(ValueError, match=says):
        list(run)
    assert Path("captions.jsonl").read_bytes() == before
    list(ipcv.caption(["clips/0.mp4", "clips/2.mp4"], "captions.jsonl", OTHER, engine=engine, overwrite=True))
    assert ids() == [FOUR[1], FOUR[0], FOUR[2]]
    assert before.splitlines()[1] in Path("captions.jsonl").read_bytes().splitlines()


def test_a_run_that_replaces_loses_nothing_when_it_stops(videos, engine):
    single = LocalEngine(EngineSettings(readers=0, batch_size=1), engine.model)
    list(ipcv.caption(videos, "captions.jsonl", PLAN, engine=single))
    before = Path("captions.jsonl").read_bytes()
    (videos / "2.mp4").write_text("These are notes.\n")
    events = iter(ipcv.caption(videos, "captions.jsonl", OTHER, engine=single, overwrite=True))
    next(event for event in events if isinstance(event, Captioned))
    events.close()
    assert Path("captions.jsonl").read_bytes().startswith(before)
    with pytest.raises(ValueError, match="from other settings, contents or"):
        list(ipcv.caption(videos, "captions.jsonl", OTHER, engine=single))
    list(ipcv.caption(videos, "captions.jsonl", OTHER, engine=single, overwrite=True))
    assert ids() == [FOUR[2], FOUR[0], FOUR[1], FOUR[3]]  # the one that fails now keeps what it has
    assert before.splitlines()[2] == Path("captions.jsonl").read_bytes().splitlines()[0]


def test_a_video_that_is_gone_keeps_its_captions_and_stops_nobody(videos, engine):
    list(ipcv.caption(videos, "captions.jsonl", PLAN, engine=engine))
    before = Path("captions.jsonl").read_bytes()
    (videos / "1.mp4").unlink()
    run = ipcv.caption(FOUR, "captions.jsonl", PLAN, engine=engine, overwrite=True)
    assert [event.item.id for event in run if isinstance(event, Failed)] == FOUR[1:2]
    assert Path("captions.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"inputs": []}, None, ""),
        ({"inputs": ["clips", ""]}, ValueError, "the name of a video or folder is empty"),
        ({"inputs": "empty"}, VideoError, "no video in empty: name others, or give `glob` a pattern"),
        ({"output_dir": Path("x")}, ValueError, "output_dir is where side-cars go: give `sidecars` as well"),
        ({"output": None, "parquet": Path("x")}, ValueError, "give `output` as well"),
        ({"parquet": Path("clips/0.mp4")}, ValueError, "clips/0.mp4 is there already and no Parquet table"),
        ({"output": "clips"}, ValueError, "clips is a folder: name a file"),
        ({"output": ""}, ValueError, r"\. is a folder: name a file"),
        ({"output": "/dev/full"}, ValueError, "/dev/full is a device or a socket: name a file"),
        ({"output": "circle.jsonl"}, OSError, "Too many levels of symbolic links"),
        ({"parquet": Path("circle.jsonl")}, OSError, "Too many levels of symbolic links"),
        ({"failures": Path("circle.jsonl")}, OSError, "Too many levels of symbolic links"),
        ({"output": "x.jsonl.gz"}, ValueError, "name it x.jsonl, or ask"),
        ({"failures": Path("pipe")}, ValueError, "pipe is a device or a pipe: name a file"),
        ({"failures": Path("clips/../captions.jsonl")}, ValueError, "are different files"),
        ({"output": "x.csv"}, ValueError, "x.csv would get JSON lines, whatever its ending says"),
        ({"output": "nowhere.jsonl"}, ValueError, "there is no such folder"),
        ({"output": "no/captions.jsonl"}, ValueError, "there is no such folder"),
        ({"model": "demo"}, ValueError, "an engine has a model already"),
        ({"sidecars": ["docx"]}, ValueError, "side-car 'docx' is not known"),
    ],
)
def test_what_makes_no_sense_is_an_error_before_any_work(videos, engine, arguments, error, says):
    Path("empty").mkdir()
    os.mkfifo("pipe")
    Path("nowhere.jsonl").symlink_to("no/captions.jsonl")
    Path("circle.jsonl").symlink_to("circle.jsonl")
    given = {"inputs": videos, "output": "captions.jsonl"} | arguments
    if error is None:
        assert [type(event) for event in ipcv.caption(**given, plan=PLAN, engine=engine)] == [Begun]
        return
    with pytest.raises(error, match=says):
        list(ipcv.caption(**given, plan=PLAN, engine=engine))
    with pytest.raises(error, match=says):
        list(ipcv.caption(**given, plan=PLAN, engine=engine).forecast())
    assert not Path("captions.jsonl").exists()


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"readers": -1}, {"prefetch": 0}, {"readers": 0, "timeout": 1}])
def test_settings_of_an_engine_are_checked_before_a_model_is_read(wrong):
    with pytest.raises(ValueError, match=r"must be|needs reader processes"):
        EngineSettings(**wrong)
