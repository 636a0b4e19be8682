"""Files, images and URLs become timed frames: sampling.py chooses them, decoders.py reads them."""
