"""Does every p that is printed hold? The gate of all p-values, under permuted credit.

    python benchmarks/null_pvalues.py                       # every cell that is not done yet, about an hour on one core
    python benchmarks/null_pvalues.py --minutes 10          # begins no cell after ten minutes; call again to go on
    python benchmarks/null_pvalues.py --worlds liverdream A --sizes 25 --methods magnitude
    python benchmarks/null_pvalues.py --table               # the table of what is done

A null run takes what a trained model gave on real samples and permutes the gradients of the samples against their
activations, the same way at every block: that is what the p-values promise to be right for. A cell is a world (a data
set or a kind of magnitudes), a number of blocks and a number of samples; it has at least 200 runs and, of every method,
at least 100,000 p-values. They are those of the candidates (neither known nor self) with a score.

What holds: P(p < .05) within .03 to .06, P(p < .001) at most twice and P(p < .0001) at most three times what it says,
and any q <= .05 in at most 10 % of the runs. Intervals are of 95 %; those of the rates treat runs as independent and
pairs of one run as dependent. "holds": the estimates are within; "fails": an interval is above; "near": an estimate is
above, its interval is not; "low": small p-values are rarer than that, which is safe, and cannot be helped where
magnitudes of two values leave but few possible p-values.
NaN stands where a method prints none, and ``printed`` is the share of scores that have a p-value.

Some methods subtract what chance gives (a median under the null): ``above chance`` is how often a null score exceeds
it, 50 % where it is right.

Finished cells stand in ``null_pvalues.csv`` beside this file; ``--results`` names another file.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.stats
import torch

from gsnn.base.files import atomic_path
from gsnn.edges import GradientEdgeInferer, MagnitudeEdgeInferer, ScoredPairs
from null_worlds import REAL, WORLDS, World, make_world

FloatArray = npt.NDArray[np.float64]

RESULTS = Path(__file__).with_name("null_pvalues.csv")
LEVELS = (0.05, 1e-3, 1e-4)
# Share of null p-values below each level: at least, at most.
LIMITS = ((0.03, 0.06), (0.0, 2e-3), (0.0, 3e-4))
ANY_Q, MOST_ANY = 0.05, 0.10
RUNS, PAIRS = 200, 100_000
SIZES = [25, 64, 250, 2000]


@dataclass(frozen=True)
class Reading:
    """What a method printed of one null run, for the candidates with a score.

    Attributes:
        p: (K,) p-values, NaN where it prints none.
        q: (K,) q-values.
        score: (K,) scores, where they are less what chance gives; else None.
    """

    p: FloatArray
    q: FloatArray
    score: FloatArray | None = None


Reader = Callable[[World], Iterator[tuple[str, Reading]]]


def read_candidates(scored: ScoredPairs, *, chance: bool = False) -> Reading:
    """P and q of the candidates that have a score at any pair of blocks."""
    rows = np.flatnonzero(scored.prior.candidates(range(scored.prior.N)))
    pairs = [column(rows) for name, column in scored.columns.items() if name.startswith(("corr_a", "score_a"))]
    score = scored.score.ravel()[rows].astype(np.float64)
    keep = np.isfinite(score) & np.any(np.isfinite(pairs), axis=0)
    p, q = (np.asarray(scored.columns[name](rows), dtype=np.float64)[keep] for name in ("p_value", "q_value"))
    return Reading(p, q, score[keep] if chance else None)


def magnitude(world: World, reduction: str = "l1") -> Iterator[tuple[str, Reading]]:
    """Every score and aggregate. ``mean0`` prints the p-values of ``mean``, and of one pair of blocks all are one."""
    inferer = MagnitudeEdgeInferer(world.model, world.graph, reduction=reduction)
    inferer.add(world.before)
    for score in ("corr", "partial"):
        for agg in ("mean", "max") if inferer.n_pairs > 1 else ("mean",):
            yield f"magnitude {score}, {agg}, {reduction}", read_candidates(inferer.scored(score=score, layer_agg=agg))


def magnitude_l2(world: World) -> Iterator[tuple[str, Reading]]:
    """As :func:`magnitude`, of Euclidean norms."""
    return magnitude(world, "l2")


def gradient(world: World) -> Iterator[tuple[str, Reading]]:
    """Every score and aggregate, less what chance gives."""
    inferer = GradientEdgeInferer(world.model, world.graph)
    inferer.add(world.before, world.x, world.y, world.after)
    for score in ("normalised", "regressed", "explained"):
        for agg in ("mean0", "rss"):
            yield f"gradient {score}, {agg}", read_candidates(inferer.scored(score=score, layer_agg=agg), chance=True)


READERS: dict[str, Reader] = {"magnitude": magnitude, "magnitude-l2": magnitude_l2, "gradient": gradient}


@dataclass
class Tally:
    """What was seen of one method over the runs of a cell."""

    rates: list[list[float]] = field(default_factory=list)
    printed: list[float] = field(default_factory=list)
    any_q: list[bool] = field(default_factory=list)
    above: list[float] = field(default_factory=list)
    n_p: int = 0
    least: float = 1.0

    def add(self, reading: Reading) -> None:
        """Count a run."""
        p = reading.p[~np.isnan(reading.p)]
        self.printed.append(len(p) / max(1, len(reading.p)))
        if reading.score is not None and len(reading.score):
            self.above.append(float((reading.score > 0).mean()))
        if len(p) == 0:
            return
        self.n_p += len(p)
        self.least = min(self.least, float(p.min()))
        self.rates.append([float((p < level).mean()) for level in LEVELS])
        self.any_q.append(bool((reading.q <= ANY_Q).any()))

    def figures(self) -> dict[str, float | str]:
        """A row of the table: estimates, bounds of their intervals, verdict."""
        row: dict[str, float | str] = {
            "runs": len(self.printed),
            "p_values": self.n_p,
            "printed": float(np.mean(self.printed)),
        }
        verdicts = []
        rates = np.array(self.rates).reshape(-1, len(LEVELS))
        for column, (level, (low, high)) in enumerate(zip(LEVELS, LIMITS, strict=True)):
            rate, below, beyond = _interval(rates[:, column], self.n_p)
            row |= {f"p<{level:g}": rate, f"p<{level:g} low": below, f"p<{level:g} high": beyond}
            verdicts.append(_verdict(rate, below, low, high))
        if self.any_q:
            test = scipy.stats.binomtest(int(np.sum(self.any_q)), len(self.any_q)).proportion_ci()
            row |= {"any_q": float(np.mean(self.any_q)), "any_q low": test.low, "any_q high": test.high}
            verdicts.append(_verdict(float(np.mean(self.any_q)), test.low, 0.0, MOST_ANY))
        else:
            row |= {"any_q": np.nan, "any_q low": np.nan, "any_q high": np.nan}
        row["least_p"] = self.least if self.n_p else np.nan
        row["above_chance"] = float(np.mean(self.above)) if self.above else np.nan
        order = ("fails", "near", "low", "holds")
        row["verdict"] = min(verdicts, key=order.index) if self.n_p else "prints none"
        return row


def _interval(rates: FloatArray, n_p: int) -> tuple[float, float, float]:
    """Mean over the runs and its 95 % interval; where nothing was seen the bound of as many independent pairs."""
    if len(rates) == 0:
        return float("nan"), float("nan"), float("nan")
    mean = float(rates.mean())
    if mean == 0:
        return 0.0, 0.0, 3.69 / n_p
    half = (
        float(scipy.stats.t.ppf(0.975, len(rates) - 1) * rates.std(ddof=1) / np.sqrt(len(rates)))
        if len(rates) > 1
        else float("inf")
    )
    return mean, max(0.0, mean - half), mean + half


def _verdict(value: float, low: float, least: float, most: float) -> str:
    if least <= value <= most:
        return "holds"
    if value < least:
        return "low"
    return "fails" if low > most else "near"


@dataclass(frozen=True)
class Cell:
    """Where null runs are drawn from: world, blocks (None: what its setting says), samples (None: all)."""

    world: str
    layers: int | None
    size: int | None


def cells(worlds: list[str], sizes: list[int] | None, layers: list[int] | None) -> Iterator[Cell]:
    """Every cell of these worlds, the small ones first."""
    found = []
    for world in worlds:
        for n_layers in layers or ([None, 2, 3] if world in REAL else [None, 2]):
            for size in [None] if world in REAL else sizes or SIZES:
                found.append(Cell(world, n_layers or None, size))
    return iter(sorted(found, key=lambda cell: cell.size or 0))


def null_runs(cell: Cell, methods: list[str], *, runs: int = RUNS, pairs: int = PAIRS, seed: int = 0) -> pd.DataFrame:
    """Permute again and again: a row for each method.

    Args:
        cell: Where to draw from.
        methods: Keys of ``READERS``.
        runs: At least so many.
        pairs: Until every method that prints p-values has printed so many, within 20 times ``runs``.
        seed: Of the permutations.
    """
    world = make_world(cell.world, cell.layers, cell.size)
    rng, tallies, done = np.random.default_rng(seed), dict[str, Tally](), 0
    while done < runs or (done < 20 * runs and any(0 < tally.n_p < pairs for tally in tallies.values())):
        null = world.permuted(torch.from_numpy(rng.permutation(len(world.x))))
        for method in methods:
            for name, reading in READERS[method](null):
                tallies.setdefault(name, Tally()).add(reading)
        done += 1
    key = {"world": cell.world, "layers": len(world.before.activations), "n": len(world.x)}
    rows = [key | {"method": name} | tally.figures() for name, tally in tallies.items()]
    return pd.DataFrame(rows)


def table(done: pd.DataFrame) -> str:
    """Markdown, rates in units of their level but for the first."""
    lines = [
        "| world | L | n | method | printed | P(p<.05) | P(p<1e-3)/1e-3 | P(p<1e-4)/1e-4 | any q<=.05, % | least p "
        "| above chance, % | verdict |",
        "|" + "---|" * 12,
    ]
    for _, row in done.iterrows():
        rates = []
        for level, unit in zip(LEVELS, (1.0, *LEVELS[1:]), strict=True):
            rate, low, high = (row[f"p<{level:g}{end}"] / unit for end in ("", " low", " high"))
            rates.append(f"{rate:.2g} ({low:.2g}-{high:.2g})")
        any_q = f"{100 * row['any_q']:.1f} ({100 * row['any_q low']:.1f}-{100 * row['any_q high']:.1f})"
        least = f"{row['least_p']:.1g}"
        above = f"{100 * row['above_chance']:.1f}"
        values = [row["world"], row["layers"], row["n"], row["method"], f"{row['printed']:.2f}", *rates, any_q, least]
        text = [("" if "nan" in str(value) else str(value)) for value in [*values, above, row["verdict"]]]
        lines.append("| " + " | ".join(text) + " |")
    return "\n".join(lines)


def read(path: Path) -> pd.DataFrame:
    """The finished cells; empty without the file."""
    return pd.read_csv(path) if path.is_file() else pd.DataFrame(columns=["cell", "family"])


def main() -> None:
    """Parse the arguments, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", nargs="+", default=list(WORLDS), choices=WORLDS)
    parser.add_argument("--sizes", nargs="+", type=int, help="samples, of worlds that are not real")
    parser.add_argument("--layers", nargs="+", type=int, help="blocks; 0: what the setting says")
    parser.add_argument("--methods", nargs="+", default=list(READERS), choices=list(READERS))
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--minutes", type=float, default=None, help="begin no cell after so many minutes")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--again", action="store_true", help="do cells again that are done")
    parser.add_argument("--table", action="store_true", help="only print what is done")
    arguments = parser.parse_args()
    start = time.perf_counter()
    fresh: set[tuple[str, str]] = set()
    for cell in [] if arguments.table else cells(arguments.worlds, arguments.sizes, arguments.layers):
        for method in arguments.methods:
            if arguments.minutes is not None and time.perf_counter() - start > 60 * arguments.minutes:
                print("time is up; call again to go on", file=sys.stderr)
                break
            if method == "magnitude-l2" and cell.world not in REAL and "magnitude" in arguments.methods:
                continue  # asked for by name alone; what differs is the same everywhere
            key, began = f"{cell.world} {cell.layers} {cell.size}", time.perf_counter()
            done = read(arguments.results)
            same = (done["cell"] == key) & (done["family"] == method)
            if same.any() and not (arguments.again and (key, method) not in fresh):
                continue
            fresh.add((key, method))
            rows = null_runs(cell, [method], runs=arguments.runs, pairs=arguments.pairs)
            rows.insert(0, "family", method)
            rows.insert(0, "cell", key)
            rows["seconds"], rows["date"] = round(time.perf_counter() - began, 1), date.today().isoformat()
            done = read(arguments.results)
            kept = done[~((done["cell"] == key) & (done["family"] == method))]
            with atomic_path(arguments.results) as path:
                (pd.concat([kept, rows], ignore_index=True) if len(kept) else rows).to_csv(
                    path, index=False, float_format="%.6g"
                )
            print(f"{key}, {method}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
    print(table(read(arguments.results)))


if __name__ == "__main__":
    main()
