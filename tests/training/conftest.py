"""A small set of perturbation data, and settings that train on it in a moment."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from gsnn.data import PerturbationData
from gsnn.graph import Graph
from gsnn.training import TrainConfig


def make_data(samples: int = 21, seed: int = 0, missing: float = 0.1) -> PerturbationData:
    graph = Graph.from_edges(
        [("TR:a", "a"), ("TR:b", "b"), ("a", "c"), ("b", "c"), ("c", "d"), ("c", "DV:c"), ("d", "DV:d")],
        input_nodes=["TR:a", "TR:b"],
        function_nodes=["a", "b", "c", "d"],
        output_nodes=["DV:c", "DV:d"],
    )
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(samples, 2))
    y = np.stack([np.tanh(x[:, 0] + x[:, 1]), np.tanh(x[:, 0] - 0.5)], 1) + 0.05 * rng.normal(size=(samples, 2))
    y[rng.random(y.shape) < missing] = np.nan
    return PerturbationData(graph, pd.DataFrame(x, columns=graph.inputs), pd.DataFrame(y, columns=graph.outputs))


def make_config(**changes: object) -> TrainConfig:
    values: dict[str, object] = {"epochs": 4, "channels": 3, "layers": 2, "batch_size": 4, "dropout": 0.2, "seed": 5}
    return TrainConfig(**{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture
def data() -> PerturbationData:
    return make_data()


@pytest.fixture
def new_data() -> Callable[..., PerturbationData]:
    return make_data


@pytest.fixture
def new_config() -> Callable[..., TrainConfig]:
    return make_config
