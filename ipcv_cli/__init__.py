"""The command line of `ipcv`."""
