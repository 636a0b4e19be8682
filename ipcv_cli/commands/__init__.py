"""One module per command, with a page of its help beside it."""
