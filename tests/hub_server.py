"""A hub of one repository on this machine, as far as fetching a model asks anything of it."""

import hashlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Self

REPOSITORY = "owner/model"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Serves the files of a folder as `REPOSITORY`; `asked` lists the paths requested. `cut`: files that break off."""

    def __init__(self, folder: Path, cut: tuple[str, ...] = ()) -> None:
        self.folder, self.cut, self.asked = folder, cut, list[str]()
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
        self._server.shutdown()
        self._server.server_close()

    def respond(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        path = request.path.split("?")[0]
        self.asked.append(path)
        file = self.folder / path.rsplit("/", 1)[1]
        if path.startswith(f"/{REPOSITORY}/resolve/") and file.is_file():
            self._send(request, file.read_bytes(), cut=file.name in self.cut)
        elif path.startswith(f"/api/models/{REPOSITORY}/tree/"):
            self._send(request, json.dumps([self._entry(file) for file in self._files()]).encode())
        elif path in (f"/api/models/{REPOSITORY}", f"/api/models/{REPOSITORY}/revision/main"):
            siblings = [{"rfilename": file.name, "size": file.stat().st_size} for file in self._files()]
            self._send(request, json.dumps({"id": REPOSITORY, "sha": COMMIT, "siblings": siblings}).encode())
        else:
            request.send_response(404)
            request.send_header("X-Error-Code", "RevisionNotFound" if REPOSITORY in path else "RepoNotFound")
            request.send_header("Content-Length", "0")
            request.end_headers()

    def _files(self) -> list[Path]:
        return sorted(self.folder.iterdir())

    def _entry(self, file: Path) -> dict[str, object]:
        return {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": _digest(file.read_bytes())}

    def _send(self, request: BaseHTTPRequestHandler, body: bytes, *, cut: bool = False) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(body)))
        request.send_header("Content-Type", "application/json")
        request.send_header("ETag", f'"{_digest(body)}"')
        request.send_header("X-Repo-Commit", COMMIT)
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(body[: len(body) // 2] if cut else body)


def _digest(body: bytes) -> str:
    return hashlib.sha1(body, usedforsecurity=False).hexdigest()
