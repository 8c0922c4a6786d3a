"""How much of the fit does a handful of repairs bring back, and is it more than random ones bring?

    python benchmarks/repairs.py                          # melanoma, 5 folds, 5 refits: an hour of one core
    python benchmarks/repairs.py --data extliver liverdream --steps 0 5 10 15
    python benchmarks/repairs.py --table                  # of what stands in repairs.csv
    python benchmarks/repairs.py --chart docs/_static/repairs.svg

Every condition is left out once (5 folds over conditions). Edges are chosen on the other folds alone: in rounds of 5,
one into each target, by the score ``gradient-explained`` of the early weights, averaged over refits from several seeds;
then all refits are trained again with them. Beside them stand as many random edges of the same kinds (other ones for
each seed), every edge from an input, and ridge on the treatments (of melanoma: their log doses). R2 is 1 - SSE / SST
over all conditions, around the mean of the training folds, readouts divided by their deviation there. ``mean of
refits`` predicts with the mean of the refits' predictions.

Arms: ``function``, ``input``, ``output`` and ``all`` (in turn) propose; ``random function`` and so on draw; ``inputs``
opens every edge from an input. Finished pieces stand in ``repairs.csv`` and are not done again; a path goes on from the
edges that stand there.

Epochs, arms and the size of a round of melanoma were looked for on another dealing of the folds (seed 0; here 1). It
needs ``melanoma_cellbox`` in the folder named by GSNN_DATA.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from charts import pyplot, save
from gsnn.base.files import atomic_path
from gsnn.data import PerturbationData, Split, Standardiser
from gsnn.data.split import conditions
from gsnn.discovery.retrain import Trained, resolve_scorers, train_on
from gsnn.discovery.stacked.caps import chosen_pairs
from gsnn.edges.pairs import PriorEdges, descending
from gsnn.graph import Graph, resolve_kinds
from gsnn.graph.kinds import INPUT_EDGES, drawn_targets
from gsnn.training import TrainConfig, predict
from gsnn.training.baselines import RidgeBaseline
from ligand_screen import load as load_screen
from validation_tenth import sources

RESULTS = Path(__file__).with_name("repairs.csv")
KEY = ["data", "arm", "refits", "fold", "edges"]
FOLDS, DEALT = 5, 1
DATA_SETS = ("melanoma", "extliver", "liverdream", "ligandscreen")
STEPS = (0, 5, 10, 15, 20, 24)
# Of melanoma fewer passes than the default: models of 71 conditions soon learn their noise.
# Of the screen likewise, and at a lower rate: 82 conditions and 6,728 edges.
SETTINGS: dict[str, dict[str, Any]] = {
    "melanoma": {"epochs": 60},
    "ligandscreen": {"epochs": 60, "lr": 1e-3, "norm": "layer"},
}

Edge = tuple[str, str]


def folds(data: PerturbationData) -> list[tuple[np.ndarray, np.ndarray]]:
    """Training and held-out samples; each condition is held out once."""
    condition = conditions(data.x)
    order = np.random.default_rng((DEALT, 7)).permutation(int(condition.max()) + 1)
    of = (np.argsort(order) % FOLDS)[condition]
    return [(np.flatnonzero(of != k), np.flatnonzero(of == k)) for k in range(FOLDS)]


def trained(data: PerturbationData, graph: Graph, rows: np.ndarray, seed: int, settings: dict[str, Any]) -> Trained:
    """A model of a graph."""
    none = rows[:0]
    config = TrainConfig.from_dict({**settings, "seed": seed})
    return train_on(data, graph, config, split=Split(rows, none, none, "condition"))


def sums(data: PerturbationData, train: np.ndarray, held: np.ndarray, found: np.ndarray) -> tuple[float, float]:
    """SSE and SST of held-out samples, from standardised predictions."""
    y = np.asarray(Standardiser.fit(data.y[train]).transform(data.y[held]), dtype=np.float64)
    return float(np.nansum((y - found) ** 2)), float(np.nansum(y**2))


def open_pairs(graph: Graph, kind: str) -> np.ndarray:
    """Candidates (S, T)."""
    candidates = PriorEdges(graph, kind).candidates().copy()
    candidates[:, drawn_targets(graph, kind)] = False
    return candidates


def proposed(models: Sequence[Trained], kinds: Sequence[str], n: int) -> list[Edge]:
    """The best by the mean score of some models of one graph, one into each target; kinds take turns."""
    graph, lists = models[0].graph, []
    for kind in kinds:
        prior, scorer = PriorEdges(graph, kind), resolve_scorers("gradient-explained", kind=kind)["gradient-explained"]
        scores = np.mean([np.nan_to_num(scorer(m.read, graph, m.batches), nan=-1.0) for m in models], 0)
        scores[~open_pairs(graph, kind)] = np.nan
        scores[~chosen_pairs(scores, per_target=1, per_source=None)] = np.nan
        ends = zip(*np.divmod(descending(scores.ravel())[:n], scores.shape[1]), strict=True)
        lists.append([(prior.sources[i], prior.targets[j]) for i, j in ends if np.isfinite(scores[i, j])])
    return [edge for row in itertools.zip_longest(*lists) for edge in row if edge is not None][:n]


def drawn(graph: Graph, kinds: Sequence[str], n: int, seed: tuple[int, ...]) -> list[Edge]:
    """Random candidates; kinds take turns."""
    rng, lists = np.random.default_rng(seed), []
    for kind in kinds:
        prior, pairs = PriorEdges(graph, kind), np.argwhere(open_pairs(graph, kind))
        lists.append([(prior.sources[i], prior.targets[j]) for i, j in rng.permutation(pairs)[:n]])
    return [edge for row in zip(*lists, strict=False) for edge in row][:n]


def measured(data: PerturbationData, train: np.ndarray, held: np.ndarray, models: Sequence[Trained]) -> list[dict]:
    """A row for each model, and one for the mean of their predictions."""
    found = [predict(model.model, data.x[held]) for model in models]
    names = [*map(str, range(len(models))), "mean of refits"]
    pairs = [sums(data, train, held, each) for each in (*found, np.mean(found, 0))]
    return [{"seed": name, "sse": sse, "sst": sst} for name, (sse, sst) in zip(names, pairs, strict=True)]


def path_of(
    data: PerturbationData, name: str, arm: str, refits: int, fold: int, steps: Sequence[int], path: Path
) -> None:
    """All numbers of edges of an arm in a fold that are not done."""
    train, held = folds(data)[fold]
    settings = SETTINGS.get(name, {})
    done = read(path)
    refits = 0 if arm == "ridge" else refits
    wanted = {"data": name, "arm": arm, "refits": refits, "fold": fold}
    mine = done[(done[list(wanted)] == list(wanted.values())).all(axis=1)]
    kinds = [] if arm in ("ridge", "inputs") else resolve_kinds(arm.removeprefix("random "))
    models: list[Trained] = []
    chosen: list[Edge] = []
    for n in steps if kinds else (0,):
        if n in (0, 20) and arm.startswith("random"):
            continue
        before = mine[mine["edges"] == n]
        if len(before) and kinds and not arm.startswith("random"):
            text = str(before["chosen"].iloc[0])
            chosen = [tuple(pair.split(" > ")) for pair in text.split("; ")] if n else []
            models = []
        if len(before):
            continue
        start = time.process_time()
        if arm == "ridge":
            y = Standardiser.fit(data.y[train]).transform(data.y)
            found = RidgeBaseline.fit(data.x[train], y[train]).predict(data.x[held])
            rows = [dict(zip(("seed", "sse", "sst"), ("0", *sums(data, train, held, found)), strict=True))]
        else:
            graphs = [data.graph] * refits
            if arm == "inputs":
                prior, pairs = PriorEdges(data.graph, INPUT_EDGES), np.argwhere(open_pairs(data.graph, INPUT_EDGES))
                graphs = [data.graph.with_edges([(prior.sources[i], prior.targets[j]) for i, j in pairs])] * refits
            elif arm.startswith("random"):
                graphs = [data.graph.with_edges(drawn(data.graph, kinds, n, (s, fold))) for s in range(refits)]
            elif n:
                graph = data.graph.with_edges(chosen)
                models = models or [trained(data, graph, train, seed, settings) for seed in range(refits)]
                chosen = [*chosen, *proposed(models, kinds, n - len(chosen))]
                graphs = [data.graph.with_edges(chosen)] * refits
            models = [trained(data, g, train, seed, settings) for seed, g in enumerate(graphs)]
            rows = measured(data, train, held, models)
        key = {**wanted, "edges": n}
        more = {
            "settings": " ".join(f"{k}={v}" for k, v in settings.items()),
            "chosen": "; ".join(" > ".join(edge) for edge in chosen),
        }
        more |= {"cpu_s": round(time.process_time() - start), "date": date.today().isoformat()}
        fresh = pd.DataFrame([key | row | more for row in rows])
        print(fresh[[*KEY, "seed", "sse", "sst", "cpu_s"]].to_string(header=False), file=sys.stderr, flush=True)
        before = read(path)
        with atomic_path(path) as new:
            pd.concat([before, fresh] if len(before) else [fresh], ignore_index=True).to_csv(new, index=False)


def read(path: Path) -> pd.DataFrame:
    """What has been done."""
    if not path.is_file():
        return pd.DataFrame(columns=[*KEY, "chosen"])
    return pd.read_csv(path, dtype={"seed": str, "chosen": str}, keep_default_na=False)


def table(path: Path) -> str:
    """R2 over the folds that are done, as markdown; the mean over refits, and of the mean of refits."""
    lines = [
        "| data | arm | edges | refits | folds | R2, one refit (least to most) | mean of refits | ridge, same folds |"
    ]
    lines.append("|---|---|---|---|---|---|---|---|")
    done = read(path)
    for (name, arm, refits, n), rows in done.groupby(["data", "arm", "refits", "edges"], sort=False):
        if arm == "ridge":
            continue
        mine = done[(done["data"] == name) & (done["arm"] == "ridge") & done["fold"].isin(rows["fold"])]
        ridge = 1 - mine["sse"].sum() / mine["sst"].sum()
        total = rows.groupby("seed")[["sse", "sst"]].sum()
        r2 = 1 - total["sse"] / total["sst"]
        single = r2.drop("mean of refits")
        folds_done = rows["fold"].nunique()
        lines.append(
            f"| {name} | {arm} | {n} | {refits} | {folds_done} | {single.mean():.3f} ({single.min():.3f} to "
            f"{single.max():.3f}) | {r2['mean of refits']:.3f} | {ridge:.3f} |"
        )
    return "\n".join(lines)


TITLES = {"melanoma": "Melanoma", "ligandscreen": "Ligand screen", "liverdream": "LiverDREAM", "extliver": "ExtLiver"}
HEIGHT = 0.32  # of a panel, in R2
SHOWN = {"function": "#1b6ca8", "all": "#7fb069", "random function": "#999999"}
LABELS = {"function": "function edges, chosen", "all": "edges of every kind, chosen", "random function": "random edges"}


def chart(path: Path, out: Path) -> None:
    """A panel for each data set: R2 on left-out conditions by the number of edges, beside ridge.

    The line is the mean of the refits, the band goes from the least to the largest.
    """
    done = read(path)
    plt = pyplot("repairs")
    figure, axes = plt.subplots(1, len(TITLES), figsize=(11, 2.9), constrained_layout=True)
    for axis, (name, title) in zip(axes, TITLES.items(), strict=True):
        rows = done[done["data"] == name]
        folds_done = rows.groupby(["arm", "refits", "edges"])["fold"].nunique().rename("done").reset_index()
        rows = rows.merge(folds_done[folds_done["done"] == FOLDS], on=["arm", "refits", "edges"])
        for arm, colour in SHOWN.items():
            most = rows.loc[rows["arm"] == arm, "refits"].max()
            # Random edges start from the network as it stands, which is measured once.
            start = (rows["arm"] == "function") & (rows["edges"] == 0)
            mine = rows[((rows["arm"] == arm) | start) & (rows["refits"] == most) & (rows["seed"] != "mean of refits")]
            if not (mine["arm"] == arm).any():
                continue
            mine = mine.drop_duplicates(["edges", "seed", "fold"])
            total = mine.groupby(["edges", "seed"])[["sse", "sst"]].sum()
            r2 = (1 - total["sse"] / total["sst"]).groupby("edges").agg(["mean", "min", "max"])
            axis.plot(r2.index, r2["mean"], color=colour, marker="o", markersize=3, label=LABELS[arm])
            axis.fill_between(r2.index, r2["min"], r2["max"], color=colour, alpha=0.2, linewidth=0)
        ridge = rows[rows["arm"] == "ridge"]
        level = 1 - ridge["sse"].sum() / ridge["sst"].sum()
        axis.axhline(level, color="#c44", linestyle="--", linewidth=1, label="ridge")
        # The same height for all, so that a small difference looks small.
        low, high = axis.get_ylim()
        axis.set_ylim((low + high - HEIGHT) / 2, (low + high + HEIGHT) / 2)
        axis.set_xticks(sorted(rows["edges"].unique()))
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("edges added")
    axes[0].set_ylabel("R² of left-out conditions")
    axes[0].legend(frameon=False, fontsize=7, loc="lower right")
    save(figure, out)


def main() -> None:
    """Do the pieces that are not in the file, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["melanoma"], choices=DATA_SETS)
    parser.add_argument("--arms", nargs="+", default=["ridge", "function", "random function", "inputs", "all"])
    parser.add_argument("--folds", nargs="+", type=int, default=list(range(FOLDS)))
    parser.add_argument("--refits", type=int, default=5, help="from seeds of their own, for scores and for figures")
    parser.add_argument("--steps", nargs="+", type=int, default=list(STEPS), help="numbers of edges; a path has all")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--chart", type=Path, help="draw what stands in the file")
    arguments = parser.parse_args()
    if arguments.chart:
        chart(arguments.results, arguments.chart)
        return
    torch.set_num_threads(1)
    if not arguments.table:
        loaders = sources() | {"ligandscreen": load_screen}
        found = {name: loaders[name]() for name in arguments.data}
        for name, arm, fold in itertools.product(arguments.data, arguments.arms, arguments.folds):
            path_of(found[name], name, arm, arguments.refits, fold, arguments.steps, arguments.results)
    print(table(arguments.results))


if __name__ == "__main__":
    main()
