"""Results as files: records.py makes a caption's line, journal.py appends it, resume.py goes on from there."""
