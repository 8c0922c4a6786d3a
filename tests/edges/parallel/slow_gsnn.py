"""The command line with batches that take a while, so that there is time to kill it between two."""

from __future__ import annotations

import sys
import time

from gsnn.cli import main
from gsnn.edges.parallel import fit_parts as fit_parts_module

real = fit_parts_module._update


def slowly(*args: object) -> None:
    time.sleep(0.5)
    real(*args)


if __name__ == "__main__":
    fit_parts_module._update = slowly
    main(sys.argv[1:])
