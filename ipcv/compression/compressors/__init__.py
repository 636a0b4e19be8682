"""Methods inside the vision encoder's blocks."""
