"""Leading hypotheses of what is wrong with a network, and a model for each of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd
import torch

from gsnn.ask.conditions import name_of
from gsnn.base.errors import DataError
from gsnn.graph import Graph
from gsnn.graph.checks import Edge
from gsnn.nn import GSNN

AS_IS = "the network as it is"


@dataclass(frozen=True)
class Hypothesis:
    """A network that may be the true one.

    Attributes:
        name: What it says.
        added: The edge that it adds, which stands for all of its alias group, or None.
        removed: The known edge that it removes, or None.
        members: All ranked candidates of the alias group, the added one first.
    """

    name: str
    added: Edge | None = None
    removed: Edge | None = None
    members: tuple[Edge, ...] = ()

    def graph(self, whole: Graph) -> Graph:
        """The network of the hypothesis, made from the prior one."""
        if self.added is not None:
            return whole.with_edges([self.added])
        return whole if self.removed is None else whole.without_edges([self.removed])


def leading_hypotheses(candidates: pd.DataFrame, doubts: Iterable[Edge] = (), k: int = 8) -> list[Hypothesis]:
    """The network as it is, the best alias groups of candidates, and known edges in doubt.

    Args:
        candidates: Columns source and target, the best first; with ``alias_group`` (and ``kind``) the candidates of a
            group are one hypothesis, which adds the best of them.
        doubts: Known edges that may not exist.
        k: How many alias groups.

    Raises:
        DataError: If there is no candidate.

    Example:
        >>> table = pd.DataFrame({"source": ["a", "a", "c"], "target": ["b", "d", "d"], "alias_group": [1, 1, 2]})
        >>> [one.name for one in leading_hypotheses(table, [("e", "f")])]
        ['the network as it is', 'a -> b (or 1 like it)', 'c -> d', 'no e -> f']
    """
    if not len(candidates):
        raise DataError("there is no candidate edge to design experiments for; run gsnn infer first")
    keys = [name for name in ("kind", "alias_group") if name in candidates.columns]
    group: Iterable[object] = range(len(candidates))
    if "alias_group" in keys:
        group = candidates[keys].itertuples(index=False, name=None)
    members: dict[object, list[Edge]] = {}
    for key, source, target in zip(group, candidates["source"], candidates["target"], strict=True):
        if key in members or len(members) < k:
            members.setdefault(key, []).append((str(source), str(target)))
    hypotheses = [Hypothesis(AS_IS)]
    for some in members.values():
        like = f" (or {len(some) - 1} like it)" if len(some) > 1 else ""
        hypotheses.append(Hypothesis(f"{_arrow(some[0])}{like}", added=some[0], members=tuple(some)))
    return [*hypotheses, *(Hypothesis(f"no {_arrow(edge)}", removed=edge) for edge in doubts)]


def with_weights_of(model: GSNN, fresh: GSNN) -> GSNN:
    """Copy the weights of a trained model into a new one, whose graph differs by some edges.

    New edges keep their initial weights. Returns ``fresh``, changed in place.
    """
    place = {edge: i for i, edge in enumerate(_edges(model))}
    origin = torch.tensor([place.get(edge, -1) for edge in _edges(fresh)])
    shared = origin >= 0
    state, trained = fresh.state_dict(), model.state_dict()
    for name, value in state.items():
        source = trained[name]
        part = next((part for part in ("lin_in", "lin_out") if name.endswith(f".{part}.weight")), None)
        if part is not None:
            (start, _), (begin, edge) = (_weights(one, part) for one in (model, fresh))
            kept = shared[edge]
            within = torch.arange(len(edge)) - begin[edge]
            value[kept] = source[start[origin[edge[kept]]] + within[kept]]
        elif name.endswith(".lin_out.bias") or (".edge_norm." in name and value.ndim):
            value[shared] = source[origin[shared]]
        else:
            value.copy_(source)
    fresh.load_state_dict(state)
    return fresh


def _edges(model: GSNN) -> list[tuple[int, int, int]]:
    """Each edge by its homogeneous ends, and the number of parallel ones before it."""
    count: dict[tuple[int, int], int] = {}
    edges = []
    for ends in map(tuple, model.layout.edge_index.t().tolist()):
        count[ends] = count.get(ends, -1) + 1
        edges.append((*ends, count[ends]))
    return edges


def _weights(model: GSNN, part: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the weights of each edge start in a map of the blocks, and the edge of each weight."""
    edge, _ = getattr(model.blocks[0], part).pattern.positions()
    width = torch.bincount(edge, minlength=model.E)
    return torch.cumsum(width, 0) - width, edge


def _arrow(edge: Sequence[str]) -> str:
    return " -> ".join(name_of(end) for end in edge)
