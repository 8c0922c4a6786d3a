"""The effect of closing an edge of a restricted network on its predictions: to first order, and after a refit.

Throughout, x are (M, I) inputs and y (M, O) standardised responses, NaN where missing; edges are numbered as the
weights of the network.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from gsnn.base.arrays import FloatArray, IntArray
from gsnn.discovery.auditing.restricted import Restricted

PROBES = 8  # random directions that stand for all responses
_BATCH = 512
_CHOOSING = 512  # training samples that choose between the two ways to close an edge
_DAMPING = 1e-2  # of the curvature; without it a refit of few samples follows their noise


@dataclass(frozen=True, eq=False)
class FirstOrder:
    """The effect of closing each edge, to first order, with the mean of its signal added to the bias of its target.

    Attributes:
        rise: (E, M) change of the sum of squared errors of each sample.
        carried: (E,) root mean square change of a response, in standard deviations of the responses.
    """

    rise: FloatArray
    carried: FloatArray


def bytes_of(net: Restricted) -> int:
    """Approximate memory of estimates and refits of a network: derivatives for each probe, and as much again."""
    return 4 * 2 * (PROBES + 2) * (len(net.weight) + len(net.bias) + len(net.offset)) * _BATCH


def batches(x: FloatArray, y: FloatArray) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Inputs; responses, 0 where missing; and 1 where there is a response, else 0."""
    for start in range(0, len(x), _BATCH):
        rows = slice(start, start + _BATCH)
        responses = torch.as_tensor(np.asarray(y[rows]), dtype=torch.float32)
        seen = torch.isfinite(responses).float()
        yield torch.as_tensor(np.asarray(x[rows]), dtype=torch.float32), torch.nan_to_num(responses), seen


def _probes(seen: Tensor, rng: np.random.Generator) -> list[Tensor]:
    """Random signs where a response was measured: a sum of squares is the mean square of the product with them."""
    return [torch.from_numpy(rng.choice([-1.0, 1.0], size=tuple(seen.shape))).float() * seen for _ in range(PROBES)]


def first_order(net: Restricted, x: FloatArray, y: FloatArray, seed: int = 0) -> FirstOrder:
    """Estimate the effect of closing each edge to first order, with a few backward passes for all edges together.

    With c the change of the predictions when the signal of the edge stays at its mean, and r the errors, the squared
    errors rise by 2 r c + c^2. The sum of c^2 over the responses is estimated by `PROBES` random projections.
    ``seed`` fixes the projections.
    """
    rng = np.random.default_rng(seed)
    n_edges = len(net.weight)
    weight = net.weight.detach()[:, None]
    bias = n_edges + net.target_row  # the row of the derivative by the bias of the edge's target
    mean = net.mean_signals(torch.as_tensor(np.asarray(x), dtype=torch.float32))[:, None]
    rises, squares, counted = [], torch.zeros(n_edges, dtype=torch.float64), 0.0
    for inputs, responses, seen in batches(x, y):
        with torch.no_grad():
            error = (responses - net(inputs)) * seen
        linear, *projected = net.derivatives(inputs, [2 * error, *_probes(seen, rng)])
        rise = weight * (linear[:n_edges] - mean * linear[bias])
        square = torch.zeros_like(rise)
        for each in projected:
            square += (weight * (each[:n_edges] - mean * each[bias])).square() / PROBES
        rises.append((rise + square).numpy())
        squares += square.sum(1).double()
        counted += float(seen.sum())
    return FirstOrder(np.concatenate(rises, 1).astype(np.float64), (squares / max(counted, 1.0)).sqrt().numpy())


def refitted_errors(
    net: Restricted,
    edges: Sequence[int],
    train: tuple[FloatArray, FloatArray],
    held: tuple[FloatArray, FloatArray],
    seed: int = 0,
) -> FloatArray:
    """Squared errors of held-out samples with an edge closed and its neighbourhood refitted.

    The other weights into the target and its bias take one Gauss-Newton step: of all changes that close the edge, the
    one that raises the loss of the training samples least (the optimal brain surgeon of Hassibi and Stork, 1993, on
    the neighbourhood). As a step of a linear model it can fail; if training samples have a lower loss when only the
    mean of the signal is added to the bias, this is done instead. The held-out samples then go through the whole
    changed network.

    Args:
        net: The network.
        edges: The edges.
        train: Inputs and responses for the refit.
        held: Inputs and responses for the errors.
        seed: Fixes the projections.

    Returns:
        (edges, M) sums of squared errors of the held-out samples.
    """
    rng = np.random.default_rng(seed)
    n_edges = len(net.weight)
    target = net.target_row.numpy()
    into = {t: np.append(np.flatnonzero(target == t), n_edges + t) for t in np.unique(target[list(edges)])}
    curvature = {t: torch.zeros(len(rows), len(rows), dtype=torch.float64) for t, rows in into.items()}
    for inputs, _, seen in batches(*train):
        for each in net.derivatives(inputs, _probes(seen, rng)):
            for t, rows in into.items():
                part = each[rows].double()
                curvature[t] += part @ part.T
    parameters = {name: value.detach() for name, value in net.named_parameters()}
    mean = net.mean_signals(torch.as_tensor(np.asarray(train[0]), dtype=torch.float32))
    n_functions = len(parameters["bias"])
    few = train[0][:_CHOOSING], train[1][:_CHOOSING]
    errors = []
    for edge in edges:
        rows, matrix = into[target[edge]], curvature[target[edge]]
        diagonal = matrix.diagonal()
        matrix = matrix + torch.diag(_DAMPING * diagonal + 1e-6 * diagonal.mean() + 1e-12)
        own = int(np.flatnonzero(rows == edge)[0])
        unit = torch.zeros(len(rows), dtype=torch.float64)
        unit[own] = 1.0
        column = torch.linalg.solve(matrix, unit)
        closed = parameters["weight"][edge]
        surgeon = (column / column[own] * closed).float()
        plain = torch.zeros_like(surgeon)
        plain[own], plain[-1] = closed, -closed * mean[edge]
        row = int(rows[-1]) - n_edges
        name, place = ("bias", row) if row < n_functions else ("offset", row - n_functions)
        ways = []
        for change in (surgeon, plain):
            weight, moved = parameters["weight"].clone(), parameters[name].clone()
            weight[rows[:-1]] -= change[:-1]
            weight[edge] = 0.0
            moved[place] -= change[-1]
            ways.append({"weight": weight, name: moved})
        best = min(ways, key=lambda way: float(squared_errors(net, *few, way).sum()))
        errors.append(squared_errors(net, *held, best))
    return np.stack(errors)


@torch.no_grad()
def squared_errors(
    net: Restricted, x: FloatArray, y: FloatArray, changed: dict[str, Tensor] | None = None
) -> FloatArray:
    """(M,) sums of squared errors over the measured responses, with some parameters changed."""
    errors = []
    for inputs, responses, seen in batches(x, y):
        predicted = functional_call(net, changed or {}, (inputs,))
        errors.append(((responses - predicted) * seen).square().sum(1).numpy())
    return np.concatenate(errors).astype(np.float64)


def closest_parents(net: Restricted, x: FloatArray) -> tuple[FloatArray, IntArray]:
    """For each edge, the known source of the same target whose signal is most like that of its own source.

    Returns:
        Absolute correlation of the two signals, 0 without another source; and the number of the other edge, -1 without.
    """
    signals = net.signals(torch.as_tensor(np.asarray(x), dtype=torch.float32)).double().numpy()
    signals -= signals.mean(1, keepdims=True)
    size = np.sqrt(np.square(signals).sum(1, keepdims=True))
    signals = np.divide(signals, size, out=np.zeros_like(signals), where=size > 1e-9 * np.sqrt(len(x)))
    target = net.target_row.numpy()
    likeness, other = np.zeros(len(target)), np.full(len(target), -1)
    order = np.argsort(target, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(target[order])) + 1):
        if len(rows) < 2:
            continue
        alike = np.abs(signals[rows] @ signals[rows].T)
        np.fill_diagonal(alike, -1.0)
        best = alike.argmax(1)
        likeness[rows], other[rows] = alike[np.arange(len(rows)), best].clip(0, 1), rows[best]
    return likeness, other
