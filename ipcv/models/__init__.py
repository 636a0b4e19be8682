"""A model by its name: found, fetched, placed and loaded, and its prompt."""
