"""`python -m ipcv_cli` is `ipcv`."""

import signal


def begin() -> None:
    """Run the command line. Ctrl-C while modules are imported ends the process at once, without a traceback."""
    interrupted = signal.getsignal(signal.SIGINT)
    if interrupted is signal.default_int_handler:  # else it is ignored, or somebody else's
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from ipcv_cli.main import run

    signal.signal(signal.SIGINT, interrupted)
    run()


if __name__ == "__main__":
    begin()
