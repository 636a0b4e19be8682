"""A hub of one repository on this machine, as far as fetching a model asks anything of it."""

import hashlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Self

REPOSITORY = "owner/model"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Serves the files of a folder as `REPOSITORY`; `asked` lists the paths requested, `sent` the files.

    Files in `cut` break off in the middle, those in `stalled` wait there for the end of the `with`, those in `lost`
    cannot be sent. `sizes`: what is said of files in place of their size. `gated`: files are for those who agreed.
    """

    commit = COMMIT

    def __init__(self, folder: Path, cut: tuple[str, ...] = ()) -> None:
        self.folder, self.cut, self.asked = folder, cut, list[str]()
        self.sent: list[str] = []
        self.stalled: tuple[str, ...] = ()
        self.lost: tuple[str, ...] = ()
        self.sizes: dict[str, int] = {}
        self.gated = False
        self._end = Event()
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hub.respond(self)

            do_HEAD = do_GET  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._server.shutdown()
        self._server.server_close()

    def respond(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        path = request.path.split("?")[0]
        self.asked.append(path)
        of = f"/api/models/{REPOSITORY}"
        file = self.folder / path.rsplit("/", 1)[1]
        if self.gated and path.startswith(f"/{REPOSITORY}/resolve/"):
            self._refuse(request, 403, "GatedRepo")
        elif file.name in self.lost and request.command == "GET":
            self._refuse(request, 500, "Lost")
        elif path.startswith(f"/{REPOSITORY}/resolve/") and file.is_file():
            self._send(request, file.read_bytes(), file.name)
        elif path.startswith(f"{of}/tree/"):
            self._send(request, json.dumps([self._entry(file) for file in self._files()]).encode())
        elif path in (of, f"{of}/revision/main", f"{of}/revision/{self.commit}"):
            siblings = [{"rfilename": file.name, "size": self._size(file)} for file in self._files()]
            self._send(request, json.dumps({"id": REPOSITORY, "sha": self.commit, "siblings": siblings}).encode())
        else:
            self._refuse(request, 404, "RevisionNotFound" if REPOSITORY in path else "RepoNotFound")

    def _files(self) -> list[Path]:
        return sorted(self.folder.iterdir())

    def _size(self, file: Path) -> int:
        return self.sizes.get(file.name, file.stat().st_size)

    def _entry(self, file: Path) -> dict[str, object]:
        return {"type": "file", "path": file.name, "size": self._size(file), "oid": _digest(file.read_bytes())}

    def _refuse(self, request: BaseHTTPRequestHandler, status: int, code: str) -> None:
        request.send_response(status)
        request.send_header("X-Error-Code", code)
        request.send_header("Content-Length", "0")
        request.end_headers()

    def _send(self, request: BaseHTTPRequestHandler, body: bytes, name: str = "") -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(self.sizes.get(name, len(body))))
        request.send_header("Content-Type", "application/json")
        request.send_header("ETag", f'"{_digest(body)}"')
        request.send_header("X-Repo-Commit", self.commit)
        request.end_headers()
        if request.command == "GET":
            self.sent.append(name)
            half = len(body) // 2
            request.wfile.write(body[:half])
            if name in self.stalled:
                self._end.wait(60)
            elif name not in self.cut:
                request.wfile.write(body[half:])


def _digest(body: bytes) -> str:
    return hashlib.sha1(body, usedforsecurity=False).hexdigest()


def redirect(monkeypatch, address):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
