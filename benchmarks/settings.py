"""The settings of the converging benchmark, and the plain training loop they share.

Setting A: 25 tiers, dropout, no norm. B: 12 tiers, groupbatch. C: 25 tiers, more noise, half the samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

from gsnn.data import Standardiser
from gsnn.graph import Graph, nx2pyg
from gsnn.nn import GSNN
from gsnn.simulation import convergence_graph, held_out_edges, simulate, split_held_out
from gsnn.simulation.benchmark import held_out_roles

Edge = tuple[str, str]


@dataclass(frozen=True)
class Setting:
    """One row of the sheet: the data, the model and the optimiser."""

    n: int
    noise: float
    channels: int = 8
    layers: int = 6
    norm: str = "none"
    dropout: float = 0.0
    lr: float = 1e-3
    epochs: int = 30
    batch_size: int = 64
    n_train: int = 2000
    n_test: int = 500


SETTINGS = {
    "A": Setting(n=25, noise=0.15, dropout=0.2, lr=1e-4),
    "B": Setting(n=12, noise=0.15, norm="groupbatch"),
    "C": Setting(n=25, noise=0.25, channels=10, dropout=0.2, epochs=50, batch_size=128, n_train=1000),
}


@dataclass
class Problem:
    """Simulated data, the partial graph the model is given, and what was hidden from it."""

    graph: Graph
    x_train: torch.Tensor
    x_test: torch.Tensor
    y_train: torch.Tensor
    y_test: torch.Tensor
    true_edges: list[Edge]
    kept: list[Edge]
    held: list[Edge]
    validation: list[Edge]
    test: list[Edge]
    roles: dict[Edge, str] = field(default_factory=dict)


def problem(setting: Setting, seed: int) -> Problem:
    """Simulate one data set; the topology and the hold-out are the same for every seed."""
    full, inputs, functions, outputs, true_edges = convergence_graph(setting.n)
    x_train, x_test, y_train, y_test = simulate(
        full, setting.n_train, setting.n_test, inputs, outputs, noise_scale=setting.noise, seed=seed
    )
    standardiser = Standardiser.fit(y_train)
    held = held_out_edges(setting.n)
    validation, test = split_held_out(setting.n)
    partial = full.copy()
    partial.remove_edges_from(held)
    hidden = set(held)

    def tensor(a: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(a, dtype=torch.float32)

    return Problem(
        graph=nx2pyg(partial, inputs, functions, outputs),
        x_train=tensor(x_train),
        x_test=tensor(x_test),
        y_train=tensor(standardiser.transform(y_train)),
        y_test=tensor(standardiser.transform(y_test)),
        true_edges=list(true_edges),
        kept=[e for e in true_edges if e not in hidden],
        held=held,
        validation=validation,
        test=test,
        roles=held_out_roles(setting.n),
    )


def build(setting: Setting, graph: Graph, seed: int) -> GSNN:
    """The setting's model on a graph."""
    torch.manual_seed(seed)
    return GSNN(
        graph.edge_index_dict,
        graph.node_names_dict,
        channels=setting.channels,
        layers=setting.layers,
        dropout=setting.dropout,
        norm=setting.norm,
        share_layers=False,
    )


def loader(data: Problem, setting: Setting, *, shuffle: bool, seed: int = 0) -> DataLoader:
    """Batches of the training data; the ragged last one is dropped, as in the settings."""
    return DataLoader(
        TensorDataset(data.x_train, data.y_train),
        batch_size=setting.batch_size,
        shuffle=shuffle,
        drop_last=True,
        generator=torch.Generator().manual_seed(seed),
    )


def train(model: GSNN, data: Problem, setting: Setting, seed: int) -> Iterator[int]:
    """Train with AdamW and yield after each epoch (1-based), so that the caller can measure on the way."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=setting.lr, weight_decay=0.0)
    loss_of = torch.nn.MSELoss()
    batches = loader(data, setting, shuffle=True, seed=seed)
    for epoch in range(1, setting.epochs + 1):
        model.train()
        for x, y in batches:
            optimiser.zero_grad()
            loss = loss_of(model(x), y)
            loss.backward()
            optimiser.step()
        yield epoch


def test_fit(model: GSNN, data: Problem) -> tuple[float, float]:
    """Mean squared error on the test set in standardised units, and R2 averaged over outputs."""
    model.eval()
    with torch.no_grad():
        error = (model(data.x_test) - data.y_test).square()
    total = (data.y_test - data.y_test.mean(0)).square()
    return float(error.mean()), float((1 - error.sum(0) / total.sum(0)).mean())
