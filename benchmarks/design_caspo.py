"""Our designs of experiments beside those of caspo, on the examples that come with caspo.

    python benchmarks/design_caspo.py --caspo PATH/TO/caspo [--cases LiverToy ExtLiver] [--seeds 5]

caspo (Guziolowski et al., 2013; Videla et al., 2015) learns all Boolean networks that fit about as well, groups them by
behaviour, and asks for the fewest conditions that tell all behaviours apart. It needs an environment of its own, with
clingo. Of each example every condition of its stimuli and inhibitors is weighed: by caspo with the variance of the
predictions over the behaviours, summed over the readouts; by ``gsnn design`` with the root mean square separation of
its hypotheses. Told are how the two orders agree (Spearman), where the conditions stand with us that caspo asks for,
and how much of caspo's variance our first ones have, caspo's own, and as many random ones. Toy, its smallest example,
has four samples: too few to train on.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import stats

from gsnn.runs import Run
from gsnn.runs.design import design_run

PREFIX = "TR:"


def conditions(table: pd.DataFrame) -> list[str]:
    """Names of the conditions of a table of 0 and 1, as ``gsnn design`` reads them."""
    treated = table[sorted(name for name in table if str(name).startswith(PREFIX))]
    names = np.array([str(name).removeprefix(PREFIX) for name in treated])
    return ["+".join(names[row > 0]) or "untreated" for row in treated.to_numpy()]


def asked_of_caspo(command: str, case: str, folder: Path) -> float:
    """Run the example; seconds."""
    start = time.perf_counter()
    subprocess.run(
        [command, "--out", str(folder), "--quiet", "test", "--testcase", case], check=False, capture_output=True
    )
    for name in ("designs.csv", "predictions.csv"):
        if not (folder / name).is_file():
            raise SystemExit(f"{command} wrote no {name} for {case}")
    return time.perf_counter() - start


def asked_of_us(folder: Path, names: list[str], seed: int, batch: int) -> tuple[np.ndarray, list[str], float]:
    """Root mean square separation of each condition, the first ones to do, and seconds of the design alone."""
    run = folder / f"run{seed}"
    gsnn = [sys.executable, "-m", "gsnn"]
    files = ["--graph", str(folder / "pkn.sif"), "--data", str(folder / "dataset.csv")]
    subprocess.run([*gsnn, "train", *files, "-o", str(run), "--seed", str(seed), "--quiet"], check=True)
    subprocess.run([*gsnn, "infer", str(run), "--quiet"], check=True)
    asked = [name for name in names if name != "untreated"]
    listed = folder / "experiments.csv"
    pd.DataFrame({"experiment": asked}).to_csv(listed, index=False)
    start = time.perf_counter()
    found = design_run(Run.open(run), experiments=listed, batch=batch, picture="", seed=seed)
    seconds = time.perf_counter() - start
    apart = dict(zip(asked, np.sqrt((found.separation**2).mean(1)), strict=True))
    return np.array([apart.get(name, 0.0) for name in names]), [asked[i] for i in found.batch], seconds


def main() -> None:
    """A line for each example and seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--caspo", required=True, help="the command")
    parser.add_argument("--cases", nargs="+", default=["LiverToy"])
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(
        "| example | conditions | caspo asks for | seed | Spearman | their places with us | ours first "
        "| variance: ours, caspo's, random | s |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for case in given.cases:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            seconds = asked_of_caspo(given.caspo, case, folder)
            table = pd.read_csv(folder / "predictions.csv")
            names = conditions(table)
            variance = table[[c for c in table if str(c).startswith("VAR:")]].sum(axis=1).to_numpy()
            designs = pd.read_csv(folder / "designs.csv")
            theirs = conditions(designs[designs["id"] == designs["id"].min()])
            for seed in range(given.seeds):
                ours, first, spent = asked_of_us(folder, names, seed, len(theirs))
                rho = stats.spearmanr(variance, ours).statistic
                ranks = stats.rankdata(-ours)
                where = ", ".join(f"{ranks[names.index(name)]:g}" for name in theirs)
                held = dict(zip(names, variance, strict=True))
                share = [sum(held[name] for name in some) for some in (first, theirs)] + [len(theirs) * variance.mean()]
                print(
                    f"| {case} | {len(names)} | {', '.join(theirs)} | {seed} | {rho:.2f} | {where} "
                    f"| {', '.join(first)} | "
                    f"{', '.join(f'{value:.2f}' for value in share)} | {spent:.0f} (caspo, all of it: {seconds:.0f}) |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
