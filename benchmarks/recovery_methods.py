"""Training and every method that the recovery benchmark compares."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from gsnn.graph import Graph
from gsnn.nn import GSNN
from teachers import Problem

Batches = list[tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class Settings:
    """One setting for all families, but for what a problem brings itself."""

    channels: int = 8
    layers: int = 10
    norm: str = "groupbatch"
    lr: float = 5e-3
    epochs: int = 20
    batch_size: int = 128
    dropout: float = 0.0
    weight_decay: float = 1e-2
    one_cycle: bool = True


def settings_of(problem: Problem, **changes: object) -> Settings:
    """The settings with what the problem and the caller change."""
    return replace(Settings(), **{**problem.training, **changes})  # type: ignore[arg-type]


def train(
    problem: Problem, graph: Graph, seed: int, settings: Settings, watch: Callable[[int, GSNN], None] | None = None
) -> GSNN:
    """A model of a graph trained with AdamW and a one-cycle (or constant) learning rate.

    ``watch`` is called with the number of steps done and the model, before the first and after every step.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GSNN.from_graph(
            graph,
            channels=settings.channels,
            layers=settings.layers,
            norm=settings.norm,
            dropout=settings.dropout,
            share_layers=False,
        )
        x, y = torch.from_numpy(problem.x_train), torch.from_numpy(problem.y_train)
        whole = max(1, len(x) // settings.batch_size)
        optimiser = torch.optim.AdamW(model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
        if settings.one_cycle:
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.lr, total_steps=whole * settings.epochs)
        model.train()
        step = 0
        if watch is not None:
            watch(step, model)
        for _ in range(settings.epochs):
            order = torch.randperm(len(x))
            for rows in order[: whole * settings.batch_size].chunk(whole):
                optimiser.zero_grad()
                torch.nn.functional.mse_loss(model(x[rows]), y[rows]).backward()
                optimiser.step()
                if settings.one_cycle:
                    schedule.step()
                step += 1
                if watch is not None:
                    watch(step, model)
    return model.eval()


def train_watched(
    problem: Problem, graph: Graph, seed: int, settings: Settings, shares: Sequence[float]
) -> tuple[list[GSNN], list[float]]:
    """Models of one training when the training loss had fallen by each of some shares of its whole fall.

    Looked at four times in the first pass over the samples, then 60 times in all. 0 is the untrained model, 1 the last.

    Returns:
        A model for each share, and its training loss.
    """
    x, y = torch.from_numpy(problem.x_train[:2000]), torch.from_numpy(problem.y_train[:2000])
    a_pass = max(1, len(problem.x_train) // settings.batch_size)
    every = max(1, a_pass * settings.epochs // 60)
    seen: list[tuple[float, dict[str, torch.Tensor]]] = []

    def look(model: GSNN) -> None:
        was = model.training
        model.eval()
        with torch.no_grad():
            loss = float(((model(x) - y) ** 2).mean())
        model.train(was)
        seen.append((loss, {name: value.clone() for name, value in model.state_dict().items()}))

    def watch(step: int, model: GSNN) -> None:
        if step % every == 0 or (step <= a_pass and step % max(1, a_pass // 4) == 0):
            look(model)

    last = train(problem, graph, seed, settings, watch)
    look(last)
    first, least = seen[0][0], min(loss for loss, _ in seen)
    models, losses = [], []
    for share in shares:
        enough = first - share * (first - least)
        loss, state = seen[-1] if share == 1 else next(each for each in seen if each[0] <= enough + 1e-12)
        model = copy.deepcopy(last)
        model.load_state_dict(state)
        models.append(model.eval())
        losses.append(loss)
    return models, losses


def batches(problem: Problem, size: int = 256) -> Batches:
    """The training samples in order."""
    x, y = torch.from_numpy(problem.x_train), torch.from_numpy(problem.y_train)
    return list(zip(x.split(size), y.split(size), strict=True))


def error(model: GSNN, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Observed minus predicted, (M, O)."""
    with torch.no_grad():
        return (torch.from_numpy(y) - model(torch.from_numpy(x))).numpy()


def test_loss(model: GSNN, problem: Problem) -> float:
    """Mean squared error on the test samples, standardised."""
    return float((error(model, problem.x_test, problem.y_test) ** 2).mean())


# Names of all methods, in the order of the tables; the last kind are baselines.
STACKED = ("stacked", "learnt", "structure")


def single_scores(model: GSNN, graph: Graph, data: Batches, *, embeddings: bool = True) -> dict[str, np.ndarray]:
    """Every inferer that reads one trained model."""
    from gsnn.edges import (
        DirectedMagnitudeEdgeKGE,
        FunctionEdgeInferer,
        GradientEdgeInferer,
        MagnitudeEdgeInferer,
        MagnitudeEdgeKGE,
        MagnitudeEdgeRegressor,
    )

    gradient = GradientEdgeInferer(model, graph)
    gradient.fit(data, verbose=False)
    found = {
        f"gradient {name}": gradient.score_matrix(score=name, null_correction=False)
        for name in ("regressed", "normalised", "explained")
    }
    magnitude = MagnitudeEdgeInferer(model, graph)
    magnitude.fit(data, verbose=False)
    for score in ("corr", "partial"):
        for agg in ("mean0", "max"):
            found[f"magnitude {score} {agg}"] = magnitude.score_matrix(score=score, layer_agg=agg)
    x, y = (torch.cat([pair[k] for pair in data]) for k in range(2))
    for pool in (True, False):
        function = FunctionEdgeInferer(model, None, graph.edge_index_dict["function", "to", "function"])
        function.fit(x, y, pool=pool)
        found["function spearman" + ("" if pool else ", by layer")] = function.score_matrix()
    if embeddings:
        regressor = MagnitudeEdgeRegressor(model, graph)
        regressor.fit(data, None, verbose=False, n_epochs=5)
        found["regressor"] = regressor.score_matrix()
        for name, kind in (("embedding", MagnitudeEdgeKGE), ("embedding, directed", DirectedMagnitudeEdgeKGE)):
            embedding = kind(magnitude, embedding_dim=32, mining_strategy="topk_per_target", layer_agg="mean0")
            embedding.fit(n_epochs=20, verbose=False, seed=0)
            found[name] = embedding.score_matrix()
    return found


def all_scores(
    problem: Problem,
    seed: int,
    settings: Settings,
    *,
    n_samples: int = 2048,
    repeats: int | None = None,
    embeddings: bool = True,
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Scores (N, N) of every inferer and baseline on a problem, and what is to be told of the fit."""
    from gsnn.discovery import StackedEdgeInferer, prior_scores

    graph = problem.graph
    model = train(problem, graph, seed, settings)
    data = batches(problem)
    few = data[: max(1, n_samples // len(data[0][0]))]
    found = single_scores(model, graph, few, embeddings=embeddings)
    stacked = StackedEdgeInferer(
        model,
        graph,
        lambda masked, s: train(problem, masked, s, settings),
        seed=seed,
        repeats=repeats,
        max_samples=n_samples,
    )
    stacked.fit(data, verbose=False)
    found |= {name: stacked.score_matrix(score=name) for name in STACKED}
    residual = error(model, problem.x_train, problem.y_train)
    found |= prior_scores(graph, seed=seed, x=problem.x_train, residual=residual)
    return found, {"test_loss": test_loss(model, problem), "repeats": float(stacked.repeats)}


def located(graph: Graph, edges: list[tuple[str, str]]) -> np.ndarray:
    """(2, Q) indices of some edges."""
    place = {name: i for i, name in enumerate(graph.functions)}
    return np.array([[place[s], place[t]] for s, t in edges], dtype=np.int64).reshape(-1, 2).T


def measure(problem: Problem, scores: np.ndarray) -> dict[str, float]:
    """The figures of one method: all candidates, and those among live pairs (source reachable, target observable)."""
    from gsnn.discovery.hiding import live_nodes
    from gsnn.metrics import evaluate_edges

    graph = problem.graph
    hidden, lost = located(graph, problem.hidden), located(graph, problem.lost)
    known = located(graph, [edge for edge in graph.function_edges if edge[0] != edge[1]])
    k = hidden.shape[1]
    found = evaluate_edges(scores, hidden, known, known_true=lost, k=(k, 100))
    above, below = live_nodes(graph)
    closed = ~(above[:, None] & below[None, :])
    closed[known[0], known[1]] = True
    closed[lost[0], lost[1]] = True
    np.fill_diagonal(closed, False)
    live = evaluate_edges(scores, hidden, np.stack(np.nonzero(closed)))
    return {
        "auc": found.roc_auc,
        "auc_live": live.roc_auc,
        "aupr": found.average_precision,
        "mrr": found.mrr,
        "precision_at_k": found.precision_at[k],
        "hits_at_100": found.precision_at[100] * min(100, found.n_candidates),
        "n_hidden": float(k),
    }


def matched_auc(problem: Problem, scores: np.ndarray, by: np.ndarray, each: int = 5) -> float:
    """Chance that a hidden edge scores above negatives that another score rates nearly as it does.

    Each hidden edge is compared with the ``each`` negatives next below it and the ``each`` next above it by the other
    score, equals in random order; by that score itself the chance is one half.
    """
    graph, rng = problem.graph, np.random.default_rng(0)
    hidden, lost = located(graph, problem.hidden), located(graph, problem.lost)
    closed = np.eye(graph.N, dtype=bool)
    for pairs in (hidden, lost, located(graph, graph.function_edges)):
        closed[pairs[0], pairs[1]] = True
    value = np.nan_to_num(scores, nan=-np.inf)
    others = rng.permutation(np.flatnonzero(~closed.ravel()))
    others = others[np.argsort(by.ravel()[others], kind="stable")]
    rank = by.ravel()[others]
    wins = []
    for source, target in hidden.T:
        low, high = (np.searchsorted(rank, by[source, target], side) for side in ("left", "right"))
        place = int(rng.integers(low, high + 1))
        k = min(each, place, len(others) - place)  # as many on both sides
        beside = value.ravel()[others[place - k : place + k]]
        if k:
            wins.append(float(((value[source, target] > beside) + 0.5 * (value[source, target] == beside)).mean()))
    return float(np.mean(wins)) if wins else float("nan")


def degrees_and_distance(graph: Graph) -> np.ndarray:
    """(N, N): a number for each class of pairs: degrees of both ends in powers of 2, and the distance."""
    from gsnn.discovery.stacked.features import structural_features

    features = dict(structural_features(graph))
    parts = [np.round(features[side] / np.log(2)) for side in ("source_out_degree", "target_in_degree")]
    return parts[0] * 1000 + parts[1] * 100 + np.minimum(features["distance"], 13)
