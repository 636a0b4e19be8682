"""The process that renders chat templates, run as a script: it may be killed at any moment, and imports jinja2 alone.

A template is a program: it may loop for ever, or fill the memory. Each line on stdin is a template and its values, as
JSON; the answer is a line with the text, or with an error. Too much processor time or memory ends the process.
"""

import json
import math
import resource
import sys
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

SECONDS = 2  # of processor time for one template; honest ones take milliseconds
MEMORY = 2**29  # bytes of address space
LONGEST = 2**20  # characters that a template may write beside those of its values


class Generation(Extension):
    """`{% generation %}` marks what a model wrote, for training: its contents are rendered as they are."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares it so

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The statements up to the end of the mark."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class PlainNamespace(Namespace):
    """jinja2's namespace without names that lead into Python itself."""

    def __setitem__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            raise jinja2.TemplateError(f"a namespace has no {name!r}")
        super().__setitem__(name, value)


def make_namespace(*values: Any, **named: Any) -> PlainNamespace:
    """The template's `namespace(...)`."""
    made = PlainNamespace()
    for name, value in dict(*values, **named).items():
        made[name] = value
    return made


def make_dict(*values: Any, **named: Any) -> dict[Any, Any]:
    """The template's `dict(...)`: a function has no class attributes to reach for."""
    return dict(*values, **named)


def tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, **more: Any) -> str:
    """`value` as JSON, without jinja2's escapes for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **more)


def fail(message: str) -> None:
    """The template's own complaint about its values."""
    raise jinja2.TemplateError(message)


def strftime_now(form: str) -> str:
    """The time of day, as `form` says."""
    return datetime.now().strftime(form)


@lru_cache(maxsize=4)
def compiled(template: str) -> jinja2.Template:
    """The template with the names that transformers gives to chat templates."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = tojson
    names = {"raise_exception": fail, "strftime_now": strftime_now, "dict": make_dict, "namespace": make_namespace}
    environment.globals.update(names)
    return environment.from_string(template)


def limit(kind: int, most: int) -> None:
    """Limit what this process may use, to less where it was limited already; not every system can."""
    _, hard = resource.getrlimit(kind)
    with suppress(ValueError, OSError):
        resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def answer(line: bytes) -> dict[str, str]:
    """The text of one request, or what went wrong."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit(resource.RLIMIT_CPU, math.ceil(used.ru_utime + used.ru_stime) + SECONDS)
    try:
        template, values = json.loads(line)
        text = compiled(template).render(**values)
        if len(text) > len(line) + LONGEST:
            return {"error": f"it writes {len(text):,} characters"}
    except MemoryError:
        return {"error": "it takes too much memory"}
    except Exception as error:  # a template is a program
        return {"error": str(error) or type(error).__name__}
    return {"text": text}


def serve() -> None:
    """Answer requests until there are no more."""
    limit(resource.RLIMIT_AS, MEMORY)
    limit(resource.RLIMIT_CORE, 0)
    for line in sys.stdin.buffer:
        sys.stdout.buffer.write(json.dumps(answer(line)).encode("ascii") + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    serve()
