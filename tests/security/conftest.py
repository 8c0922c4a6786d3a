"""What a file from a stranger may cost: five seconds and a gigabyte."""

from __future__ import annotations

import resource
import signal
from contextlib import contextmanager
from pathlib import Path

import pytest

MEMORY, SECONDS = 2**30, 5


class TooLong(BaseException):
    """Not an Exception, so that no reader takes it for its own."""


def _stop(signum, frame):
    raise TooLong


@pytest.fixture
def bounded():
    """A context in which more memory or more time is an error."""
    status = Path("/proc/self/statm")
    if not status.exists():
        pytest.skip("the limit of memory needs /proc")

    @contextmanager
    def limit():
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        size = int(status.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, hard))
        # CPU time, since the machine that runs the tests may be busy.
        before = signal.signal(signal.SIGPROF, _stop)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.signal(signal.SIGPROF, before)
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))

    return limit
