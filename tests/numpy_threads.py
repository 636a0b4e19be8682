"""Lets numpy multiply on one thread, from its import on: a pool of threads that a fork cut off waits for ever."""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
