"""Reproduce the published figures of the converging benchmark: ours beside theirs.

    python benchmarks/converging.py                 # settings A, B and C, 10 seeds
    python benchmarks/converging.py --settings B --seeds 2 --jobs 1

A: the regressor in the training loop, and the magnitude inferer after it. B: the magnitude inferer, and embeddings of
the graph mined from it with their ablations. C: rank correlation, and its profile-only control. What "research" and
"clean" mean is said in ``converging_figures.py``.

"within 2 SD" compares the mean over our seeds with the published figure: by the published SD where there is one (five
seeds), else, where one run was published, by the SD of ours.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pandas as pd
import torch

from converging_figures import BY_SETTING, Figures
from settings import SETTINGS

# Figure -> mean and SD over five seeds of the research code; SD None: printed by one run of its tutorials, or a mean
# whose SD was not published.
PUBLISHED: dict[str, dict[str, tuple[float, float | None]]] = {
    "A": {
        "test MSE": (0.513, 0.009),
        "R2": (0.486, None),
        "regressor: validation AUC, epoch 1": (0.788, None),
        "regressor: validation AUC, best epoch": (0.935, None),
        "regressor: best epoch": (25, None),
        "regressor: validation MRR, epoch 1": (0.198, None),
        "regressor: validation MRR, best epoch": (0.667, None),
        "regressor: research AUC": (0.961, None),
        "regressor: MRR": (0.687, None),
        "regressor: top@1": (0.667, None),
        "regressor: top@3": (0.667, None),
        "MEI max: research AUC": (0.969, 0.011),
        "MEI max: MRR": (0.673, 0.019),
        "MEI max: top@1": (0.61, None),
        "MEI partial max: research AUC": (0.970, None),
        "MEI partial max: MRR": (0.707, None),
    },
    "B": {
        "test MSE, epoch 1": (0.7987, None),
        "test MSE, epoch 10": (0.4809, None),
        "test MSE, epoch 20": (0.4842, None),
        "test MSE": (0.481, 0.007),
        "MEI max: research AUC": (0.924, 0.031),
        "MEI max: MRR": (0.629, 0.054),
        "MEI max: top@1": (0.53, None),
        "MEI partial max: research AUC": (0.873, None),
        "MEI partial max: MRR": (0.674, None),
        "non-kept with q <= .05": (116, None),
        "of them true": (15.4, None),
        "KGE: parameters": (768, None),
        "KGE: known edges": (17, None),
        "KGE: mined edges": (62, None),
        "KGE: mined edges, if only the test half is excluded": (62, None),
        "KGE: context pairs": (29758, None),
        "KGE: loss, epoch 1": (1.229, None),
        "KGE: loss, epoch 40": (1.178, None),
    },
    "C": {
        "test MSE": (0.547, None),
        "FEI: validation MRR": (1.0, None),
        "FEI: test MRR": (1.0, None),
        "FEI: both MRR 1, first epoch": (18, None),
        "FEI: both MRR 1, last epoch": (1, None),
    },
}


def run(name: str, seed: int) -> Figures:
    """Every figure of a setting for one seed."""
    torch.set_num_threads(1)  # the graphs are small: a second seed uses a second core better
    return BY_SETTING[name](SETTINGS[name], seed)


def sheet(name: str, ours: pd.DataFrame) -> pd.DataFrame:
    """Ours (mean and SD over seeds) beside the published figures for one setting."""
    published = PUBLISHED.get(name, {})
    rows = []
    for figure in ours:
        mean, sd = ours[figure].mean(), ours[figure].std(ddof=1) if len(ours) > 1 else float("nan")
        theirs, their_sd = published.get(figure, (float("nan"), None))
        spread = sd if their_sd is None else their_sd
        compared = not np.isnan([theirs, mean, spread]).any()
        # Figures are published to three digits: half a unit of the last is no difference.
        within = abs(mean - theirs) <= max(2 * spread, 5e-4) if compared else None
        rows.append((name, figure, mean, sd, theirs, their_sd, within))
    columns = ["setting", "figure", "ours", "sd", "published", "published sd", "within 2 SD"]
    return pd.DataFrame(rows, columns=columns)


def markdown(frame: pd.DataFrame) -> str:
    """The sheet as a markdown table."""

    def cell(value: object) -> str:
        if value is None or (isinstance(value, float) and np.isnan(value)):
            return ""
        if isinstance(value, bool | np.bool_):
            return "yes" if value else "no"
        return f"{value:.3f}" if isinstance(value, float) else str(value)

    lines = ["| " + " | ".join(frame.columns) + " |", "|" + "---|" * len(frame.columns)]
    lines += ["| " + " | ".join(cell(v) for v in row) + " |" for row in frame.itertuples(index=False)]
    return "\n".join(lines)


def main() -> None:
    """Parse the arguments, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", nargs="+", default=sorted(BY_SETTING), choices=sorted(BY_SETTING))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="processes, one seed each")
    parser.add_argument("--published-only", action="store_true", help="leave out figures that nobody published")
    arguments = parser.parse_args()
    start = time.perf_counter()
    first = arguments.first_seed
    jobs = [(name, seed) for name in arguments.settings for seed in range(first, first + arguments.seeds)]
    with ProcessPoolExecutor(arguments.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        rows = list(pool.map(run, *zip(*jobs, strict=True)))
    per = arguments.seeds
    frames = [sheet(name, pd.DataFrame(rows[i * per : (i + 1) * per])) for i, name in enumerate(arguments.settings)]
    table = pd.concat(frames, ignore_index=True)
    print(markdown(table[table["published"].notna()] if arguments.published_only else table))
    print(f"\n{arguments.seeds} seeds, {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
