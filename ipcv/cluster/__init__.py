"""Many machines: workers on a Ray cluster."""
