"""Videos after the encoder, kept on disk and found again."""
