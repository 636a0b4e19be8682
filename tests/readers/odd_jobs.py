"""Read jobs that misbehave, or tell what a reader process looks like from within."""

import os
import stat
import sys
import time
from contextlib import suppress

import numpy as np

from ipcv.errors import VideoError
from ipcv.media.clip import Clip
from ipcv.media.frames import VideoFacts
from ipcv.readers.job import ReadJob


class Spy(ReadJob):
    """Fails with the names of all modules that its process has loaded."""

    def clips(self, scratch=None):
        list(super().clips(scratch))
        raise ValueError(" ".join(sys.modules))


class Noisy(ReadJob):
    """Prints, as native libraries do."""

    def clips(self, scratch=None):
        os.write(2, b"\x1bnoise from a library\n")
        sys.stdout.write("noise from Python\n")
        sys.stdout.flush()
        yield from super().clips(scratch)


class Chatty(ReadJob):
    """Prints more than a pipe holds."""

    def clips(self, scratch=None):
        os.write(2, b"noise" * (1 << 18))
        yield from super().clips(scratch)


class Babbling(ReadJob):
    """Writes among its messages, and waits."""

    def clips(self, scratch=None):
        for number in range(3, 64):
            with suppress(OSError):
                if stat.S_ISSOCK(os.fstat(number).st_mode):
                    os.write(number, b"a line of a library which is no message\n")
        time.sleep(600)
        yield from super().clips(scratch)


class Hungry(ReadJob):
    """Takes memory without end."""

    def clips(self, scratch=None):
        held = []
        while True:
            held.append(b"x" * (1 << 22))
            time.sleep(0.001)
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


class Faulty:
    """Frames of a file that goes wrong after the first of them."""

    facts = VideoFacts("faulty.mp4", 1.0, 64, 64, 8.0, 8, "h264", "mp4", 0, "pyav")
    warnings = ()

    def __init__(self, fault):
        self.fault = fault

    def frames(self):
        yield np.zeros((64, 64, 3), np.uint8)
        if self.fault == "crash":
            os.abort()
        if self.fault == "corrupt":
            raise VideoError("it is broken")
        held = []
        while self.fault == "hunger":
            held.append(b"x" * (1 << 22))
            time.sleep(0.001)
        time.sleep(600)
        yield np.zeros((64, 64, 3), np.uint8)


def faulty_clip(fault):
    return Clip(Faulty(fault), [0.0, 1.0], (64, 64), 2)
