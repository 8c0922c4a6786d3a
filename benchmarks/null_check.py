"""What the methods say where there is nothing to say: P(p < .05) and the AUC of the held-out edges on permuted samples.

    python benchmarks/null_check.py                                    # settings A and B, both nulls
    python benchmarks/null_check.py --sizes 25 250 --permutations 20 --retrain 0

Two nulls. "Rows": a model is trained on the real data, and the gradients of the samples are permuted against their
activations, the same way at every block; this is what the p-values promise to be right for. "Responses": the responses
are permuted against the treatments before the model is trained, as the control of the self-check does; the activations
and gradients of one sample then still belong together.

P is over the candidates (neither known nor self) with a defined score. The AUC is that of the held-out edges against
the pairs in no true edge; "covered" is the share of draws whose 95 % interval, as the self-check computes it, holds .5.
"Uncorrected" are first-order scores before what chance gives is subtracted.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from converging import markdown
from converging_figures import KGE, embedding, fitted_magnitude, online
from gsnn.edges import EdgeInferer, FunctionEdgeInferer, GradientEdgeInferer, MagnitudeEdgeInferer
from gsnn.edges.capture import Capture, capture
from gsnn.metrics.auc import auc_interval, place
from gsnn.nn import GSNN
from settings import SETTINGS, Problem, build, loader, problem, train

MAGNITUDE = [(score, agg) for score in ("corr", "partial") for agg in ("mean", "mean0", "max")]
GRADIENT = [(score, agg) for score in ("normalised", "regressed", "explained") for agg in ("mean0", "rss")]
LEVELS = (0.05, 0.01, 0.5)


class Tally:
    """What was seen of one method over the draws."""

    def __init__(self) -> None:
        self.rates: list[list[float]] = []
        self.aucs: list[float] = []
        self.covered: list[bool] = []

    def add_p(self, table: pd.DataFrame, score: str) -> None:
        """Count the p-values of the candidates with a score."""
        pairs = table.filter(regex=r"^(corr|score)_a").notna().any(axis=1) & ~table["has_edge"].astype(bool)
        if "p_value" not in table:
            return
        p = table.loc[pairs & table[score].notna(), "p_value"].dropna().to_numpy()
        if len(p):
            self.rates.append([float((p < level).mean()) for level in LEVELS])

    def add_auc(self, scores: npt.NDArray[np.floating], data: Problem, nodes: list[str]) -> None:
        """Compare the held-out edges with the pairs in no true edge."""
        index = {name: i for i, name in enumerate(nodes)}
        negatives = ~np.eye(len(nodes), dtype=bool)
        for source, target in data.true_edges:
            negatives[index[source], index[target]] = False
        held = np.array([(index[s], index[t]) for s, t in data.held]).T
        found = place(np.asarray(scores, dtype=np.float64), held, negatives)
        auc, low, high = auc_interval(data.held, found.share_below, found.negative_variance)
        self.aucs.append(auc)
        self.covered.append(low <= 0.5 <= high)

    def row(self) -> dict[str, float]:
        """The figures; NaN for p where the method prints none. The pairs of a draw depend on each other: see the SE."""
        nan = float("nan")
        rates = np.array(self.rates) if self.rates else np.full((1, len(LEVELS)), nan)
        rows = {f"P(p < {level:g})": float(r) for level, r in zip(LEVELS, rates.mean(0), strict=True)}
        rows["SE of the first"] = float(rates[:, 0].std(ddof=1) / np.sqrt(len(rates))) if len(rates) > 1 else nan
        return rows | {
            "AUC": float(np.mean(self.aucs)),
            "SD of the AUC": float(np.std(self.aucs)),
            "covered": float(np.mean(self.covered)),
        }


def readings(
    magnitude: MagnitudeEdgeInferer, gradient: GradientEdgeInferer
) -> Iterator[tuple[str, EdgeInferer, pd.DataFrame | None, str, npt.NDArray[np.float64]]]:
    """Each form of the two streaming inferers: name, inferer, table, column of the score, score matrix."""
    for kind, inferer, forms in (("magnitude", magnitude, MAGNITUDE), ("gradient", gradient, GRADIENT)):
        column = inferer.score_name
        for score, agg in forms:
            table = inferer.evaluate(score=score, layer_agg=agg)
            yield f"{kind} {score}, {agg}", inferer, table, column, inferer.score_matrix(score=score, layer_agg=agg)
            if kind == "gradient":
                plain = inferer.score_matrix(score=score, layer_agg=agg, null_correction=False)
                yield f"{kind} {score}, {agg}, uncorrected", inferer, table.drop(columns="p_value"), column, plain


def world(name: str, seed: int, two_valued: bool) -> Problem:
    """The data of a setting; two-valued: an input is 1 in the tenth of the samples where it is largest, else 0."""
    data = problem(SETTINGS[name], seed)
    if two_valued:
        cut = data.x_train.quantile(0.9, dim=0)
        data.x_train, data.x_test = ((x > cut).float() for x in (data.x_train, data.x_test))
    return data


@cache
def trained(name: str, seed: int, two_valued: bool) -> tuple[GSNN, Problem]:
    """The setting's model after its epochs on the real data."""
    data = world(name, seed, two_valued)
    model = build(SETTINGS[name], data.graph, seed)
    for _ in train(model, data, SETTINGS[name], seed):
        pass
    return model, data


def rows_permuted(name: str, size: int, permutations: int, seed: int, two_valued: bool) -> dict[str, dict[str, float]]:
    """Permute the gradients of ``size`` samples against their activations, again and again."""
    torch.set_num_threads(1)
    model, data = trained(name, seed, two_valued)
    x, y = data.x_train[:size], data.y_train[:size]
    pre, post = (capture(model, x, y, where=where) for where in ("pre", "post"))
    rng, tallies = np.random.default_rng(seed), {}
    for _ in range(permutations):
        order = torch.from_numpy(rng.permutation(size))
        shuffled = Capture(pre.activations, [g[:, order] for g in pre.gradients], pre.channel_node, pre.n_nodes, 0.0)
        magnitude, gradient = MagnitudeEdgeInferer(model, data.graph), GradientEdgeInferer(model, data.graph)
        magnitude.add(shuffled)
        gradient.add(shuffled, x, y, post)
        for method, inferer, table, column, scores in readings(magnitude, gradient):
            tally = tallies.setdefault(method, Tally())
            tally.add_p(table, column)
            tally.add_auc(scores, data, inferer.function_nodes)
        known = data.graph.edge_index_dict["function", "to", "function"]
        ranks = FunctionEdgeInferer(model, torch.nn.MSELoss(), known)
        for method, pool in (("rank correlation, pooled", True), ("rank correlation, within layers", False)):
            scores = ranks._run(x, y, method="spearman", generator=rng, pool=pool, permute=True)
            tallies.setdefault(method, Tally()).add_auc(scores, data, ranks.function_nodes)
    return {method: tally.row() for method, tally in tallies.items()}


def responses_permuted(name: str, seed: int, two_valued: bool) -> dict[str, Tally]:
    """Permute the responses, train on them, and read every method."""
    torch.set_num_threads(1)
    setting, data = SETTINGS[name], world(name, seed, two_valued)
    rng = np.random.default_rng(seed)
    data.y_train = data.y_train[torch.from_numpy(rng.permutation(len(data.y_train)))]
    data.y_test = data.y_test[torch.from_numpy(rng.permutation(len(data.y_test)))]
    model = build(setting, data.graph, seed)
    regressor, _ = online(model, data, setting, seed)
    found: dict[str, Tally] = {}
    for label, batches in (
        ("training", loader(data, setting, shuffle=False)),
        ("test", [(data.x_test, data.y_test)]),
    ):
        magnitude, gradient = MagnitudeEdgeInferer(model, data.graph), GradientEdgeInferer(model, data.graph)
        for inferer in (magnitude, gradient):
            inferer.fit(batches, verbose=False)
        for method, inferer, table, column, scores in readings(magnitude, gradient):
            tally = found.setdefault(f"{method} ({label} samples)", Tally())
            tally.add_p(table, column)
            tally.add_auc(scores, data, inferer.function_nodes)
    nodes = magnitude.function_nodes
    known = data.graph.edge_index_dict["function", "to", "function"]
    ranks = FunctionEdgeInferer(model, torch.nn.MSELoss(), known)
    kge = embedding(fitted_magnitude(model, data, setting), data, KGE)
    kge.fit(40, verbose=False, seed=seed)
    for method, scores in (
        ("rank correlation, pooled", ranks.fit(data.x_test, data.y_test)),
        ("rank correlation, within layers", ranks.fit(data.x_test, data.y_test, pool=False)),
        ("regressor", regressor.score_matrix()),
        ("embedding", kge.score_matrix()),
    ):
        found.setdefault(method, Tally()).add_auc(scores, data, nodes)
    return found


def pooled(tallies: list[Tally]) -> dict[str, float]:
    """The figures of several runs together."""
    total = Tally()
    for tally in tallies:
        total.rates += tally.rates
        total.aucs += tally.aucs
        total.covered += tally.covered
    return total.row()


def main() -> None:
    """Parse the arguments, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", nargs="+", default=["A", "B"], choices=sorted(SETTINGS))
    parser.add_argument("--sizes", nargs="+", type=int, default=[25, 64, 250, 1000], help="samples")
    parser.add_argument("--permutations", type=int, default=40, help="of the rows, for each size")
    parser.add_argument("--retrain", type=int, default=5, help="seeds for which the responses are permuted")
    parser.add_argument("--two-valued", action="store_true", help="inputs are 0 or 1")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    arguments = parser.parse_args()
    start = time.perf_counter()
    with ProcessPoolExecutor(arguments.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        for name in arguments.settings:
            times, two = arguments.permutations, arguments.two_valued
            rows = [pool.submit(rows_permuted, name, size, times, 0, two) for size in arguments.sizes]
            seeds = [pool.submit(responses_permuted, name, seed, two) for seed in range(arguments.retrain)]
            table = [
                {"samples": str(size), "method": method} | figures
                for size, row in zip(arguments.sizes, rows, strict=True)
                for method, figures in row.result().items()
            ]
            print(
                f"\n{name}, rows permuted {arguments.permutations} times\n\n{markdown(pd.DataFrame(table))}", flush=True
            )
            if seeds:
                runs = [seed.result() for seed in seeds]
                table = [{"method": method} | pooled([run[method] for run in runs]) for method in runs[0]]
                print(f"\n{name}, responses permuted, {len(runs)} seeds\n\n{markdown(pd.DataFrame(table))}", flush=True)
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
