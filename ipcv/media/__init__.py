"""Files, images and URLs become timed frames: sampling.py chooses them, video/ and display/ read them."""
