"""Are p-values of averaged correlations as rare under permutation as they say? With and without the two corrections.

    python benchmarks/null_tails.py            # about a minute
    python benchmarks/null_tails.py --quick

Prints, for data of few values and skewed data, the share of permutations with p below a level over that level: 1 is
right, 10 means ten times too often.
"""

from __future__ import annotations

import argparse

import numpy as np

from gsnn.stats import fisher_z, mean_variance, skewed_score, sum_skewness, upper_tail

LEVELS = (0.05, 1e-3, 1e-4)


def cases(rng: np.random.Generator) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Magnitudes of a source and of a target, (P, n) each."""
    steps = np.stack([np.r_[np.zeros(33), 0.05 * np.ones(7), np.ones(5)]] * 3)
    high = np.r_[np.ones(4), np.zeros(13)][None]
    return {
        "4 of 17 high, and noise": (high, high + 0.1 * rng.exponential(size=(1, 17))),
        "3 values in 45, 5 of them high": (steps, steps + 0.05 * rng.exponential(size=(3, 45))),
        "exponential, 60": tuple(rng.exponential(size=(1, 60)) + rng.exponential(size=(4, 60)) / 2 for _ in "xy"),
        "log-normal, 100": tuple(np.exp(1.5 * rng.normal(size=(2, 100))) for _ in "xy"),
        "normal, 20": tuple(rng.normal(size=(2, 20)) for _ in "xy"),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the permutations")
    draws = 20_000 if parser.parse_args().quick else 200_000
    rng = np.random.default_rng(0)
    for name, sides in cases(rng).items():
        unit = [side - side.mean(1, keepdims=True) for side in sides]
        u, v = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in unit)
        n = u.shape[1]
        i, j = np.triu_indices(len(u))
        thirds = [np.einsum("pb,qb,sb->pqs", w, w, w)[i, j][None] for w in (u, v)]
        rho = [(w @ w.T)[None] for w in (u, v)]
        means = np.array([(u * v[:, rng.permutation(n)]).sum(1).mean() for _ in range(draws)])
        z = fisher_z(means, n - 3) / np.sqrt(mean_variance(*rho)[0])
        skewness = np.broadcast_to(sum_skewness(*thirds, *rho, n)[0], z.shape)
        for level in LEVELS:
            shares = [(upper_tail(score) < level).mean() / level for score in (z, skewed_score(z, skewness, n))]
            print(f"| {name} | {level:g} | {shares[0]:.2g} | {shares[1]:.2g} |")


if __name__ == "__main__":
    main()
