"""Methods in the encoder's blocks: IPCV, whose selection.py decides which tokens to keep, and ToMe."""
