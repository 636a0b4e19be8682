"""Videos read ahead by processes that can be killed. Loads no transformers."""
