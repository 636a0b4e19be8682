"""`python -m ipcv_cli` is `ipcv`."""

from ipcv_cli.main import run

run()
