"""Captioning on many machines: workers on a Ray cluster."""
