"""Videos behind URLs: listed, told apart, copied within bounds, and given up where they hang."""

import json
import shutil
import socket
import tempfile
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest

from ipcv.batch.inputs import collect
from ipcv.encodings.fingerprint import content
from ipcv.errors import VideoError
from ipcv.media.remote.access import Access
from ipcv.media.remote.copies import fetch, identity_of_remote
from ipcv_cli.main import main

FAST = ["--model", "demo", "--max-frames", "4", "--max-new-tokens", "12", "--quiet"]


@pytest.fixture(scope="module")
def address(clips):
    """A server of the clips; what is called slow.mp4 never comes to an end."""

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(clips))

        def do_GET(self):
            if not self.path.endswith("slow.mp4"):
                super().do_GET()
                return
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            for _ in range(300):
                self.wfile.write(b"x")
                self.wfile.flush()
                time.sleep(0.1)

        def do_HEAD(self):
            if not self.path.endswith("slow.mp4"):
                super().do_HEAD()
                return
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def store(clips):
    """A store that only fsspec knows."""
    system = fsspec.filesystem("memory")
    for path in clips.iterdir():
        system.pipe_file(f"/store/sub/{path.name}", path.read_bytes())
    system.pipe_file("/store/notes.txt", b"notes")
    yield system
    system.rm("/store", recursive=True)


def test_a_folder_or_a_pattern_of_a_store_is_listed(store):
    found = collect(["memory://store/"])
    assert [item.place for item in found] == [f"sub/{index}.mp4" for index in range(4)]
    assert found[0].video.startswith("memory://")
    assert [item.place for item in collect(["memory://store/*.txt"])] == ["notes.txt"]
    assert [item.video for item in collect(["s3://bucket/a.mp4"])] == ["s3://bucket/a.mp4"]


def test_another_content_is_another_identity(store):
    before = identity_of_remote("memory://store/sub/0.mp4", Access())
    assert identity_of_remote("memory://store/sub/0.mp4", Access()) == before
    store.pipe_file("/store/sub/0.mp4", b"other")
    assert identity_of_remote("memory://store/sub/0.mp4", Access()) != before


def test_a_copy_is_bounded(store, tmp_path, clips, address):
    size = (clips / "0.mp4").stat().st_size
    for url in ("memory://store/sub/0.mp4", f"{address}/0.mp4"):
        fetch(url, tmp_path / "copy", Access(max_download=size))
        assert (tmp_path / "copy").read_bytes() == (clips / "0.mp4").read_bytes()
        with pytest.raises(VideoError, match=f"is larger than {size - 1:,} bytes: raise max_download"):
            fetch(url, tmp_path / "copy", Access(max_download=size - 1))


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("memory://store/none.mp4", "does not exist: check the address"),
        ("zip://a.mp4::http://127.0.0.1:9/a.zip", "leads to another web address: download that first"),
        ("zip://a.mp4::gopher://b/a.zip", "cannot be fetched: gopher:// is no kind of address that is known"),
        ("nonsense://x/a.mp4", "cannot be fetched: nonsense:// is no kind of address that is known"),
        ("http://127.0.0.1:9/a.mp4", "cannot be fetched: the host refuses the connection"),
    ],
)
def test_what_cannot_be_had_is_a_video_error_of_one_line(url, says, tmp_path):
    with pytest.raises(VideoError, match=says) as error:
        fetch(url, tmp_path / "copy", Access())
    assert "\n" not in str(error.value)
    with pytest.raises(VideoError, match=says):
        identity_of_remote(url, Access())


def test_captions_of_remote_videos_are_those_of_the_files_and_nothing_is_left(
    address, clips, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert main(["caption", *FAST, f"{address}/0.mp4", str(clips / "0.mp4"), "--readers", "1"]) == 0
    remote, local = map(json.loads, capsys.readouterr().out.splitlines())
    assert remote["answer"] == local["answer"]
    assert remote["id"] == remote["video"]["path"] == f"{address}/0.mp4"
    assert list(tmp_path.glob("ipcv-*")) == []


def test_a_download_that_hangs_is_given_up(address, clips, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(clips / "0.mp4", "a.mp4")
    started = time.monotonic()
    words = ["caption", *FAST, f"{address}/slow.mp4", "a.mp4", "--readers", "1", "--timeout", "3"]
    assert main([*words, "-o", "captions.jsonl"]) == 3
    assert time.monotonic() - started < 60
    failed = json.loads(Path("failures.jsonl").read_text())
    assert failed["error"] == "ReadTimeoutError"
    assert failed["message"].endswith("/slow.mp4: reading took more than 3 s and was ended")
    assert json.loads(Path("captions.jsonl").read_text())["id"] == "a.mp4"


def test_a_url_of_a_local_file_is_bounded_and_known_by_all_of_its_content(tmp_path, capsys, clips):
    path = tmp_path / "clip.mp4"
    shutil.copy(clips / "0.mp4", path)
    assert content(f"file://{path}") == content(str(path))
    assert main(["caption", *FAST, f"file://{path}", "--max-download", "1kB", "--readers", "0"]) == 4
    assert capsys.readouterr().err.endswith("is larger than 1,000 bytes: raise --max-download\n")
    for name in ("/dev/zero", str(tmp_path)):
        with pytest.raises(VideoError, match=r"is not a regular file|is a folder"):
            content(f"file://{name}")


class Stuck(threading.Event):
    """A store that never answers."""

    def __call__(self, *_, **__):
        self.wait(60)


def test_a_store_that_never_answers_is_given_up(store, monkeypatch, tmp_path):
    stuck = Stuck()
    monkeypatch.setattr(type(store), "info", stuck)
    with pytest.raises(VideoError, match=r"cannot be fetched: there is no answer within 0\.2 s"):
        identity_of_remote("memory://store/sub/0.mp4", Access(timeout=0.2))
    stuck.set()


def test_one_server_that_never_answers_holds_no_other_video_up(address, clips, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(clips / "0.mp4", "a.mp4")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/a.mp4"
        begun = time.monotonic()
        assert main(["caption", *FAST, url, "a.mp4", "--readers", "1", "--timeout", "1", "-o", "captions.jsonl"]) == 3
        assert time.monotonic() - begun < 60
    assert json.loads(Path("captions.jsonl").read_text())["id"] == "a.mp4"
    message = json.loads(Path("failures.jsonl").read_text())["message"]
    assert message == f"{url} cannot be fetched: the server has not answered within 1 s: try again later"


def test_what_is_no_video_is_named_by_its_url(address, clips, capsys):
    (clips / "notes.mp4").write_text("notes\n" * 100)
    try:
        assert main(["caption", *FAST, f"{address}/notes.mp4", "--readers", "1"]) == 4
    finally:
        (clips / "notes.mp4").unlink()
    assert f"{address}/notes.mp4 is a text file, not a video" in capsys.readouterr().err


def test_an_address_that_cannot_be_one_is_a_video_error_that_names_it(capsys):
    assert main(["ask", "https://[", "What?", "--model", "demo"]) == 4
    said = "ipcv: error: https://[ is no address that can be fetched (Invalid IPv6 URL): check it\n"
    assert capsys.readouterr().err == said
