"""Lets numpy's products run on one thread; imported before numpy. A pool of threads that a fork cut off waits for ever."""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
