"""A run's results as files, so that it can be stopped and resumed."""
