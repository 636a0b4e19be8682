"""Running : what was asked for, and the run."""
