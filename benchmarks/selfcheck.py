"""Does the interval that a self-check states for a precision hold the true one?

    python benchmarks/selfcheck.py                     # 50 repetitions of each setting
    python benchmarks/selfcheck.py --repetitions 5 --settings easy

Each repetition draws new data on the converging graph, hides a random 15 % of its function -> function edges for good
(the truth), gives the rest to a self-check, which hides 15 % of that in turn, and asks: was the share of true edges
among the k best candidates inside the interval stated for k? Hidden and masked edges are drawn in the same way, which
is what the interval assumes. Nominal coverage 95 %.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from gsnn.data import PerturbationData
from gsnn.discovery import SelfCheck, mask_edges, self_check
from gsnn.discovery.retrain import resolve_scorers, train_on
from gsnn.graph import nx2pyg
from gsnn.simulation import convergence_graph, simulate
from gsnn.training import TrainConfig

PLACES = (2, 5, 10, 20, 50)


@dataclass(frozen=True)
class Setting:
    """How hard the edges are to find."""

    n: int = 12
    samples: int = 600
    noise: float = 0.15
    epochs: int = 10


SETTINGS = {"easy": Setting(), "hard": Setting(samples=150, noise=0.6, epochs=30)}


def problem(setting: Setting, seed: int) -> tuple[PerturbationData, list[tuple[str, str]]]:
    """Data, and the graph without some of its edges; and these edges, as far as they can be found."""
    full, inputs, functions, outputs, _ = convergence_graph(setting.n)
    x, _, y, _ = simulate(full, setting.samples, 0, inputs, outputs, noise_scale=setting.noise, seed=seed)
    hidden = mask_edges(nx2pyg(full, inputs, functions, outputs), 0.15, seed)
    graph = hidden.graph
    data = PerturbationData(graph, pd.DataFrame(x, columns=graph.inputs), pd.DataFrame(y, columns=graph.outputs))
    return data, hidden.testable


def run(setting: Setting, method: str, repeats: int, seed: int) -> dict[str, object]:
    """One repetition: the true hits among the k best, and the self-check."""
    torch.set_num_threads(1)
    data, truth = problem(setting, seed)
    config = TrainConfig(
        epochs=setting.epochs, channels=4, layers=6, batch_size=64, norm="groupbatch", dropout=0.0, weight_decay=0.0
    )
    check = self_check(data, config, [method], fraction=0.15, repeats=repeats, seed=seed, controls=())
    trained = train_on(data, data.graph, config)
    scores = resolve_scorers([method])[method](trained.model, data.graph, trained.batches)
    known = np.eye(data.graph.N, dtype=bool)
    index = {name: i for i, name in enumerate(data.graph.functions)}
    for source, target in data.graph.function_edges:
        known[index[source], index[target]] = True
    order = np.argsort(-np.where(known | np.isnan(scores), -np.inf, scores).ravel(), kind="stable")
    rank = {divmod(int(pair), data.graph.N): place + 1 for place, pair in enumerate(order)}
    ranks = [rank[index[s], index[t]] for s, t in truth]
    return {"seed": seed, "ranks": ranks, "check": check.to_dict()}


def sheet(rows: list[dict[str, object]], method: str) -> pd.DataFrame:
    """Coverage of the interval by k."""
    found = []
    for row in rows:
        stated = SelfCheck.from_dict(row["check"]).precision(method, PLACES)
        for k, (_, stated_row) in zip(PLACES, stated.iterrows(), strict=True):
            true = sum(rank <= k for rank in row["ranks"]) / k
            inside = stated_row["precision_low"] - 1e-9 <= true <= stated_row["precision_high"] + 1e-9
            found.append((k, true, *stated_row.iloc[1:], inside))
    table = pd.DataFrame(found, columns=["k", "true precision", "stated", "low", "high", "covered"])
    return table.groupby("k").mean().reset_index()


def main() -> None:
    """Parse the arguments, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=sorted(SETTINGS))
    parser.add_argument("--repetitions", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=3, help="repeats of each self-check")
    parser.add_argument("--seed", type=int, default=0, help="of the first repetition; the others count on")
    parser.add_argument("--method", default="magnitude")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, help="keep what was found as JSON")
    arguments = parser.parse_args()
    for name in arguments.settings:
        start = time.perf_counter()
        n = arguments.repetitions
        jobs = (
            [SETTINGS[name]] * n,
            [arguments.method] * n,
            [arguments.repeats] * n,
            range(arguments.seed, arguments.seed + n),
        )
        with ProcessPoolExecutor(arguments.workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            rows = list(pool.map(run, *jobs))
        if arguments.out:
            arguments.out.with_suffix(f".{name}.json").write_text(json.dumps(rows))
        print(f"\n{name}: {n} repetitions, {arguments.method}, {time.perf_counter() - start:.0f} s")
        print(sheet(rows, arguments.method).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
