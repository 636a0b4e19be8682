"""Web servers of every kind: each ends in the file or in one line that says why not, within bounds on time."""

import socket
import threading
import time
from contextlib import contextmanager, nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ipcv.errors import ReadTimeoutError, VideoError
from ipcv.media.remote import connection, web
from ipcv.media.remote.access import Access
from ipcv.media.remote.connection import is_private
from ipcv.media.remote.copies import fetch, identity_of_remote

LIMIT = 1 << 20
VIDEO = bytes(range(256)) * 64


class Handler(BaseHTTPRequestHandler):
    """Answers by what the path says."""

    def do_HEAD(self):
        time.sleep(60)

    def do_GET(self):
        name, _, rest = self.path[1:].partition("/")
        self.server.seen.append((self.path, self.headers))
        getattr(self, f"do_{name}")(rest)

    def send(self, status=200, body=b"", **headers):
        self.send_response(status)
        for key, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_video(self, *_):
        self.send(body=VIDEO, ETag='"1"')

    def do_unmarked(self, *_):
        self.send(body=VIDEO)

    def do_status(self, rest):
        self.send(int(rest))

    def do_to(self, rest):
        self.send(302, Location=rest)

    def do_around(self, *_):
        self.send(302, Location=f"/around/{len(self.server.seen)}", body=b"x")

    def do_nowhere(self, *_):
        self.send(302)

    def do_page(self, rest):
        self.send(body=b"\n<!DOCTYPE html><p>Log in first</p>", Content_Type=rest)

    def do_headers(self, *_):
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Giant: " + b"x" * 100_000 + b"\r\n\r\n")

    def do_many(self, *_):
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        for number in range(10_000):
            self.wfile.write(b"X-%d: x\r\n" % number)

    def do_begins(self, *_):
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX: y\r\n")
        self.do_drip()

    def do_silent(self, *_):
        time.sleep(60)

    def do_drip(self, *_):
        for _ in range(600):
            self.wfile.write(b"x")
            time.sleep(0.1)

    def do_endless(self, *_):
        self.send_response(200)
        self.end_headers()
        while True:
            self.wfile.write(bytes(1 << 16))

    def do_slow(self, *_):
        self.send_response(200)
        self.end_headers()
        self.do_drip()

    def do_stops(self, rest):
        self.send_response(200)
        self.send_header("Content-Length", "100000")
        self.end_headers()
        self.wfile.write(VIDEO)
        if rest:
            time.sleep(60)

    def do_closes(self, *_):
        pass

    def do_packed(self, *_):
        self.send(body=VIDEO, Content_Encoding="gzip")

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        """Clients go away here."""


@contextmanager
def serving(host="127.0.0.1"):
    server = Server((host, 0), Handler)
    server.seen = []
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    server.url = f"http://{host}:{server.server_port}"
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def server():
    with serving() as found:
        yield found


def message(url, tmp_path, **access):
    """The one line of the error, which names the URL and not the copy."""
    with pytest.raises(VideoError) as error:
        fetch(url, tmp_path / "copy", Access(**{"max_download": LIMIT} | access))
    text = str(error.value)
    assert "\n" not in text
    assert str(tmp_path) not in text
    return text.removeprefix(f"{url} ")


def test_a_server_that_never_answers_a_head_gives_its_file(server, tmp_path):
    url = f"{server.url}/video/a%20b.mp4?x=1"
    assert identity_of_remote(url, Access())["size"] == len(VIDEO)
    fetch(url, tmp_path / "copy", Access(max_download=len(VIDEO)))
    assert (tmp_path / "copy").read_bytes() == VIDEO
    assert [path for path, _ in server.seen] == ["/video/a%20b.mp4?x=1"] * 2


def test_spaces_and_letters_of_any_alphabet_may_stand_in_an_address(server, tmp_path):
    fetch(f"{server.url}/video/ä b.mp4", tmp_path / "copy", Access())
    assert server.seen[0][0] == "/video/%C3%A4%20b.mp4"


def test_a_server_without_marks_gives_no_hash(server):
    assert identity_of_remote(f"{server.url}/unmarked", Access()) == {"size": len(VIDEO), "hash": ""}
    assert identity_of_remote(f"{server.url}/video", Access())["hash"]


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("status/401", "answers 401 Unauthorized; it wants a login"),
        ("status/403", "answers 403 Forbidden; it is forbidden"),
        ("status/404", "answers 404 Not Found; it does not exist there: check the address"),
        ("status/418", "answers 418 I'm a Teapot; check the address"),
        ("status/429", "answers 429 Too Many Requests; the server wants fewer"),
        ("status/500", "answers 500 Internal Server Error; the server has failed: try again later"),
        ("status/503", "answers 503 Service Unavailable; the server has failed: try again later"),
        ("status/204", "answers 204 No Content; check the address"),
        ("around/1", "redirects more than 10 times"),
        ("nowhere", "answers 302 without saying where to"),
        ("to/file:///etc/passwd", "redirects to file:///etc/passwd, which is no web address"),
        ("to/ftp://127.0.0.1/x", "redirects to ftp://127.0.0.1/x, which is no web address"),
        ("headers", "sends headers that are too large"),
        ("many", "sends too many headers"),
        ("closes", "closed the connection: try again later"),
        ("packed", "sends it compressed (gzip)"),
        ("stops/", "broke off after 16,384 of 100,000 bytes: try again"),
    ],
)
def test_what_a_server_refuses_is_said_with_its_status(path, says, server, tmp_path):
    assert says in message(f"{server.url}/{path}", tmp_path)
    assert message(f"{server.url}/{path}", tmp_path).startswith("cannot be fetched: ")
    if path != "stops/":
        with pytest.raises(VideoError) as error:
            identity_of_remote(f"{server.url}/{path}", Access())
        assert says in str(error.value)


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "video/mp4"])
def test_a_web_page_is_called_one(kind, server, tmp_path):
    assert message(f"{server.url}/page/{kind}", tmp_path).startswith("is a web page, not a video")


def test_a_body_without_an_end_is_bounded(server, tmp_path):
    assert message(f"{server.url}/endless", tmp_path) == f"is larger than {LIMIT:,} bytes: raise max_download"
    assert (tmp_path / "copy").stat().st_size <= LIMIT


@pytest.mark.parametrize("path", ["silent", "drip", "begins"])
def test_a_server_that_does_not_answer_is_given_up(path, server, tmp_path, monkeypatch):
    monkeypatch.setattr(web, "ANSWER", 0.5)
    begun = time.monotonic()
    assert "has not answered within 0.5 s" in message(f"{server.url}/{path}", tmp_path)
    with pytest.raises(ReadTimeoutError, match=r"has not answered within 0\.2 s"):
        identity_of_remote(f"{server.url}/{path}", Access(timeout=0.2))
    assert time.monotonic() - begun < 5


def test_many_videos_of_a_silent_server_are_given_up_sooner(server, monkeypatch):
    monkeypatch.setattr(web, "ANSWER", 1.0)
    monkeypatch.setattr(web, "AGAIN", 0.1)
    times = []
    for path in ("silent/1", "silent/2", "silent/3", "video", "silent/4"):
        begun = time.monotonic()
        with nullcontext() if path == "video" else pytest.raises(ReadTimeoutError):
            identity_of_remote(f"{server.url}/{path}", Access())
        times.append(time.monotonic() - begun)
    first, *others, again = times
    assert first > 0.9 < again
    assert max(others) < 0.9


def test_a_server_that_falls_silent_or_drips_or_takes_for_ever_is_given_up(server, tmp_path, monkeypatch):
    monkeypatch.setattr(connection, "SILENCE", 0.3)
    assert "was silent for too long" in message(f"{server.url}/stops/for-ever", tmp_path)
    monkeypatch.setattr(web, "SILENCE", 0.3)
    assert "sends less than 1,000 bytes a second" in message(f"{server.url}/slow", tmp_path)
    assert "its end has not come within 0.2 s" in message(f"{server.url}/slow", tmp_path, timeout=0.2)


def test_a_host_that_takes_no_connection_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(connection, "CONNECT", 0.3)
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        others = [socket.socket() for _ in range(4)]
        for other in others:
            other.setblocking(False)
            other.connect_ex(address)
        said = message(f"http://127.0.0.1:{address[1]}/", tmp_path)
        for other in others:
            other.close()
    assert "silent for too long" in said


def test_refused_and_unknown_hosts_are_told_apart(tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        assert "refuses the connection" in message(f"http://127.0.0.1:{closed.getsockname()[1]}/", tmp_path)
    assert "host none.invalid is not known" in message("http://none.invalid/a.mp4", tmp_path)
    assert "cannot be fetched: " in message("http://127.0.0.1:port/a.mp4", tmp_path) + "cannot be fetched: "


def test_what_is_no_web_server_is_said_to_be_none(tmp_path):
    def answer():
        with listening.accept()[0] as caller:
            caller.sendall(b"SSH-2.0-OpenSSH\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        for scheme, says in (("http", "no web server"), ("https", "")):
            threading.Thread(target=answer, daemon=True).start()
            assert says in message(f"{scheme}://127.0.0.1:{listening.getsockname()[1]}/", tmp_path)


def test_a_login_in_the_address_goes_to_its_host_and_to_no_other(server, tmp_path):
    with serving() as other:
        url = server.url.replace("//", "//me:s%20t@") + f"/to/{other.url}/video"
        fetch(url, tmp_path / "copy", Access())
        assert server.seen[0][1]["Authorization"] == "Basic bWU6cyB0"
        assert other.seen[0][1]["Authorization"] is None


def test_a_redirect_from_the_internet_to_this_machine_is_refused(server, tmp_path, monkeypatch):
    monkeypatch.setattr(connection, "is_private", lambda address: address == "127.0.0.2")
    with serving("127.0.0.2") as inner:
        url = f"{server.url}/to/{inner.url}/video"
        said = message(url, tmp_path)
        assert f"redirects to 127.0.0.2:{inner.server_port}, which is on this machine or its network" in said
        assert said.endswith("give `allow_private` if that is meant")
        with pytest.raises(VideoError, match="allow_private"):
            identity_of_remote(url, Access())
        assert inner.seen == []
        fetch(url, tmp_path / "copy", Access(allow_private=True))
        fetch(f"{inner.url}/to/{inner.url}/video", tmp_path / "copy", Access())  # the first address is private


@pytest.mark.parametrize(
    ("address", "private"),
    [
        *[(address, True) for address in ("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254")],
        *[(address, True) for address in ("0.0.0.1", "100.64.0.1", "::1", "fe80::1%eth0", "fd00::1", "224.0.0.1")],
        *[(address, True) for address in ("::ffff:127.0.0.1", "::ffff:10.0.0.1", "255.255.255.255", "::")],
        *[(address, False) for address in ("8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8")],
    ],
)
def test_addresses_of_this_machine_and_its_network_are_private(address, private):
    assert is_private(address) is private
