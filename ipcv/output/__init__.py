"""Results as files: records.py writes a caption's line, and a run that was stopped goes on from them."""
