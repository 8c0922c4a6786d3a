"""What looks as if data were read wrongly, although nothing keeps them from training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gsnn.data.standardiser import ColumnMoments
from gsnn.graph import Graph
from gsnn.io.names import strange
from gsnn.io.text import counted, listed

if TYPE_CHECKING:
    from gsnn.data.perturbation import PerturbationData
    from gsnn.io import Network

NEAR_ZERO = 0.1  # an r to beat below which treatments say next to nothing of the responses
# r is over all readouts at once, so that their levels alone make it .3 to .9: what counts is the share of the way from
# the r of the mean to 1. Data sets that are read rightly go .65 to .9 of it, with shuffled rows -.1 to .04.
LEAST_SHARE = 0.1
MIN_CONDITIONS = 3  # in which a treatment was applied, by median; with fewer none could be predicted from the others
MOST_CONTROLS = 0.5  # a share of untreated samples above which one asks what became of the treatments


def oddities(
    data: PerturbationData, left_out: Mapping[str, float] | None = None, network: Network | None = None
) -> list[str]:
    """Signs of a wrong reading.

    Args:
        data: Network and responses, put together.
        left_out: What :func:`gsnn.training.left_out.left_out_correlations` says of them, if it was asked.
        network: The network as it was read; by default the functions of the graph are looked at.

    Returns:
        Sentences; none if nothing looks wrong.

    Example:
        >>> import pandas as pd
        >>> from gsnn.data import build_data
        >>> from gsnn.io import Network, Responses
        >>> responses = Responses(pd.DataFrame({"a": [0.0, 0, 0, 1]}), pd.DataFrame({"b": [1.0, 1, 1, 1]}))
        >>> for line in oddities(build_data(Network.from_edges([("a", "b")]), responses)):
        ...     print(line)
        looks wrong: 3 of 4 samples have no treatment; are these all controls?
        looks wrong: 1 readout never varies: 'DV:b'; is it measured, and read with its decimals?
    """
    readouts = ColumnMoments(data.graph.O)
    readouts.update(data.y)
    flat = [data.graph.outputs[i] for i in np.flatnonzero(readouts.constant & (readouts.count > 1))]
    untreated = int((data.x == 0).all(axis=1).sum())
    r = {name: (left_out or {}).get(name, np.nan) for name in ("ridge", "mean")}
    found = odd_samples(untreated, len(data), flat) + odd_fit(r["ridge"], r["mean"] if _repeats(data.x) else np.nan)
    return found + odd_network(data.graph, None if network is None else network.species)


def odd_samples(untreated: int, n: int, flat: Sequence[str]) -> list[str]:
    """What to say of samples without treatment, and of readouts that never vary.

    Args:
        untreated: Samples without any treatment.
        n: All samples.
        flat: Readouts that were measured more than once and always the same.

    Returns:
        At most one sentence for each.
    """
    found = []
    if untreated > MOST_CONTROLS * n:
        found.append(f"looks wrong: {untreated} of {n} samples have no treatment; are these all controls?")
    if flat:
        many = len(flat) > 1
        found.append(
            f"looks wrong: {counted(len(flat), 'readout')} never {'vary' if many else 'varies'}: {listed(flat)}; "
            f"{'are they' if many else 'is it'} measured, and read with {'their' if many else 'its'} decimals?"
        )
    return found


def odd_fit(ridge: float, mean: float = np.nan) -> list[str]:
    """What to say where ridge regression predicts nothing, or no more than the mean does; NaN says nothing.

    Args:
        ridge: Its r.
        mean: That of the mean of the samples; NaN if it is no measure.

    Returns:
        At most one sentence.

    Example:
        >>> odd_fit(0.8), odd_fit(float("nan")), odd_fit(-0.2)[0][:65]
        ([], [], 'looks wrong: ridge regression on the treatments predicts nothing ')
        >>> odd_fit(0.9, 0.33), len(odd_fit(0.33, 0.33))
        ([], 1)
    """
    if not (ridge < NEAR_ZERO or ridge - mean < LEAST_SHARE * (1 - mean)):
        return []
    if ridge >= NEAR_ZERO:
        return [
            f"looks wrong: ridge regression on the treatments predicts no more than the mean (r {ridge:.3f} against "
            f"{mean:.3f}); are treatments and readouts of the same samples in the same row, and is every treatment "
            "there?"
        ]
    return [
        f"looks wrong: ridge regression on the treatments predicts nothing (r {ridge:.3f}); are treatments and "
        "readouts of the same samples in the same row, and is every treatment there?"
    ]


def _repeats(x: npt.NDArray[np.float32]) -> bool:
    """Whether treatments were applied in several conditions each, so that one can be predicted from the others."""
    distinct = np.unique(x, axis=0)
    return bool(x.shape[1]) and float(np.median((distinct != 0).sum(axis=0))) >= MIN_CONDITIONS


def odd_network(graph: Graph, species: Sequence[str] | None = None) -> list[str]:
    """What to say of species that are numbers or words of files, and of a network without any path to a readout.

    Args:
        graph: Its inputs and outputs tell whether numbers are identifiers.
        species: The species of the network; by default the functions of the graph.

    Returns:
        Sentences.
    """
    names = [name[3:] for name in (*graph.inputs, *graph.outputs)]
    found = strange(graph.functions if species is None else species, names)
    if graph.O and len(graph.unreached_outputs) == graph.O:
        found.append(
            "no treatment has a path to any readout; are treatments and readouts swapped, or the sources and targets "
            "of the network?"
        )
    return [f"looks wrong: {each}" for each in found]
