"""Reproduce the published figures of the converging benchmark: ours beside theirs.

    python benchmarks/converging.py                 # settings A and B, 10 seeds
    python benchmarks/converging.py --settings B --seeds 2

"Research AUC" counts every non-self, non-kept pair that is not a test edge as a negative, the validation half of
the hidden edges included. "Clean AUC" leaves the validation half out: negatives are pairs in no true edge.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pandas as pd
import torch

from gsnn.edges import MagnitudeEdgeInferer
from gsnn.metrics import roc_auc, target_ranking
from settings import SETTINGS, Problem, Setting, build, loader, problem, test_fit, train

# Mean and, where it was published, SD over five seeds of the research code.
PUBLISHED: dict[str, dict[str, tuple[float, float | None]]] = {
    "A": {
        "test MSE": (0.513, 0.009),
        "R2": (0.486, None),
        "MEI max: research AUC": (0.969, 0.011),
        "MEI max: MRR": (0.673, 0.019),
        "MEI max: top@1": (0.61, None),
    },
    "B": {
        "test MSE": (0.481, 0.007),
        "MEI max: research AUC": (0.924, 0.031),
        "MEI max: MRR": (0.629, 0.054),
        "MEI max: top@1": (0.53, None),
        "MEI max: non-kept with q <= .05": (116, None),
        "of them true": (15.4, None),
    },
}


def aucs(table: pd.DataFrame, data: Problem) -> tuple[float, float]:
    """AUC of the test half with the research code's negatives, and with clean ones. Undefined scores rank last."""
    pairs = list(zip(table["src_func"], table["dst_func"], strict=True))
    test, kept, true = set(data.test), set(data.kept), set(data.true_edges)
    scores = table["corr"].fillna(-np.inf).to_numpy()
    positive = np.array([p in test for p in pairs])
    research = np.array([p not in kept for p in pairs])
    clean = np.array([p in test or p not in true for p in pairs])
    return roc_auc(scores[research], positive[research]), roc_auc(scores[clean], positive[clean])


def magnitude_rows(model: object, data: Problem, setting: Setting) -> dict[str, float]:
    """The figures of the magnitude inferer after one ordered pass over the training data."""
    inferer = MagnitudeEdgeInferer(model, data.graph)
    inferer.fit(loader(data, setting, shuffle=False), verbose=False)
    rows: dict[str, float] = {}
    for score in ("corr", "partial"):
        table = inferer.evaluate(layer_agg="max", score=score, p_method="uncorrected")
        name = "MEI max" if score == "corr" else "MEI partial max"
        rows[f"{name}: research AUC"], rows[f"{name}: clean AUC"] = aucs(table, data)
        _, summary = inferer.evaluate_target_ranking(table, data.test)
        rows[f"{name}: MRR"] = float(summary["mrr"].iloc[0])
        rows[f"{name}: top@1"] = float(summary["top@1"].iloc[0])
        # Another reading of "all candidates of the target": the known edges among them.
        _, summary = target_ranking(table, data.test, "corr", exclude_known=False)
        rows[f"{name}: MRR, known edges ranked too"] = float(summary["mrr"].iloc[0])
        if score == "corr":
            significant = table[(table["q_value"] <= 0.05) & ~table["has_edge"].astype(bool)]
            held = set(data.held)
            rows["MEI max: non-kept with q <= .05"] = float(len(significant))
            rows["of them true"] = float(
                sum(p in held for p in zip(significant["src_func"], significant["dst_func"], strict=True))
            )
    return rows


def run(setting: Setting, seed: int) -> dict[str, float]:
    """Train on one seed and return its figures."""
    torch.set_num_threads(1)  # the graphs are small: a second seed uses a second core better
    data = problem(setting, seed)
    model = build(setting, data.graph, seed)
    for _ in train(model, data, setting, seed):
        pass
    mse, r2 = test_fit(model, data)
    return {"test MSE": mse, "R2": r2} | magnitude_rows(model, data, setting)


def sheet(name: str, ours: pd.DataFrame) -> pd.DataFrame:
    """Ours (mean and SD over seeds) beside the published figures for one setting."""
    published = PUBLISHED.get(name, {})
    rows = []
    for figure in ours:
        mean, sd = ours[figure].mean(), ours[figure].std(ddof=1) if len(ours) > 1 else float("nan")
        theirs, their_sd = published.get(figure, (float("nan"), None))
        within = abs(mean - theirs) <= 2 * their_sd if their_sd is not None else None
        rows.append((name, figure, mean, sd, theirs, their_sd, within))
    columns = ["setting", "figure", "ours", "sd", "published", "published sd", "within two SD"]
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
    parser.add_argument("--settings", nargs="+", default=["A", "B"], choices=sorted(SETTINGS))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="processes, one seed each")
    arguments = parser.parse_args()
    start = time.perf_counter()
    first = arguments.first_seed
    jobs = [(SETTINGS[name], seed) for name in arguments.settings for seed in range(first, first + arguments.seeds)]
    with ProcessPoolExecutor(arguments.workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        rows = list(pool.map(run, *zip(*jobs, strict=True)))
    per = arguments.seeds
    frames = [sheet(name, pd.DataFrame(rows[i * per : (i + 1) * per])) for i, name in enumerate(arguments.settings)]
    print(markdown(pd.concat(frames, ignore_index=True)))
    print(f"\n{arguments.seeds} seeds, {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
