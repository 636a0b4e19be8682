"""A model by its name: found, fetched and loaded; prompt.py builds a prompt."""
