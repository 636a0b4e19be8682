"""Methods in the decoder's layers: which visual tokens the later layers see."""
