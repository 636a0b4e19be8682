"""Methods in the encoder's blocks, IPCV and ToMe; tensors/ has the functions they are made of."""
