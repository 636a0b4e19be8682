"""Videos after the encoder, kept and found again."""
