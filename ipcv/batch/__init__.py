"""Many videos through one model."""
