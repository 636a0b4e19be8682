"""Many videos through one model: which videos, what is asked of each, in which order."""
