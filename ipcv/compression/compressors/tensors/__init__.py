"""Pure functions of tensors for the compressors: choose tokens, rebuild and merge them, attend."""
