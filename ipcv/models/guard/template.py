"""Render chat templates in a process of their own, so that one that never ends does not hold up the rest."""

import json
import signal
import subprocess
import sys
from contextlib import suppress
from functools import lru_cache
from multiprocessing.connection import wait
from pathlib import Path
from threading import Lock
from typing import Any

from transformers import PreTrainedTokenizerBase

RENDERER = Path(__file__).with_name("renderer.py")
SECONDS = 60  # by the clock; the renderer ends itself after seconds of processor time, where the system can do that
_KILLED = (-signal.SIGKILL, -signal.SIGXCPU)
_TOO_LONG = "it takes too long"


def render(tokenizer: PreTrainedTokenizerBase, messages: list[Any], template: str | None, **values: Any) -> str:
    """The text of `messages` in the chat `template`, or in the tokenizer's own, as transformers renders it.

    Raises `ValueError` for a template that fails, takes too long or writes too much.
    """
    named = {**tokenizer.special_tokens_map, "messages": messages, "tools": None, "documents": None, **values}
    return _rendered(json.dumps([tokenizer.get_chat_template(template), named], default=str))


@lru_cache(maxsize=256)
def _rendered(request: str) -> str:
    reply = _RENDERER.ask(request.encode("ascii"))
    if "text" not in reply:
        raise ValueError(reply["error"])
    return reply["text"]


class _Renderer:
    """The process, started when it is first asked, and again after it was killed. It ends when its stdin is closed."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, request: bytes) -> dict[str, str]:
        """Send one request and return the answer, or why there is none."""
        with self._lock:
            line = b""
            try:
                line = self._line(request)
            except OSError as error:
                return {"error": f"its process cannot be asked: {error}"}
            finally:
                if not line.endswith(b"\n"):  # else an answer that comes late would be taken for the next one
                    code = self._end()
        if line.endswith(b"\n"):
            reply: dict[str, str] = json.loads(line)
            return reply
        return {"error": _TOO_LONG if code in _KILLED else f"its process ended with code {code}"}

    def _line(self, request: bytes) -> bytes:
        """The answer, less than a whole line if the process ended or the time was over."""
        if self._process is None:
            # a session of its own: Ctrl-C at the terminal is for those who wait for the answer
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter, and a file of this package
                [sys.executable, "-P", str(RENDERER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        sink, source = self._process.stdin, self._process.stdout
        if sink is None or source is None:
            raise OSError("it has no pipes")
        with suppress(BrokenPipeError):  # it has ended, and says with its code why
            sink.write(request + b"\n")
            sink.flush()
        return source.readline() if wait([source.fileno()], SECONDS) else b""

    def _end(self) -> int | None:
        """Kill the process if it still runs; return its exit code."""
        process, self._process = self._process, None
        if process is None:
            return None
        with process, suppress(BrokenPipeError):  # of a request that was never read
            process.kill()
        return process.returncode


_RENDERER = _Renderer()
