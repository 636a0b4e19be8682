"""What a terminal shows on stderr, and what goes to stdout."""
