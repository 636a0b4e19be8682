"""The command line: it parses, calls `ipcv` and prints."""
