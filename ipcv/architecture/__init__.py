"""What the model families have in common: encoders, shapes, positions, masks, hooks."""
