"""The output of the commands: tables and progress on stderr, answers and JSON on stdout."""
