"""`ipcv cache`: list, measure or empty the cache of encodings."""

from datetime import datetime
from typing import Annotated, Literal

import typer

from ipcv_cli import choices
from ipcv_cli import options as opt
from ipcv_cli.exit import UsageError, leaving_at_once, reported


def cache(
    action: Annotated[
        Literal["ls", "rm", "size"],
        typer.Argument(help="ls: list the encodings. rm: remove all of them. size: their bytes.", show_default=False),
    ],
    where: Annotated[
        str, typer.Option("--cache", metavar="DIR", help="The cache; auto: in the user's cache folder.")
    ] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only errors on stderr.")] = False,
    debug: opt.Debug = False,
    no_color: opt.NoColor = False,
) -> None:
    """List, measure or empty the cache of encodings that `--cache` of ask and caption fills.

    Example: ipcv cache ls
    """
    with reported(debug=debug, no_color=no_color):
        from ipcv.text import visible
        from ipcv_cli.display.render import line, stderr_console
        from ipcv_cli.display.stdout import write

        with leaving_at_once():
            store = choices.encoding_cache(where, "10GB", lambda _: None)
        if store is None:
            raise UsageError("--cache off is no cache: name a folder, or auto")
        if action == "rm":
            count, size = store.clear()
            if not quiet:
                message = f"{count} encodings, {size:,} bytes, from {store.folder}"
                stderr_console(no_color=no_color).print(line("removed", message), soft_wrap=True)
        elif action == "size":
            write(f"{sum(entry.size for entry in store.entries())}\n")
        else:
            for entry in store.entries():
                used = datetime.fromtimestamp(entry.used).astimezone().isoformat(timespec="seconds")
                write(f"{used}\t{entry.size}\t{visible(entry.video)}\n")
