"""Files, images and URLs become timed frames."""
