"""A model's folder as the work of a stranger: nothing in it runs, and nothing outside it is read."""
