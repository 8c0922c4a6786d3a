"""Where null runs are drawn from: models trained on real and simulated data, and magnitudes hard on p-values."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from gsnn.datasets import load_dataset
from gsnn.edges.capture import Capture, capture
from gsnn.graph import Graph
from gsnn.nn import GSNN
from gsnn.training import TrainConfig, fit
from recovery_methods import settings_of
from recovery_methods import train as train_teacher
from settings import SETTINGS, build, problem, train
from teachers import realistic

REAL = ("extliver", "liverdream")
SETTING = ("A", "B")
TEACHERS = {"teacher extliver": ("extliver", 111), "teacher SPIKE": ("lembas:SPIKE", 114)}
MADE = ("log-normal", "two-valued")
WORLDS = (*REAL, *SETTING, *TEACHERS, *MADE)
# Of the made magnitudes: SD of the log, share of high samples, share of the log's (or the states') variance that the
# pairs of blocks have in common.
_SIGMA, _HIGH, _COMMON = 1.5, 0.1, 0.7


@dataclass(frozen=True)
class World:
    """A model, the samples it is read on, and what was captured.

    Attributes:
        model: Trained.
        graph: The prior graph it was built from.
        x: (n, I).
        y: (n, O).
        before: Captured before the norm.
        after: Captured after the nonlinearity.
    """

    model: GSNN
    graph: Graph
    x: Tensor
    y: Tensor
    before: Capture
    after: Capture

    def permuted(self, order: Tensor) -> World:
        """The same with the gradients of the samples permuted, the same way at every block."""

        def moved(seen: Capture) -> Capture:
            return dataclasses.replace(seen, gradients=[g[:, order] for g in seen.gradients])

        return dataclasses.replace(self, before=moved(self.before), after=moved(self.after))


def make_world(name: str, layers: int | None, size: int | None, *, epochs: int | None = None) -> World:
    """A world by name.

    Args:
        name: One of ``WORLDS``. The made ones have the graph and the model of B (not trained), and magnitudes that are
            drawn: independent nodes, dependent pairs of blocks.
        layers: L; None for what the setting says.
        size: n; None for all samples.
        epochs: Of the training; None for what the setting says.

    Raises:
        ValueError: If there are fewer samples.
    """
    model, graph, x, y = _trained("B" if name in MADE else name, layers, 0 if name in MADE else epochs)
    size = len(x) if size is None else size
    if size > len(x):
        raise ValueError(f"size must be at most the {len(x)} samples of {name}, got {size}")
    x, y = x[:size], y[:size]
    before, after = (capture(model, x, y, where=where) for where in ("pre", "post"))
    if name in MADE:
        rng = np.random.default_rng([MADE.index(name), len(before.activations), size])
        before, after = (_with_magnitudes(seen, name, rng) for seen in (before, after))
    return World(model, graph, x, y, before, after)


@cache
def _trained(name: str, layers: int | None, epochs: int | None) -> tuple[GSNN, Graph, Tensor, Tensor]:
    torch.set_num_threads(1)
    changes = {k: v for k, v in {"layers": layers, "epochs": epochs}.items() if v is not None}
    if name in REAL:
        data = load_dataset(name)
        result = fit(data, TrainConfig(**changes), progress=False)
        y = result.standardiser.transform(data.y)
        return result.model, data.graph, *(torch.tensor(v, dtype=torch.float32) for v in (data.x, y))
    if name in SETTING:
        setting = dataclasses.replace(SETTINGS[name], **changes)
        simulated = problem(setting, 0)
        model = build(setting, simulated.graph, 0)
        for _ in train(model, simulated, setting, 0):
            pass
        return model.eval(), simulated.graph, simulated.x_train, simulated.y_train
    posed = realistic(*TEACHERS[name])
    model = train_teacher(posed, posed.graph, 0, settings_of(posed, **({"epochs": 10} | changes)))
    return model, posed.graph, torch.from_numpy(posed.x_train), torch.from_numpy(posed.y_train)


def _with_magnitudes(seen: Capture, name: str, rng: np.random.Generator) -> Capture:
    """Drawn magnitudes in drawn directions in place of what was captured."""
    channels = len(seen.channel_node) // seen.n_nodes

    def drawn() -> list[Tensor]:
        shape = (seen.n_nodes, len(seen))
        common = rng.normal(size=shape)
        direction = rng.normal(size=(len(seen.activations), seen.n_nodes, channels))
        direction /= np.abs(direction).sum(2, keepdims=True)
        parts = []
        for along in direction:
            normal = _COMMON**0.5 * common + (1 - _COMMON) ** 0.5 * rng.normal(size=shape)
            if name == "log-normal":
                size = np.exp(_SIGMA * normal)
            else:
                size = (normal > np.quantile(normal, 1 - _HIGH, axis=1, keepdims=True)).astype(float)
            parts.append(torch.from_numpy((along[:, :, None] * size[:, None]).reshape(-1, len(seen))).float())
        return parts

    return dataclasses.replace(seen, activations=drawn(), gradients=drawn())
