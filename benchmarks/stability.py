"""Does counting how often an edge enters a refinement, over halves of the conditions, rank better than one training?

    python benchmarks/stability.py            # all cells, one to four minutes each on one core
    python benchmarks/stability.py --steps    # what a step costs of models side by side
    python benchmarks/stability.py --real     # known edges hidden on real data, 15 minutes of one core
    python benchmarks/stability.py --table

A cell is a problem with edges between functions hidden. ``stability`` is
:class:`gsnn.discovery.StabilityEdgeInferer` with its defaults (20 halves, 2 rounds); ``bagged`` its column
``percentile``, the mean percentile by ``explained`` over the first round, without any refinement; ``explained`` one
training on all samples with the same settings. ``learned`` and its control stand beside them. ``permuted``: the
responses are permuted against the inputs. Rounds and the number of edges that enter were looked at on B #0, layered #0
and l1000:SPIKE #12; the problems here are others. Finished cells stand in ``stability.csv`` and are not done again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cells import arguments, work
from combined import gain
from early import permuted
from gsnn.discovery import LearnedEdgeInferer, StabilityEdgeInferer, prior_scores, self_check
from gsnn.discovery.stability import train_together
from gsnn.discovery.stacked.lessons import column_matrix
from gsnn.edges import GradientEdgeInferer
from gsnn.graph import Graph
from gsnn.nn import GSNN
from gsnn.nn.losses import masked_mse
from gsnn.nn.union import disjoint_union
from gsnn.training import TrainConfig
from recovery_families import dream4, random_graph, setting
from recovery_methods import batches, measure
from teachers import REPORT, Problem, realistic
from validation_tenth import sources

RESULTS = Path(__file__).with_name("stability.csv")
KEY = ["family", "problem"]
METRICS = ("auc", "mrr", "precision_at_k", "aupr")
METHODS = ("stability", "bagged", "explained", "learned", "learned structure", "random")
BASELINES = ("structure", "degree product", "random")


def cells() -> Iterator[tuple[str, str, Callable[[], Problem]]]:
    """Family, name and maker of each problem."""

    def noisy(name: str, seed: int) -> Problem:
        return realistic(name, seed, n_train=500, noise=0.3, n_test=100)

    for seed in (1, 2, 3):
        for kind in ("layered", "cyclic"):
            yield kind, f"#{seed}", partial(random_graph, kind, seed)
        yield "B", f"#{seed}", partial(setting, "B", seed)
        yield "DREAM4", f"#{seed}", partial(dream4, seed)
    for name, seed in REPORT:
        yield "teacher, noise .3, 500", f"{name} #{seed}", partial(noisy, name, seed)
    for name, seed in REPORT[:3]:
        yield "teacher, permuted", f"{name} #{seed}", lambda n=name, s=seed: permuted(noisy(n, s))


def architecture(graph: Graph) -> GSNN:
    """A model of the default settings."""
    return GSNN.from_graph(graph, 8, 10, norm="groupbatch", dropout=0.1, share_layers=False)


def cell(family: str, name: str, make: Callable[[], Problem]) -> list[dict[str, object]]:
    """Every score of a problem."""
    given = make()
    n = len(given.x_train)
    # About 1,000 steps on all samples, and half of them on half.
    config = TrainConfig(epochs=int(np.clip(16_000 // n, 6, 60)), batch_size=16)
    x, y = torch.from_numpy(given.x_train).float(), torch.from_numpy(given.y_train).float()
    start = time.process_time()
    (model,) = train_together(architecture(given.graph), [given.graph], [(x, y)], config, 0)
    alone = GradientEdgeInferer(model, given.graph)
    alone.fit(batches(given), verbose=False)
    once = time.process_time()
    inferer = StabilityEdgeInferer(model, given.graph, config)
    inferer.fit(batches(given), verbose=False)
    spent = time.process_time()
    learned = LearnedEdgeInferer(model, given.graph)
    learned.fit(batches(given), verbose=False)
    scored = inferer.scored()
    scores = {
        "stability": scored.score,
        "bagged": column_matrix(scored, "percentile"),
        "explained": alone.score_matrix(score="explained"),
        "learned": learned.score_matrix(),
        "learned structure": learned.beside()["structure"].score,
        "random": prior_scores(given.graph)["random"],
    }
    facts = {"functions": given.graph.N, "one_s": round(once - start, 1), "stability_s": round(spent - once, 1)}
    facts |= {"date": date.today().isoformat()}
    rows = []
    for method, matrix in scores.items():
        found = measure(given, np.where(np.isnan(scored.score), np.nan, matrix))
        rows.append({"family": family, "problem": name, "method": method} | {k: round(found[k], 5) for k in METRICS})
    return [row | facts for row in rows]


def table(path: Path) -> str:
    """Means over the problems of a family, and the paired difference to one training, as markdown."""
    done = pd.read_csv(path)
    lines = [
        f"| AUC / MRR / P@K | n | {' | '.join(METHODS)} | stability less explained: MRR, P@K | CPU s, one | 20 x 2 |"
    ]
    lines.append("|---|---|" + "---|" * (len(METHODS) + 3))
    for family, rows in done.groupby("family", sort=False):
        mean = rows.groupby("method").mean(numeric_only=True)
        texts = [" / ".join(f"{mean.loc[each, k]:.2f}" for k in METRICS[:3]) for each in METHODS]
        gains = [gain(rows, "stability", "explained", metric) for metric in ("mrr", "precision_at_k")]
        cost = [f"{rows[k].mean():.0f}" for k in ("one_s", "stability_s")]
        texts += [", ".join(gains), *cost]
        lines.append(f"| {family} | {rows['problem'].nunique()} | {' | '.join(texts)} |")
    return "\n".join(lines)


def steps() -> str:
    """Milliseconds of a training step (16 samples) for one model, and for each of several side by side, as markdown."""

    def of(graph: Graph) -> float:
        model, times = architecture(graph).train(), []
        optimiser = torch.optim.AdamW(model.parameters(), fused=True)
        x, y = torch.randn(16, graph.I), torch.randn(16, graph.O)
        for _ in range(15):
            start = time.perf_counter()
            optimiser.zero_grad()
            masked_mse(model(x), y).backward()
            optimiser.step()
            times.append(time.perf_counter() - start)
        return 1e3 * float(np.median(times[3:]))

    from gsnn.datasets import load_extliver

    lines = ["| network | functions | one | a model of 4 | of 10 | of 20 |", "|---|---|---|---|---|---|"]
    for name, graph in (("ExtLiver", load_extliver().graph), ("l1000:SPIKE", realistic("l1000:SPIKE", 12).graph)):
        cost = [of(disjoint_union([graph] * n)) / n for n in (1, 4, 10, 20)]
        lines.append(f"| {name} | {graph.N} | " + " | ".join(f"{each:.1f} ms" for each in cost) + " |")
    return "\n".join(lines)


def real() -> str:
    """Self-checks on real data, five repeats, as markdown: AUC with its interval, and MRR."""
    methods = ["stability", "gradient-explained", "learned"]
    lines = ["| AUC (95 %), MRR | hidden | " + " | ".join([*methods, *BASELINES]) + " |"]
    lines.append("|---|---|" + "---|" * (len(methods) + len(BASELINES)))
    for name, load in sources().items():
        config = TrainConfig(epochs=60) if name == "melanoma" else TrainConfig()
        check = self_check(load(), config, methods, repeats=5, controls=())
        summary = check.summary().query("negatives == 'all'").set_index("method")
        rows = [summary.loc[each] for each in (*methods, *BASELINES)]
        texts = [f"{row.roc_auc:.2f} ({row.auc_low:.2f}-{row.auc_high:.2f}), {row.mrr:.2f}" for row in rows]
        lines.append(f"| {name} | {rows[0].n_positives} | {' | '.join(texts)} |")
    return "\n".join(lines)


def main() -> None:
    """Do the cells that are not in the file, then print the table."""
    parser = arguments(__doc__, RESULTS)
    parser.add_argument("--steps", action="store_true", help="time steps instead")
    parser.add_argument("--real", action="store_true", help="self-checks on real data instead")
    given = parser.parse_args()
    if given.steps or given.real:
        print(steps() if given.steps else real())
        return
    if not given.table:
        work(given.results, KEY, ((each[:2], partial(cell, *each)) for each in cells()))
    print(table(given.results))


if __name__ == "__main__":
    main()
