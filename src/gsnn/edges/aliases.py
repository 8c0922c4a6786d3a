"""Alias groups: candidate edges that the data cannot tell apart.

Two candidates i -> j and i' -> j' alias when the same inputs reach i and i', and the same outputs are reachable from j
and j', in the graph of the model. Then either edge would carry the same signals to the same places, and a method that
finds the wrong one of the two is still right as far as the data can tell.

A class of its source and a class of its target give the group of a pair, so nothing here is N x N.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from gsnn.base.arrays import IntArray
from gsnn.base.errors import check_option
from gsnn.graph import EDGE_TYPES, Graph
from gsnn.graph.kinds import FUNCTION_EDGES, INPUT_EDGES, OUTPUT_EDGES, edge_type
from gsnn.graph.reach import hop_classes, member_bits, reach_classes

AliasBy = Literal["reach", "hops"]

# Groups say almost nothing if one of them has a larger share of the candidates than this. The share of candidates with
# an alias would not do: it is near 1 wherever groups help, and 0.98 on the benchmark whose largest group has 6 members.
_VACUOUS = 0.5
_ROWS = 1 << 20


@dataclass(frozen=True, eq=False)
class AliasGroups:
    """The alias group of every pair of a source and a target.

    Group ids are ``source_class[i] * n_target_classes + target_class[j]``: whole numbers with gaps, the same whatever
    the order of the functions. Known edges and self-edges have groups too, but only candidates count in the sizes.

    Attributes:
        source_class: Shape (S,), the class of each source.
        target_class: Shape (T,), the class of each target.
        excluded: Shape (2, Q), the pairs that are no candidates (known edges and self-edges), each once.
        alias_by: 'reach' or 'hops'.
        max_hops: The cap of the distances, for 'hops'; None without a cap.
    """

    source_class: IntArray
    target_class: IntArray
    excluded: IntArray = field(repr=False)
    alias_by: AliasBy = "reach"
    max_hops: int | None = None

    @property
    def n_candidates(self) -> int:
        """Number of candidate pairs."""
        return len(self.source_class) * len(self.target_class) - self.excluded.shape[1]

    def without(self, rows: IntArray) -> AliasGroups:
        """The same groups without the pairs i * T + j of ``rows`` (K,) among the candidates."""
        n_targets = len(self.target_class)
        keys = np.union1d(self.excluded[0] * n_targets + self.excluded[1], rows)
        return replace(self, excluded=np.stack(np.divmod(keys, n_targets)))

    @cached_property
    def n_source_classes(self) -> int:
        """Number of classes of sources."""
        return int(self.source_class.max(initial=-1)) + 1

    @cached_property
    def n_target_classes(self) -> int:
        """Number of classes of targets."""
        return int(self.target_class.max(initial=-1)) + 1

    def group(self, src_idx: npt.ArrayLike, dst_idx: npt.ArrayLike) -> IntArray:
        """Ids of the groups of some pairs.

        Args:
            src_idx: Indices of the sources; shapes broadcast.
            dst_idx: Indices of the targets.

        Returns:
            One id for each pair.
        """
        return self.source_class[np.asarray(src_idx)] * self.n_target_classes + self.target_class[np.asarray(dst_idx)]

    def size(self, src_idx: npt.ArrayLike, dst_idx: npt.ArrayLike) -> IntArray:
        """Number of candidates in the groups of some pairs; a candidate counts itself.

        Args:
            src_idx: Indices of the sources; shapes broadcast.
            dst_idx: Indices of the targets.

        Returns:
            One size for each pair: 1 for a candidate without an alias.
        """
        return self.group_size(self.group(src_idx, dst_idx))

    def group_size(self, group: npt.ArrayLike) -> IntArray:
        """Number of candidates in each of some groups."""
        ids = np.asarray(group)
        excluded, count = self._excluded_groups
        if not len(excluded):
            return self._n_pairs(ids)
        place = np.searchsorted(excluded, ids).clip(max=len(excluded) - 1)
        return self._n_pairs(ids) - np.where(excluded[place] == ids, count[place], 0)

    def matrix(self) -> npt.NDArray[np.integer]:
        """Ids of all pairs, shape (S, T), for :func:`gsnn.metrics.evaluate_edges`, of the smallest type that fits."""
        ids = np.empty(
            (len(self.source_class), len(self.target_class)),
            np.min_scalar_type(-self.n_source_classes * self.n_target_classes),
        )
        np.add.outer(self.source_class * self.n_target_classes, self.target_class, out=ids, casting="same_kind")
        return ids

    @cached_property
    def _class_sizes(self) -> tuple[IntArray, IntArray]:
        """Number of nodes in each class of sources, and of targets."""
        return np.bincount(self.source_class), np.bincount(self.target_class)

    def attach(self, table: pd.DataFrame) -> pd.DataFrame:
        """Add the columns ``alias_group`` and ``alias_size`` to the table of any inferer.

        Args:
            table: What ``evaluate`` or ``top_edges`` of an inferer on the same graph returned.

        Returns:
            The table with the two columns at its end (replaced if present): the id of the group of each pair, and the
            number of candidates in the group. Rows are processed in chunks, which needs little memory.

        Raises:
            ValueError: If the table has no columns src_idx and dst_idx, or they are of more nodes than the graph has.

        Example:
            >>> graph = Graph.from_edges(
            ...     [("x", "a"), ("x", "b"), ("a", "c"), ("c", "y")],
            ...     input_nodes=["x"], function_nodes=["a", "b", "c"], output_nodes=["y"])
            >>> table = pd.DataFrame({"src_idx": [1, 2], "dst_idx": [2, 0]})
            >>> alias_groups(graph).attach(table)[["alias_group", "alias_size"]].to_dict("list")
            {'alias_group': [1, 1], 'alias_size': [3, 3]}
        """
        if not {"src_idx", "dst_idx"} <= set(table.columns):
            raise ValueError(f"table must have the columns src_idx and dst_idx, got {list(table.columns)[:8]}")
        source, target = (table[name].to_numpy() for name in ("src_idx", "dst_idx"))
        for end, index, n_nodes in (
            ("sources", source, len(self.source_class)),
            ("targets", target, len(self.target_class)),
        ):
            if len(table) and index.max() >= n_nodes:
                raise ValueError(
                    f"table has indices of {end} up to {index.max()}, but the graph of these groups has {n_nodes}; "
                    "pass the graph and the kind of the inferer"
                )
        n_groups = self.n_source_classes * self.n_target_classes
        smallest = np.min_scalar_type(-max(n_groups, len(self.source_class) * len(self.target_class)))
        values = {name: np.empty(len(table), smallest) for name in ("alias_group", "alias_size")}
        sizes = None
        if n_groups <= len(table):
            # For a table of most pairs, a look-up in the sizes of all groups is faster than a search for each row.
            sizes = np.outer(*self._class_sizes).ravel()
            excluded, count = self._excluded_groups
            sizes[excluded] -= count
        for start in range(0, len(table), _ROWS):
            rows = slice(start, start + _ROWS)
            ids = self.group(source[rows], target[rows])
            values["alias_group"][rows] = ids
            values["alias_size"][rows] = self.group_size(ids) if sizes is None else sizes[ids]
        return table.drop(columns=list(values), errors="ignore").assign(**values)

    def summary(self) -> dict[str, Any]:
        """``by``, ``max_hops``, ``groups``, ``share_aliased`` and ``largest_share``, for JSON."""
        return {
            "by": self.alias_by,
            "max_hops": self.max_hops,
            "groups": self.n_groups,
            "share_aliased": self.share_aliased,
            "largest_share": self.largest_share,
        }

    def _n_pairs(self, group: IntArray) -> IntArray:
        """Number of pairs in each of some groups, candidates or not."""
        sources, targets = self._class_sizes
        return sources[group // self.n_target_classes] * targets[group % self.n_target_classes]

    @cached_property
    def _excluded_groups(self) -> tuple[IntArray, IntArray]:
        """Ids of the groups with excluded pairs, ascending, and the number of these pairs."""
        ids, count = np.unique(self.group(*self.excluded), return_counts=True)
        return ids, count.astype(np.int64)

    @cached_property
    def size_histogram(self) -> tuple[IntArray, IntArray]:
        """Sizes of the groups with a candidate, ascending, and the number of groups of each size."""
        sources, targets = (np.unique(sizes, return_counts=True) for sizes in self._class_sizes)
        ids = self._excluded_groups[0]
        # First all groups without exclusions; then groups with exclusions move to their true size.
        size = np.concatenate([np.outer(sources[0], targets[0]).ravel(), self._n_pairs(ids), self.group_size(ids)])
        change = [np.outer(sources[1], targets[1]).ravel(), np.full(len(ids), -1), np.ones(len(ids), np.int64)]
        sizes, place = np.unique(size, return_inverse=True)
        count = np.zeros(len(sizes), np.int64)
        np.add.at(count, place, np.concatenate(change))
        real = (count > 0) & (sizes > 0)
        return sizes[real].astype(np.int64), count[real]

    @property
    def n_groups(self) -> int:
        """Number of groups with a candidate."""
        return int(self.size_histogram[1].sum())

    @property
    def share_aliased(self) -> float:
        """Share of the candidates that have at least one alias; NaN without candidates."""
        sizes, count = self.size_histogram
        return 1.0 - float(count[sizes == 1].sum()) / self.n_candidates if self.n_candidates else float("nan")

    @property
    def largest_share(self) -> float:
        """Share of the candidates in the largest group; NaN without candidates."""
        return float(self.size_histogram[0][-1]) / self.n_candidates if self.n_candidates else float("nan")

    @property
    def warnings(self) -> list[str]:
        """One sentence if the groups are too coarse to be of use, else empty."""
        if not self.largest_share > _VACUOUS:
            return []
        hint = "; grouping by 'hops' tells them apart by distance" if self.alias_by == "reach" else ""
        return [
            f"{self.largest_share:.0%} of the {self.n_candidates} candidate edges are in one alias group "
            f"(by {self.alias_by!r}), so groups say little here{hint}"
        ]


def alias_groups(
    graph: Any,  # noqa: ANN401 - a Graph or anything that looks like HeteroData
    alias_by: AliasBy = "reach",
    max_hops: int | None = None,
    *,
    kind: str = FUNCTION_EDGES,
    exclude_known: bool = True,
    exclude_self: bool = True,
) -> AliasGroups:
    """Group the candidate edges that the data cannot tell apart (GSNN spec 2.6).

    An input reaches a function f if there is a path input -> ... -> f; an output is reachable from f if there is a path
    f -> ... -> output. Distances count edges, so both are at least 1. With 'reach', two sources are of one class if the
    same inputs reach them, two targets if the same outputs are reachable from them. With 'hops', if their shortest
    distances from each input (to each output) are the same, where a distance above ``max_hops`` counts as no path.
    Without a cap, 'hops' splits the groups of 'reach' and never joins them. Functions that no input reaches are one
    class of sources, those that reach no output one class of targets: no data can tell their edges apart.

    An input is a class of sources of its own, and an output a class of targets: their signals are in the data.

    Reachability alone says little where most functions are in one strongly connected component: see
    :attr:`AliasGroups.warnings`; 'hops' is for such graphs.

    Args:
        graph: The graph of the model, without hidden edges: a :class:`gsnn.graph.Graph`, or an object with
            ``edge_index_dict`` and ``node_names_dict``.
        alias_by: 'reach' or 'hops'.
        max_hops: The number of layers L of the model, for 'hops': it carries no signal farther than that. None: no
            cap. 'reach' does not use it.
        kind: The kind of the candidates, one of :data:`gsnn.graph.KINDS`.
        exclude_known: Whether edges of the graph are no candidates.
        exclude_self: Whether self-edges are no candidates.

    Returns:
        The groups. Time O(E (I + O) / 64) for 'reach', at most times the number of distinct distances for 'hops';
        memory about (N (I + O) / 4 + 256 E) bytes.

    Raises:
        ValueError: If ``alias_by`` is unknown or ``max_hops`` below 1.

    Example:
        >>> edges = [("x", "a"), ("x", "b"), ("a", "c"), ("b", "d"), ("c", "y"), ("d", "y")]
        >>> nodes = {"input_nodes": ["x"], "function_nodes": ["a", "b", "c", "d"], "output_nodes": ["y"]}
        >>> graph = Graph.from_edges(edges, **nodes)
        >>> groups = alias_groups(graph, "hops")
        >>> groups.group([0, 1], [3, 2]).tolist(), groups.size(0, 3).item()
        ([0, 0], 2)
    """
    check_option("alias_by", alias_by, get_args(AliasBy))
    if max_hops is not None and max_hops < 1:
        raise ValueError(f"max_hops must be at least 1 (the number of layers of the model), got {max_hops}")
    checked = graph if isinstance(graph, Graph) else Graph(graph.edge_index_dict, graph.node_names_dict)
    index = {kind: edges.numpy() for kind, edges in checked.edge_index_dict.items()}
    ff, fed, read = (index[kind] for kind in EDGE_TYPES)
    n_nodes = checked.N
    ends = (
        (ff, member_bits(fed[1], fed[0], n_nodes, checked.I)),
        (ff[::-1], member_bits(read[0], read[1], n_nodes, checked.O)),
    )

    def classes(edges: IntArray, bits: npt.NDArray[np.uint64]) -> IntArray:
        return reach_classes(edges, bits) if alias_by == "reach" else hop_classes(edges, bits, max_hops)

    source = np.arange(checked.I) if kind == INPUT_EDGES else classes(*ends[0])
    target = np.arange(checked.O) if kind == OUTPUT_EDGES else classes(*ends[1])
    known = index[edge_type(kind)]
    itself = np.tile(np.arange(n_nodes), (2, 1))
    parts = [known if exclude_known else known[:, :0]]
    parts += [itself] if exclude_self and kind == FUNCTION_EDGES else []
    excluded = np.concatenate(parts, axis=1)
    keys = np.unique(excluded[0] * len(target) + excluded[1])
    excluded = np.stack([keys // len(target), keys % len(target)])
    return AliasGroups(source, target, excluded, alias_by, max_hops if alias_by == "hops" else None)
