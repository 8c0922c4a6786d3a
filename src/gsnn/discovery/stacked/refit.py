"""Training again on a graph without some known edges, for the stacked inferer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, nn

from gsnn.graph import Graph

if TYPE_CHECKING:
    from gsnn.nn import GSNN
    from gsnn.training import TrainConfig

# Trains a model of a graph from scratch, from a seed.
Train = Callable[[Graph, int], nn.Module]

# Without settings of the user: about so many steps, and batches between these sizes.
_STEPS, _SMALLEST, _LARGEST = 1200, 16, 128


def default_config(n_samples: int) -> TrainConfig:
    """Settings of a refit if the user gives none: about 1200 steps of AdamW."""
    from gsnn.training import TrainConfig

    batch = int(np.clip(n_samples // 32, _SMALLEST, _LARGEST))
    epochs = int(np.clip(round(_STEPS * batch / max(n_samples, 1)), 5, 150))
    return TrainConfig(epochs=epochs, batch_size=batch)


def untrained(model: Any, graph: Graph, seed: int, most: int | None = None) -> GSNN:  # noqa: ANN401
    """A model of the same architecture as another, on another graph, with fresh weights.

    Args:
        model: The other.
        graph: The graph.
        seed: Fixes the weights.
        most: Channels of a function, at most; None: as many as the other has.

    Raises:
        TypeError: If ``model`` is no GSNN.
    """
    from gsnn.nn import GSNN
    from gsnn.training.loop import build_model

    if not isinstance(model, GSNN):
        raise TypeError(
            f"model must be a gsnn.nn.GSNN to be trained again, got {type(model).__name__}; pass train=, a function "
            "(graph, seed) -> trained model"
        )
    options = {name: value for name, value in model.options.items() if name != "layers"}
    channels = model.channels if most is None else min(model.channels, most)
    if not isinstance(channels, int):  # of each copy, where the graph is a union of several
        channels *= graph.N // model.N
    return build_model(lambda: GSNN.from_graph(graph, channels, model.L, **options), seed)


def refit(model: Any, graph: Graph, seed: int, x: Tensor, y: Tensor, config: TrainConfig) -> nn.Module:  # noqa: ANN401
    """Train a model of the same architecture as another on another graph.

    Args:
        model: A :class:`gsnn.nn.GSNN`; only its architecture is used, not its weights.
        graph: The graph to train on.
        seed: Fixes weights and order of the samples.
        x: (M, I) inputs.
        y: (M, O) standardised responses, NaN where missing.
        config: Optimiser, epochs and batch size. Its stopping rule is not used: there are no validation samples.

    Returns:
        The model at the step when it had learnt most (:mod:`gsnn.training.early`).

    Raises:
        TypeError: If ``model`` is no GSNN.
    """
    from gsnn.training import train_model

    config = replace(config, seed=seed, patience=None, restore_best=False)
    samples = x.float().numpy(), y.float().numpy()
    return train_model(untrained(model, graph, seed), samples, None, config).reading_model
