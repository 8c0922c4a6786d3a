"""Signs that data were read wrongly, although training on them is possible."""

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

NEAR_ZERO = 0.1  # an r of ridge regression below which treatments say next to nothing about the responses
# r is over all readouts at once, and their levels alone make it .3 to .9. So the measure is the share of the way from
# the r of the mean to 1: .65 to .9 for data sets that are read correctly, -.1 to .04 for shuffled rows.
LEAST_SHARE = 0.1
MIN_CONDITIONS = 3  # median number of conditions per treatment; with fewer none could be predicted from the others
MOST_CONTROLS = 0.5  # a share of untreated samples above which the treatments may have been lost


def oddities(
    data: PerturbationData, left_out: Mapping[str, float] | None = None, network: Network | None = None
) -> list[str]:
    """Signs that data were read wrongly.

    Args:
        data: The data.
        left_out: The result of :func:`gsnn.training.left_out.left_out_correlations`, if it is known.
        network: The network as it was read; by default the functions of the graph are checked.

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
    notes = odd_samples(untreated, len(data), flat) + odd_fit(r["ridge"], r["mean"] if _repeats(data.x) else np.nan)
    return notes + odd_network(data.graph, None if network is None else network.species)


def odd_samples(untreated: int, n: int, flat: Sequence[str]) -> list[str]:
    """Warnings about too many samples without treatment, and about readouts that never vary.

    Args:
        untreated: Number of samples without any treatment.
        n: Number of all samples.
        flat: Readouts that were measured more than once, always with the same value.
    """
    notes = []
    if untreated > MOST_CONTROLS * n:
        notes.append(f"looks wrong: {untreated} of {n} samples have no treatment; are these all controls?")
    if flat:
        many = len(flat) > 1
        notes.append(
            f"looks wrong: {counted(len(flat), 'readout')} never {'vary' if many else 'varies'}: {listed(flat)}; "
            f"{'are they' if many else 'is it'} measured, and read with {'their' if many else 'its'} decimals?"
        )
    return notes


def odd_fit(ridge: float, mean: float = np.nan) -> list[str]:
    """A warning if ridge regression predicts nothing, or no more than the mean; at most one sentence.

    Args:
        ridge: The r of ridge regression; NaN gives no warning.
        mean: The r of the mean of the samples; NaN if it is no measure.

    Example:
        >>> odd_fit(0.8), odd_fit(float("nan")), odd_fit(-0.2)[0][:65]
        ([], [], 'looks wrong: ridge regression on the treatments predicts nothing ')
        >>> odd_fit(0.9, 0.33), len(odd_fit(0.33, 0.33))
        ([], 1)
    """
    if ridge < NEAR_ZERO:
        result = f"nothing (r {ridge:.3f})"
    elif ridge - mean < LEAST_SHARE * (1 - mean):
        result = f"no more than the mean (r {ridge:.3f} against {mean:.3f})"
    else:
        return []
    return [
        f"looks wrong: ridge regression on the treatments predicts {result}; are treatments and readouts of the same "
        "samples in the same row, and is every treatment there?"
    ]


def _repeats(x: npt.NDArray[np.float32]) -> bool:
    """Whether each treatment was applied in several conditions, so that one can be predicted from the others."""
    distinct = np.unique(x, axis=0)
    return bool(x.shape[1]) and float(np.median((distinct != 0).sum(axis=0))) >= MIN_CONDITIONS


def odd_network(graph: Graph, species: Sequence[str] | None = None) -> list[str]:
    """Warnings about species that are numbers or words of files, and about a network without a path to any readout.

    Args:
        graph: The graph; its inputs and outputs show whether numbers are identifiers.
        species: The species of the network; by default the functions of the graph.
    """
    names = [name[3:] for name in (*graph.inputs, *graph.outputs)]
    notes = strange(graph.functions if species is None else species, names)
    if graph.O and len(graph.unreached_outputs) == graph.O:
        notes.append(
            "no treatment has a path to any readout; are treatments and readouts swapped, or the sources and targets "
            "of the network?"
        )
    return [f"looks wrong: {note}" for note in notes]
