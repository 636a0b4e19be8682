"""`ipcv methods`: what methods there are to save work, and all that is known about one."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ipcv.compression.registry import METHODS
from ipcv_cli import options as opt
from ipcv_cli import startup
from ipcv_cli.exit import leaving_at_once, reported

if TYPE_CHECKING:
    MethodName = str
else:
    MethodName = Literal[tuple(METHODS)]


def methods(
    name: Annotated[
        MethodName | None,
        typer.Argument(metavar="NAME", help="Describe this method only, in full.", show_default=False),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object; ipcv schema --methods describes it.")
    ] = False,
    debug: opt.Debug = False,
    no_color: opt.NoColor = False,
) -> None:
    """List the methods that save work: where each acts, its paper, what it needs, on which model families it runs.

    Example: ipcv methods v2drop
    """
    with reported(debug=debug, no_color=no_color):
        with leaving_at_once():
            startup.prepare(offline=True, bars=False, debug=debug)
            from ipcv.compression.catalog import list_methods
            from ipcv_cli.display.method_table import method_page, method_table
            from ipcv_cli.display.stdout import methods_object, write

            found = list_methods([name] if name else [])
        if json:
            write(methods_object(found))
        else:
            write(method_page(found.methods[0]) if name else method_table(found))
