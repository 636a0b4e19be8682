"""`ipcv models`: list the models that can be asked; fetch them into the hub's cache, find and remove them there."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup

from ipcv_cli import completion, startup
from ipcv_cli import options as opt
from ipcv_cli.confirm import confirm
from ipcv_cli.exit import ERROR, leaving_at_once, reported

if TYPE_CHECKING:
    from ipcv.models.download import Download

ASK_ABOVE = 10**9  # bytes: a larger download is asked about

Repository = Annotated[
    str,
    typer.Argument(
        metavar="REPO", autocompletion=completion.published, help="A repository such as Qwen/Qwen2-VL-2B-Instruct."
    ),
]
Cached = typer.Argument(metavar="REPO", autocompletion=completion.cached, help="A repository in the cache.")
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only questions and errors on stderr.")]


class _ListByDefault(TyperGroup):
    """A group of commands that runs `list` unless a command is named."""

    def parse_args(self, context: typer.Context, words: list[str]) -> list[str]:  # type: ignore[override]
        is_named = words and (not words[0].startswith("-") or words[0] in context.help_option_names)
        if not is_named and not context.resilient_parsing:  # a shell asks for completions
            words = ["list", *words]
        return super().parse_args(context, words)


models = typer.Typer(cls=_ListByDefault)


@models.callback()
def _models() -> None:
    """List the models that can be asked; fetch them into the Hugging Face hub's cache, find and remove them there.

    Without a command: list.

    Example: ipcv models
    """


@models.command(name="list")
def list_models(
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object; ipcv schema --models describes it.")
    ] = False,
    debug: opt.Debug = False,
    no_color: opt.NoColor = False,
) -> None:
    """List families with published models, their sizes, and what of them is in the cache. No network call.

    Example: ipcv models list --json | jq -r '.models[] | select(.cached.path).name'
    """
    with reported(debug=debug, no_color=no_color):
        with leaving_at_once():
            startup.prepare(offline=False, bars=False, debug=debug)
            from ipcv.models import catalog
            from ipcv_cli.display.model_table import model_table
            from ipcv_cli.display.stdout import listing_object, write

            found = catalog.list_models()
        write(listing_object(found) if json else model_table(found))


@models.command()
def pull(
    repository: Repository,
    revision: opt.Revision = None,
    yes: Yes = False,
    quiet: Quiet = False,
    debug: opt.Debug = False,
    no_color: opt.NoColor = False,
) -> None:
    """Fetch a model as the hub has it now, and print its folder.

    Files that are in the cache already are not fetched again. More than 1 GB is asked about first.

    Example: ipcv models pull Qwen/Qwen2-VL-2B-Instruct
    """
    with reported(debug=debug, no_color=no_color):
        from ipcv_cli.display.ask_view import byte_bar
        from ipcv_cli.display.render import magnitude
        from ipcv_cli.display.stdout import write_path

        say = _speaker(quiet=quiet, no_color=no_color)
        with leaving_at_once():
            startup.prepare(offline=False, bars=False, debug=debug)
            from ipcv.models import download
            from ipcv.models.hub import local
            from ipcv.models.hub_cache import cache_folder

            if folder := local(repository, revision):
                say("present", f"{repository} is in {folder}, there is nothing to fetch")
                write_path(folder)
                return
            planned = download.plan(repository, revision=revision)
        size = magnitude(planned.missing, 1000, "B")
        say(*_news(planned, size, cache_folder()))
        if planned.missing > ASK_ABOVE and not yes and not confirm(f"fetch {size}?"):
            raise typer.Exit(ERROR)
        bar = byte_bar(quiet=quiet, no_color=no_color)
        with leaving_at_once(sigterm=True), bar:
            task = bar.add_task(repository, total=planned.missing)
            folder = planned.fetch(lambda done: bar.update(task, completed=done))
        write_path(folder)


@models.command()
def path(
    repository: Annotated[str, Cached],
    revision: opt.Revision = None,
    debug: opt.Debug = False,
    no_color: opt.NoColor = False,
) -> None:
    """Print the folder of a model, if all of it is here. No network call.

    Example: ipcv models path Qwen/Qwen2-VL-2B-Instruct
    """
    with reported(debug=debug, no_color=no_color):
        with leaving_at_once():
            startup.prepare(offline=False, bars=False, debug=debug)
            from ipcv.models.hub import find_cached
            from ipcv_cli.display.stdout import write_path

            folder = find_cached(repository, revision=revision)
        write_path(folder)


@models.command(name="rm")
def remove(
    repositories: Annotated[list[str], Cached],
    yes: Yes = False,
    quiet: Quiet = False,
    debug: opt.Debug = False,
    no_color: opt.NoColor = False,
) -> None:
    """Remove models from the cache, with all of their revisions, after asking.

    Example: ipcv models rm Qwen/Qwen2-VL-2B-Instruct
    """
    with reported(debug=debug, no_color=no_color):
        from ipcv_cli.display.render import magnitude

        say = _speaker(quiet=quiet, no_color=no_color)
        with leaving_at_once():
            startup.prepare(offline=False, bars=False, debug=debug)
            from ipcv.models.hub_cache import plan_removal

            removals = plan_removal(repositories)
        names = ", ".join(removal.name for removal in removals)
        size = magnitude(sum(removal.size for removal in removals), 1000, "B")
        if not yes and not confirm(f"remove {names} and free {size}?"):
            raise typer.Exit(ERROR)
        for removal in removals:
            removal.execute()
            say("removed", f"{removal.name}, {magnitude(removal.size, 1000, 'B')}")


def _news(download: "Download", size: str, place: Path) -> tuple[str, str]:
    """Kind and text of the line about a download: how much is missing, and where it goes."""
    from ipcv_cli.display.render import magnitude

    everything = magnitude(download.size, 1000, "B")
    if not download.missing:
        return "present", f"{download.name} is as the hub has it, {everything}"
    part = "" if download.missing == download.size else f", what is missing of {everything}"
    return "fetching", f"{download.name}, {size}{part}, to {place}"


def _speaker(*, quiet: bool, no_color: bool) -> Callable[[str, str], None]:
    """A function that prints a line on stderr, unless `quiet`."""
    from ipcv_cli.display.render import line, stderr_console

    console = stderr_console(no_color=no_color)
    console.quiet = quiet
    return lambda kind, message: console.print(line(kind, message), soft_wrap=True)
