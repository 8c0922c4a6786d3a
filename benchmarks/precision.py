"""Is the expected precision of a self-check right on average, and does its interval hold what is found?

    python benchmarks/precision.py            # 4,000 draws of each setting
    python benchmarks/precision.py --draws 200

No model is trained: scores are normal, those of edges shifted by a skill (0 is chance), and hidden and missing edges
are drawn alike. So the truth is known: the share of missing edges among the k best. Of 2,000 other pairs, as many edges
are missing as are hidden. For every setting and k the table has the true precision, on average; the estimate, with its
standard error; what the concave curve of earlier versions gave ("before"); in how many draws the precision is told (its
interval is no wider than a half); estimate and truth of those; and how often the interval held the truth, in all draws
and in those.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
import pandas as pd

from gsnn.discovery.selfcheck.precision import estimable, found_share, precision_interval

OTHERS = 2000
SKILLS = {"chance": 0.0, "weak": 1.0, "strong": 3.0}
HIDDEN = (11, 40, 200)
PLACES = (1, 5, 10, 50)


def majorant(ranks: np.ndarray, n: int, at: np.ndarray) -> np.ndarray:
    """The smallest concave curve above the shares found, as versions before used: too high at the head."""
    steps, counts = np.unique(np.append(ranks, n), return_counts=True)
    counts[-1] -= 1
    x, y = [0.0], [0.0]
    for step, value in zip(steps.tolist(), (np.cumsum(counts) / len(ranks)).tolist(), strict=True):
        while len(x) > 1 and (y[-1] - y[-2]) * (step - x[-2]) <= (value - y[-2]) * (x[-1] - x[-2]):
            x.pop()
            y.pop()
        x.append(step)
        y.append(value)
    return np.interp(at, x, y)


def draw(skill: float, hidden: int, rng: np.random.Generator) -> list[tuple[float, ...]]:
    """True precision, estimate, interval, and the estimate before, for each k."""
    places = np.array(PLACES, dtype=float)
    scores = np.concatenate([rng.normal(size=OTHERS), rng.normal(skill, size=hidden)])
    masked = rng.normal(skill, size=hidden)
    ranks = 1 + len(scores) - np.searchsorted(np.sort(scores), masked)
    best = np.argsort(-scores)[: max(PLACES)] >= OTHERS
    true = np.cumsum(best)[np.array(PLACES) - 1] / places
    share = found_share(ranks, np.ones(hidden), places)
    expected, low, high = precision_interval(share, hidden, hidden, places)
    before = precision_interval(majorant(ranks, len(scores) + 1, places), hidden, hidden, places)[0]
    return list(zip(places, true, expected, low, high, before, strict=True))


def table(draws: int, seed: int = 0, hidden: Sequence[int] = HIDDEN) -> pd.DataFrame:
    """Bias and coverage by skill, number of hidden edges and k."""
    rows = []
    for name, skill in SKILLS.items():
        for n in hidden:
            rng = np.random.default_rng((seed, n, int(10 * skill)))
            found = [row for _ in range(draws) for row in draw(skill, n, rng)]
            each = pd.DataFrame(found, columns=["k", "true", "estimate", "low", "high", "before"])
            each["told"] = estimable(each["low"], each["high"])
            each["covered"] = (each["low"] - 1e-9 <= each["true"]) & (each["true"] <= each["high"] + 1e-9)
            for k, part in each.groupby("k"):
                told = part[part["told"]]
                rows.append(
                    {
                        "skill": name,
                        "hidden": n,
                        "k": int(k),
                        "true": part["true"].mean(),
                        "before": part["before"].mean(),
                        "estimate": part["estimate"].mean(),
                        "SE": part["estimate"].std() / np.sqrt(draws),
                        "told": part["told"].mean(),
                        "told: true": told["true"].mean(),
                        "told: estimate": told["estimate"].mean(),
                        "coverage": part["covered"].mean(),
                        "told: coverage": told["covered"].mean(),
                    }
                )
    return pd.DataFrame(rows)


def main() -> None:
    """Parse the arguments, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(table(arguments.draws, arguments.seed).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
