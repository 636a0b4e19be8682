"""What the families have in common: encoders, sizes, positions, masks, and hooks on a model."""
