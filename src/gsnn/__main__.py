"""``python -m gsnn`` is the command line."""

from __future__ import annotations

from gsnn.cli import main

if __name__ == "__main__":
    main()
