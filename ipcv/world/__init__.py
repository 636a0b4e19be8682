"""The drawn demo world: scenes by seed, how they move and how they are drawn. Needs no torch."""
