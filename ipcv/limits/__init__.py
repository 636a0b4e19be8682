"""What there is room for: visual tokens, pixels and bytes."""
