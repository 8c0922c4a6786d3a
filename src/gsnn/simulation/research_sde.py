"""The stochastic simulation with the research package's defaults, linear drift and order of results."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import networkx as nx

from gsnn.base.arrays import FloatArray
from gsnn.graph import Graph
from gsnn.simulation import sde


def simulate_sde(
    G: nx.DiGraph | Graph,
    n_train: int,
    n_test: int,
    input_nodes: Iterable[str],
    output_nodes: Iterable[str],
    *,
    noise_scale: float = 1.0,
    dt: float = 0.01,
    t_final: float = 10.0,
    f: Callable[[FloatArray], FloatArray] = lambda total: total,
    **options: Any,  # noqa: ANN401 - those of gsnn.simulation.simulate_sde
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """:func:`gsnn.simulation.simulate_sde` with other defaults and with the results in **another order**.

    The drift is -X + the weighted sum of the parents, without a bounding function, so states can grow where cycles
    amplify. The weights and the noise have the research package's distribution, but are other draws of it.

    ``t_final`` is the time at which the state is read, to the nearest step of ``dt``; ``steps`` can take its place. The
    other arguments are the same, and the graph may have cycles, which the research package does not allow.

    Returns:
        ``(x_train, y_train, x_test, y_test)``, float64, shapes (n, I) and (n, O).

    Raises:
        ValueError: If ``dt`` is not above 0; other errors as :func:`gsnn.simulation.simulate_sde`.

    Example:
        >>> G = nx.DiGraph([("x", "a"), ("a", "y")])
        >>> x_train, y_train, x_test, y_test = simulate_sde(G, 3, 2, ["x"], ["y"], t_final=1.0, seed=0)
        >>> x_train.shape, y_train.shape, x_test.shape
        ((3, 1), (3, 1), (2, 1))
    """
    if not dt > 0:
        raise ValueError(f"dt must be above 0, got {dt!r}")
    options.setdefault("steps", round(t_final / dt))
    x_train, x_test, y_train, y_test = sde.simulate_sde(
        G, n_train, n_test, input_nodes, output_nodes, noise_scale=noise_scale, dt=dt, f=f, **options
    )
    return x_train, y_train, x_test, y_test
