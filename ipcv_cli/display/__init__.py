"""What a terminal shows, and what goes to stdout."""
