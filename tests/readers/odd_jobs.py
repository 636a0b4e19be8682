"""Read jobs that misbehave, or tell what a reader process looks like from within."""

import os
import sys
import time

from ipcv.readers.job import ReadJob


class Spy(ReadJob):
    """Fails with the names of all modules that its process has loaded."""

    def clips(self, scratch=None):
        list(super().clips(scratch))
        raise ValueError(" ".join(sys.modules))


class Noisy(ReadJob):
    """Writes to stdout, as native libraries do."""

    def clips(self, scratch=None):
        os.write(1, b"noise from a library\n")
        sys.stdout.write("noise from Python\n")
        sys.stdout.flush()
        yield from super().clips(scratch)


class Hanging(ReadJob):
    """Hangs."""

    def clips(self, scratch=None):
        time.sleep(600)
        yield from super().clips(scratch)


class Stalling(ReadJob):
    """Hangs when half of its first message is on the way."""

    def clips(self, scratch=None):
        for span, clip, _ in super().clips(scratch):
            yield span, clip, [bytes(1 << 22), _Hang()]


class _Hang:
    def __reduce__(self):
        time.sleep(600)
