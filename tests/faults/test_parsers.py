"""Whatever is read as text by people's hands, other programs or models: understood, or refused with its own error."""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from ipcv.batch.items import read_manifest
from ipcv.batch.prompts import parse
from ipcv.files import parse_size
from ipcv.media.sampling import parse_time
from ipcv.media.segments import Segments
from ipcv.output.journal import Journal
from ipcv.output.lines import line

BOUND = 105.0  # seconds for each property, in the long part: six of them take more than ten minutes
ROUND = 500  # examples between two looks at the clock

numbers = st.integers() | st.floats() | st.sampled_from([0, -1, 1e308, 2**63, 2**1024, -0.0])
texts = st.text() | st.sampled_from(["", "\x00", "\ud800", "\u2028", "a/../b", "http://x", "1:30", "\x1b[2J"])
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
times = st.text("0123456789:.-+eE_ sminfa\u0661", max_size=12) | texts | numbers.map(str)
manifest_lines = st.dictionaries(
    st.sampled_from(["id", "video", "question", "start", "end"]) | texts, values, max_size=6
) | st.fixed_dictionaries({"video": texts}, optional={"id": values, "question": texts, "start": times, "end": times})
deep = st.sampled_from(["[" * 100_000, '{"video": ' * 100_000, "9" * 10_000, '{"a": ' * 2000 + "1" + "}" * 2000])


def a_time_is_seconds_or_refused(folder: Path) -> Callable[[], None]:
    @given(times)
    def check(text: str) -> None:
        for read in (parse_time, Segments.parse, parse_size):
            with suppress(ValueError):
                found = read(text)
                seconds = found.seconds if isinstance(found, Segments) else found
                assert seconds is None or 0 <= seconds < float("inf")

    return check


def a_manifest_is_read_or_one_line_is_named(folder: Path) -> Callable[[], None]:
    path = folder / "list.jsonl"
    written = st.lists(manifest_lines.map(dumped) | deep, max_size=5).map("\n".join)

    @given(written.map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary(max_size=200))
    def check(content: bytes) -> None:
        path.write_bytes(content)
        found, refused = tried(lambda: list(read_manifest(path)))
        assert refused is None or ("list.jsonl, line " in refused and len(refused.splitlines()) == 1)
        assert len({each.id for each in found}) == len(found)

    return check


def a_journal_that_is_cut_keeps_what_was_whole(folder: Path) -> Callable[[], None]:
    path = folder / "captions.jsonl"
    groups = st.dictionaries(texts.filter(is_unicode), st.lists(texts, min_size=1, max_size=3), max_size=5)

    @given(groups, st.data())
    def check(videos: dict[str, list[str]], data: Any) -> None:
        path.unlink(missing_ok=True)
        ends = {}
        with Journal(path) as journal:
            for name, answers in videos.items():
                journal.append(records(name, answers))
                ends[name] = path.stat().st_size
        at = data.draw(st.integers(0, max(ends.values(), default=0)))
        with path.open("r+b") as file:
            file.truncate(at)
        with Journal(path) as journal:
            for name, end in ends.items():  # of a line without its end, nothing is missing
                assert journal.is_done(name, "k") == (at >= end - 1)
                if not journal.is_done(name, "k"):
                    journal.append(records(name, videos[name]))
        with Journal(path) as journal:
            assert {name: [each["answer"] for each in journal.read(name, "k")] for name in videos} == videos
            assert len(list(journal.records())) == sum(map(len, videos.values()))

    return check


def what_is_no_journal_is_refused_and_stays(folder: Path) -> Callable[[], None]:
    path = folder / "other.jsonl"
    record = st.fixed_dictionaries({}, optional=dict.fromkeys(("id", "key", "part", "parts", "answer"), values))
    written = st.lists(record.map(dumped) | values.map(dumped) | deep, max_size=4).map("\n".join)

    @given(written.map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary(max_size=200))
    def check(content: bytes) -> None:
        path.write_bytes(content)
        found, refused = tried(lambda: opened(path))
        assert refused is None or len(refused.splitlines()) == 1
        assert refused is None or path.read_bytes() == content
        assert all(isinstance(each["id"], str) for each in found)

    return check


def json_of_a_model_is_a_description_or_a_problem(folder: Path) -> Callable[[], None]:
    known = st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(("caption", "objects", "actions", "setting", "text"), values),
    )
    written = (known | values).map(dumped) | deep | texts

    @given(texts, written, texts, st.booleans())
    def check(before: str, text: str, after: str, fenced: bool) -> None:
        found, problem = parse(f"{before}```json\n{text}\n```{after}" if fenced else before + text + after)
        assert (found is None) != (problem is None)
        assert problem is None or len(problem.splitlines()) == 1

    return check


def a_line_is_ascii_and_read_back(folder: Path) -> Callable[[], None]:
    @given(st.dictionaries(texts, values, max_size=5))
    def check(record: dict[str, Any]) -> None:
        written = line(record)
        assert written.isascii()
        assert written.count(b"\n") == 1
        assert repr(json.loads(written)) == repr(json.loads(json.dumps(record)))

    return check


PROPERTIES = [
    a_time_is_seconds_or_refused,
    a_manifest_is_read_or_one_line_is_named,
    a_journal_that_is_cut_keeps_what_was_whole,
    what_is_no_journal_is_refused_and_stays,
    json_of_a_model_is_a_description_or_a_problem,
    a_line_is_ascii_and_read_back,
]
named = pytest.mark.parametrize("made", PROPERTIES, ids=lambda each: each.__name__)


def tried(read: Callable[[], list[Any]]) -> tuple[list[Any], str | None]:
    """What is read, or why not."""
    try:
        return read(), None
    except ValueError as error:
        return [], str(error)


def opened(path: Path) -> list[Any]:
    with Journal(path) as journal:
        return list(journal.records())


def dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def is_unicode(text: str) -> bool:
    return text.isprintable() or not any(0xD800 <= ord(letter) < 0xE000 for letter in text)


def records(name: str, answers: list[str]) -> list[dict[str, Any]]:
    return [
        {"id": name, "key": "k", "part": part, "parts": len(answers), "answer": answer}
        for part, answer in enumerate(answers)
    ]


def search(made: Callable[[Path], Callable[[], None]], folder: Path, count: int, number: int) -> None:
    """Look for counterexamples among `count` examples."""
    quick = settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    seed(number)(quick(made(folder)))()


@named
def test_it_holds_for_some_texts(made, tmp_path, ledger):
    search(made, tmp_path, 100, 0)
    ledger.note("made-up text", survived=100)


@pytest.mark.faults
@pytest.mark.timeout(300)
@named
def test_it_holds_for_texts_without_end(made, tmp_path, ledger):
    number, until = 0, time.process_time() + BOUND
    while time.process_time() < until:
        number += 1
        search(made, tmp_path, ROUND, number)
        ledger.note("made-up text", survived=ROUND)
