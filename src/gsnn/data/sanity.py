"""What looks as if data were read wrongly, although nothing keeps them from training."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from gsnn.data.perturbation import PerturbationData
from gsnn.io import Network
from gsnn.io.text import counted, listed

NEAR_ZERO = 0.1  # an r to beat below which treatments say next to nothing of the responses
MOST_CONTROLS = 0.5  # a share of untreated samples above which one asks what became of the treatments


def oddities(
    data: PerturbationData, left_out: Mapping[str, float] | None = None, network: Network | None = None
) -> list[str]:
    """Signs of a wrong reading.

    Args:
        data: Network and responses, put together.
        left_out: What :func:`gsnn.training.baselines.left_out_correlations` says of them, if it was asked.
        network: The network as it was read.

    Returns:
        Sentences; none if nothing looks wrong.

    Example:
        >>> import pandas as pd
        >>> from gsnn.data import build_data
        >>> from gsnn.io import Responses
        >>> responses = Responses(pd.DataFrame({"a": [0.0, 0, 0, 1]}), pd.DataFrame({"b": [1.0, 1, 1, 1]}))
        >>> for line in oddities(build_data(Network.from_edges([("a", "b")]), responses)):
        ...     print(line)
        looks wrong: 3 of 4 samples have no treatment; are these all controls?
        looks wrong: 1 readout never varies: 'DV:b'; is it measured, and read with its decimals?
    """
    found = []
    untreated = int((data.x == 0).all(axis=1).sum())
    if untreated > MOST_CONTROLS * len(data):
        found.append(f"{untreated} of {len(data)} samples have no treatment; are these all controls?")
    y = data.y
    with np.errstate(invalid="ignore"):
        seen = ~np.isnan(y)
        low = np.where(seen, y, np.inf).min(axis=0, initial=np.inf)
        high = np.where(seen, y, -np.inf).max(axis=0, initial=-np.inf)
    flat = [name for name, a, b, n in zip(data.graph.outputs, low, high, seen.sum(0), strict=True) if n > 1 and a == b]
    if flat:
        found.append(
            f"{counted(len(flat), 'readout')} never {'vary' if len(flat) > 1 else 'varies'}: {listed(flat)}; "
            f"{'are they' if len(flat) > 1 else 'is it'} measured, and read with "
            f"{'their' if len(flat) > 1 else 'its'} decimals?"
        )
    ridge = (left_out or {}).get("ridge", np.nan)
    if ridge < NEAR_ZERO:  # NaN says nothing
        found.append(
            f"ridge regression on the treatments predicts nothing (r {ridge:.3f}); are treatments and readouts of the "
            "same samples in the same row, and is every treatment there?"
        )
    if network is not None:
        names = [*data.graph.inputs, *data.graph.outputs]
        found += network.oddities([name[3:] for name in names])
    return [f"looks wrong: {each}" for each in found]
