"""The command line with batches that take a while, so that there is time to kill it between two."""

from __future__ import annotations

import sys
import time

from gsnn.cli import main
from gsnn.distributed import _fit

real = _fit._update


def slowly(*args: object) -> None:
    time.sleep(0.5)
    real(*args)


if __name__ == "__main__":
    _fit._update = slowly
    main(sys.argv[1:])
