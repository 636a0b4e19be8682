"""Shared by all model families: encoders, sizes, positions, masks, and hooks on a model."""
