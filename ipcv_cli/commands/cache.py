"""`ipcv cache`: list, measure or empty the cache of encodings."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ipcv_cli import choices
from ipcv_cli import options as opt
from ipcv_cli.exit import UsageError, leaving_at_once, reported

if TYPE_CHECKING:
    from ipcv.encodings.cache import CacheEntry


def cache(
    action: Annotated[
        Literal["ls", "rm", "size"],
        typer.Argument(help="ls: list the encodings. rm: remove all of them. size: their bytes."),
    ] = "ls",
    where: Annotated[
        str, typer.Option("--cache", metavar="DIR", help="The cache; auto: in the user's cache folder.")
    ] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only errors on stderr.")] = False,
    debug: opt.Debug = False,
    no_color: opt.NoColor = False,
) -> None:
    """List, measure or empty the cache of encodings that `--cache` of ask and caption fills.

    The list has a line for each encoding, the last used first: time, bytes, video. stderr says how many there are.

    Example: ipcv cache
    """
    with reported(debug=debug, no_color=no_color):
        from ipcv_cli.display.render import line, stderr_console
        from ipcv_cli.display.stdout import write

        with leaving_at_once():
            store = choices.encoding_cache(where, "10GB", lambda _: None)
        if store is None:
            raise UsageError("--cache off is no cache: name a folder, or auto")
        entries = store.entries()
        bytes_ = sum(entry.size for entry in entries)
        where_all = f"{len(entries):,} encoding{'s' * (len(entries) != 1)}, {bytes_:,} bytes,"
        if action == "size":
            write(f"{bytes_}\n")
            return
        if action == "rm":
            store.clear()
            told = line("removed", f"{where_all} from {store.folder}")
        else:
            write("".join(map(row, entries)))
            told = line("cache", f"{where_all} in {store.folder}")
        if not quiet:
            stderr_console(no_color=no_color).print(told, soft_wrap=True)


def row(entry: "CacheEntry") -> str:
    """An entry as a line of the list."""
    from ipcv.text import visible

    used = datetime.fromtimestamp(entry.used).astimezone().isoformat(timespec="seconds")
    return f"{used}\t{entry.size}\t{visible(entry.video)}\n"
