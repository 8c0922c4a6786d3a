"""Train on a graph and score its candidate edges: the step that every protocol repeats."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gsnn.base.arrays import FloatArray
from gsnn.base.errors import DataError, RunError
from gsnn.base.torch_state import threads_for
from gsnn.base.workers import workers_for
from gsnn.discovery.methods import DEFAULT_METHOD, METHODS, Method, default_method, method_names, ways
from gsnn.edges import EdgeInferer
from gsnn.graph.kinds import FUNCTION_EDGES
from gsnn.nn.losses import masked_mse

if TYPE_CHECKING:
    from torch import Tensor, nn

    from gsnn.data import PerturbationData, Split
    from gsnn.graph import Graph
    from gsnn.training import TrainConfig

Batches = list[tuple["Tensor", "Tensor"]]
# Scores all pairs of a trained model: (model, graph, batches of standardised samples) -> (N, N).
Scorer = Callable[["nn.Module", "Graph", Batches], FloatArray]

BATCH = 256  # samples per pass of an inference; scores do not depend on it


@dataclass(frozen=True, eq=False)
class Trained:
    """A model trained on a graph, and the samples and losses that scoring needs.

    Attributes:
        model: The trained model.
        graph: Its graph.
        batches: Training samples, standardised.
        x: (M, I) inputs of the training samples.
        residual: (M, O) standardised responses minus predictions of the training samples.
        validation_loss: Masked mean squared error on the validation samples, standardised; NaN without any.
        test_loss: The same on the test samples.
        early: The model at the step when it had learnt most (:mod:`gsnn.training.early`).
    """

    model: nn.Module
    graph: Graph
    batches: Batches
    x: FloatArray
    residual: FloatArray
    validation_loss: float
    test_loss: float
    early: nn.Module | None = None

    @property
    def read(self) -> nn.Module:
        """The model whose activations and gradients are read."""
        return self.model if self.early is None else self.early


def train_on(
    data: PerturbationData, graph: Graph, config: TrainConfig, *, seed: int | None = None, split: Split | None = None
) -> Trained:
    """Train from scratch on the data with another graph of the same nodes.

    Args:
        data: Samples; its graph is not used.
        graph: The graph to train on.
        config: Settings.
        seed: Replaces the seed of the settings, except for the split of the samples.
        split: Which samples train, validate and test; None: as the settings say.

    Returns:
        The trained model with its figures.

    Raises:
        DataError: If the data cannot be trained on.
    """
    import torch

    from gsnn.training import predict, train_model
    from gsnn.training.prepare import prepare

    if seed is not None:
        split_seed = config.seed if config.split_seed is None else config.split_seed
        config = replace(config, seed=seed, split_seed=split_seed)
    data = replace(data, graph=graph)
    # Not `fit`: its report is not read here, and its baselines take longer than a short training.
    made = prepare(data, config, split)
    # The losses are measured at the end, so the validation samples are needed only if they decide during the training.
    watched = made.validation if config.uses_validation else None
    done = train_model(made.model, made.train, watched, config, progress=None)  # shown if trainings are
    y = np.asarray(made.standardiser.transform(data.y), dtype=np.float64)
    error = y - predict(made.model, data.x)
    split = made.split
    x = torch.as_tensor(data.x[split.train], dtype=torch.float32)
    target = torch.as_tensor(y[split.train], dtype=torch.float32)
    return Trained(
        model=made.model,
        graph=graph,
        batches=list(zip(x.split(BATCH), target.split(BATCH), strict=True)),
        x=np.asarray(data.x[split.train], dtype=np.float64),
        residual=error[split.train],
        validation_loss=_mean_square(error[split.validation]),
        test_loss=_mean_square(error[split.test]),
        early=done.reading_model,
    )


def refit_workers(data: PerturbationData, graph: Graph, config: TrainConfig) -> int:
    """How many trainings of a graph to run at a time, each scored by a few methods; see :func:`workers_for`."""
    from gsnn.training.prepare import new_model

    model = new_model(graph, config)
    # Matrices over all pairs, one for each pair of blocks and some more, twice; and every channel of every block.
    values = 2 * (config.layers + 10) * graph.N**2 + 3 * config.layers * config.channels * graph.N * len(data)
    return workers_for(model, config.batch_size, 8 * values)


def _mean_square(error: FloatArray) -> float:
    """Mean over the observed values; NaN without any."""
    seen = np.isfinite(error)
    return float((error[seen] ** 2).mean()) if seen.any() else float("nan")


def resolve_scorers(
    inferers: Sequence[str] | Mapping[str, Any] | str | None,
    config: TrainConfig | None = None,
    kind: str = FUNCTION_EDGES,
    n: int = 0,
) -> dict[str, Scorer]:
    """Ways to score all pairs, by name.

    Args:
        inferers: Names of :data:`gsnn.discovery.METHODS`; or a mapping from names to :class:`Method` objects,
            :class:`gsnn.edges.EdgeInferer` classes, or functions (model, graph, batches) -> (N, N); None: every
            registered method that is taken by default.
        config: Settings for the inferers that train models of their own; None: those inferers' defaults.
        kind: The kind of the edges. Registered methods that cannot rank it are left out.
        n: Functions of the graph: :data:`gsnn.discovery.DEFAULT_METHOD` is not among the methods that are taken by
            default where it does not fit into memory.

    Returns:
        A function for each name; scores are (S, T).

    Raises:
        DataError: If no method can rank the kind.
        ValueError: If a name is unknown or there is none.
        TypeError: If a value is none of these.
    """
    if inferers is None:
        fits = default_method(n) == DEFAULT_METHOD
        inferers = [name for name, method in METHODS.items() if method.by_default and (fits or name != DEFAULT_METHOD)]
    if not inferers:
        raise ValueError("inferers is empty: name at least one method")
    if not isinstance(inferers, Mapping):
        inferers = ways(method_names(inferers), kind)
    scorers: dict[str, Scorer] = {}
    for name, value in inferers.items():
        method: Any = Method(value) if isinstance(value, type) and issubclass(value, EdgeInferer) else value
        if isinstance(method, Method):
            way = method.of(kind)
            if way is None:
                raise DataError(f"method {name!r} ranks {method.inferer.kind} edges, not {kind} edges")
            scorers[str(name)] = _scorer(str(name), way, config)
        elif callable(method):
            scorers[str(name)] = method
        else:
            raise TypeError(f"inferers[{name!r}] must be a Method, an EdgeInferer class or a function, got {method!r}")
    return scorers


def _scorer(name: str, method: Method, config: TrainConfig | None) -> Scorer:
    def score(model: nn.Module, graph: Graph, batches: Batches) -> FloatArray:
        try:
            with threads_for(model, sum(len(x) for x, _ in batches)):
                inferer = method.make(model, graph, {"train": config})
                inferer.fit(batches, crit=masked_mse, verbose=False)
                matrix: FloatArray = inferer.score_matrix(**method.options)
        except RuntimeError as error:
            # Too few layers or samples: the settings do not allow inference; this is no bug.
            raise RunError(f"method {name!r} cannot score edges here: {error}") from error
        return matrix

    return score
