"""The `ipcv` command."""


def run() -> None:
    """Run the command line."""
