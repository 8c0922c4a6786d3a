"""``python tests/fuzz``: the fuzzing campaign."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

# Not as tests.fuzz: an installed package may have taken the name "tests".
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from fuzz._harness import line, run, summary


def main() -> int:
    """Run it; 1 if anything but a parsed object or an error of gsnn came out."""
    parser = argparse.ArgumentParser(prog="python tests/fuzz", description="Mutated files for every reader.")
    parser.add_argument("--inputs", type=int, default=100_000, help="how many in all (default: 100000)")
    parser.add_argument("--seed", type=int, default=0, help="of the mutations (default: 0)")
    parser.add_argument("--only", default="", help="only the targets whose names hold this")
    parser.add_argument("--keep", type=Path, help="folder in which the inputs with a finding are kept")
    options = parser.parse_args()
    outcomes = run(
        options.inputs,
        seed=options.seed,
        only=options.only,
        keep=options.keep,
        report=lambda name, outcome: print(line(name, outcome), flush=True),
    )
    print(list(summary(outcomes))[-1])
    return int(any(outcome.findings for outcome in outcomes.values()))


if __name__ == "__main__":
    sys.exit(main())
