"""Files written so that a crash leaves the old one or the new one; paths with `~`; sizes; and JSON, however deep."""

import errno
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

_SIZE = re.compile(r"[0-9.]+\s*[A-Za-z]*")
_DEEPEST = 100  # levels of lists and objects in JSON: far more than any honest file has, and safe to walk by recursion
_TOO_DEEP = f"this JSON is nested too deeply: more than {_DEEPEST} levels"


@contextmanager
def replaced(path: Path) -> Iterator[BinaryIO]:
    """Open a file to write, which replaces `path` at the end of the `with` and is then safe on the disk.

    If `path` is a link, the file that it points to is replaced. After an error `path` is as it was, and nothing is left
    beside it.
    """
    path = resolved(path)
    handle, name = tempfile.mkstemp(prefix=".ipcv-", suffix=".tmp", dir=path.parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.chmod(path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def resolved(path: Path) -> Path:
    """The file that `path` names, whatever links lead to it. Raises `OSError` for links in a circle."""
    found = Path(os.path.realpath(path))
    if found.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    return found


def parse_json(text: str | bytes) -> Any:
    """The value that JSON `text` stands for. Raises `ValueError` also for values nested more than 100 levels deep."""
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    level = [value]
    for _ in range(_DEEPEST):
        level = [child for each in level for child in _children(each)]
        if not level:
            return value
    raise ValueError(_TOO_DEEP)


def _children(value: Any) -> Iterator[Any]:
    """The lists and objects in a list or an object."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return (part for part in parts if isinstance(part, dict | list))


def parse_size(text: str) -> int:
    """Bytes from `500MB`, `10GiB`, `10G` or a number. Raises `ValueError`."""
    from pydantic import ByteSize, TypeAdapter, ValidationError

    try:
        size = TypeAdapter(ByteSize).validate_python(text)
    except ValidationError:
        size = None
    if size is None or not _SIZE.fullmatch(text.strip()):  # ByteSize passes over what stands behind the unit
        raise ValueError(f"{text!r} is not a size: write 500MB or 10GiB")
    return int(size)


def expanded(path: str) -> Path:
    """`path` with a home folder for its `~` or `~user`; as it is where there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def sync_folder(folder: Path) -> None:
    """Make names in `folder` survive a loss of power, on systems that can."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
