"""``python tests/mutation``: does a test fail for every small change of metrics, statistics and the sparse maps?"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

# Where mutmut works, in the folder that it is run in.
FOLDER = Path("mutants")
GROUPS = {"metrics": "metrics", "stats": "statistics", "nn": "sparse maps"}
COLUMNS = ("mutants", "killed", "survived", "timeout", "untested")


def outcomes() -> dict[str, dict[str, str]]:
    """What became of each mutant that was tried, by file and name."""
    from mutmut.stats import status_by_exit_code

    found = {}
    for file in sorted(FOLDER.rglob("*.py.meta")):
        codes = json.loads(file.read_text(encoding="utf-8"))["exit_code_by_key"]
        tried = {mutant: status_by_exit_code[code] for mutant, code in codes.items() if code is not None}
        if tried:
            found[file.relative_to(FOLDER / "src" / "gsnn").as_posix().removesuffix(".meta")] = tried
    return found


def tally(statuses: Counter[str]) -> dict[str, int]:
    """The counts of the columns."""
    # A change that ends the process is noticed, too.
    count = {"killed": statuses["killed"] + statuses["segfault"]}
    count |= {name: statuses[name] for name in ("survived", "timeout")}
    total = statuses.total()
    # No test comes by, or mutmut could not say.
    return {"mutants": total, **count, "untested": total - sum(count.values())}


def share(counts: dict[str, int]) -> float:
    """Share that a test notices, by failing or by never coming back."""
    return (counts["killed"] + counts["timeout"]) / max(1, counts["mutants"])


def line(name: str, statuses: Counter[str]) -> str:
    """A row of the table."""
    counts = tally(statuses)
    return f"{name:24}" + "".join(f"{counts[column]:>10}" for column in COLUMNS) + f"{share(counts):>10.1%}"


def report(found: dict[str, dict[str, str]]) -> dict[str, float]:
    """Print the table; the share of each group."""
    groups: dict[str, Counter[str]] = {}
    print(f"{'':24}" + "".join(f"{column:>10}" for column in COLUMNS) + f"{'share':>10}")
    for name, mutants in found.items():
        statuses = Counter(mutants.values())
        print(line(name, statuses))
        groups.setdefault(GROUPS[name.split("/")[0]], Counter()).update(statuses)
    for name, statuses in groups.items():
        print(line(name, statuses))
    print(line("all", sum(groups.values(), Counter())))
    return {name: share(tally(statuses)) for name, statuses in groups.items()}


def main() -> int:
    """Run mutmut, which reads its settings from pyproject.toml; 1 if a group is below what is asked."""
    parser = argparse.ArgumentParser(prog="python tests/mutation", description=__doc__)
    parser.add_argument("--only", default="", help="only mutants of this module, e.g. gsnn.edges.stats.order")
    parser.add_argument("--again", action="store_true", help="keep the last results, try those that were not killed")
    parser.add_argument("--table", action="store_true", help="only the table of the last results")
    parser.add_argument("--least", type=float, default=0.9, help="share to be killed in each group (default: 0.9)")
    options = parser.parse_args()
    if find_spec("mutmut") is None:
        parser.error("mutmut is not installed: `make mutants` does that, and runs this; options are passed as ARGS=...")
    if options.table:
        runs = []
    elif options.again:
        found = outcomes()
        alive = [name for each in found.values() for name, status in each.items() if status != "killed"]
        runs = [[name for name in alive if name.startswith(options.only)]]
        if not options.only:  # those of functions that have changed meanwhile
            runs.append([])
    else:
        shutil.rmtree(FOLDER, ignore_errors=True)
        runs = [[f"{options.only}.*"] if options.only else []]
    for names in runs:
        code = subprocess.run(
            [sys.executable, "-m", "mutmut", "run", "--max-children", "1", *names], check=False
        ).returncode
        if code:
            return code
    return int(min(report(outcomes()).values(), default=0.0) < options.least)


if __name__ == "__main__":
    sys.exit(main())
