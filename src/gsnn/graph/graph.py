"""The prior network: typed nodes, typed edges, and the checks that make it safe to train on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gsnn.base.errors import DataError
from gsnn.graph.checks import (
    EDGE_TYPES,
    NODE_TYPES,
    Edge,
    Edges,
    EdgeType,
    SignedEdge,
    arrow,
    check_edges,
    check_names,
    check_trainable,
    columns,
    locate,
    same_edges,
    shown,
)
from gsnn.graph.convert import read_hetero, read_networkx, read_pandas, write_networkx, write_pandas, write_pyg
from gsnn.graph.summary import ODDITIES, GraphSummary, reached, summarise

if TYPE_CHECKING:
    import networkx as nx
    import pandas as pd
    from torch_geometric.data import HeteroData

_FF, _IF, _FO = EDGE_TYPES


class Graph:
    """An immutable prior network of input, function and output nodes.

    Letters: I inputs, N functions, O outputs, E edges of all types. It has the two dictionaries that research
    code passes around (``edge_index_dict`` and ``node_names_dict``), so it can be used in their place. Both are
    copies: changing them does not change the graph.

    Duplicated edges are collapsed into their first occurrence and reported by :attr:`duplicated_edges`. Signs
    that disagree become 0 (unknown); an unknown sign disagrees with nothing, so +1 and 0 give +1. Weights that
    disagree are an error, because no rule for combining them is right for every network. Self-edges of functions
    are kept and reported.

    Args:
        edge_index_dict: For each of ``EDGE_TYPES``, integers of shape (2, E_type), local to the node types. A type
            that is left out has no edges.
        node_names_dict: For each of ``NODE_TYPES``, the unique names of its nodes, in order.
        edge_weight_dict: For each edge type, finite numbers of shape (E_type,); None for an unweighted graph.
        edge_sign_dict: For each edge type, -1, 0 (unknown) or +1, shape (E_type,); None for an unsigned graph.

    Raises:
        DataError: If a name is repeated or occurs in two types, an edge joins types other than the three, an index
            is out of range, weights or signs do not fit, or an empty type makes training impossible (no inputs,
            functions or outputs, or no function -> output edge).

    Example:
        >>> edges = [("x", "a"), ("a", "b", -1), ("b", "y")]
        >>> graph = Graph.from_edges(edges, input_nodes=["x"], function_nodes=["a", "b"], output_nodes=["y"])
        >>> graph
        Graph(I=1, N=2, O=1, E=3)
        >>> graph.function_edges
        [('a', 'b')]
        >>> graph.edge_sign_dict["function", "to", "function"]
        tensor([-1], dtype=torch.int8)
    """

    def __init__(
        self,
        edge_index_dict: Mapping[EdgeType, Any],
        node_names_dict: Mapping[str, Sequence[str]],
        edge_weight_dict: Mapping[EdgeType, Any] | None = None,
        edge_sign_dict: Mapping[EdgeType, Any] | None = None,
    ) -> None:
        self._names = check_names(node_names_dict)
        self._edges = check_edges(edge_index_dict, edge_weight_dict, edge_sign_dict, self._names)
        check_trainable(self._edges)

    @classmethod
    def from_edges(
        cls,
        edges: Iterable[Edge | SignedEdge],
        *,
        input_nodes: Iterable[str],
        function_nodes: Iterable[str],
        output_nodes: Iterable[str],
    ) -> Graph:
        """Build from an edge list.

        Args:
            edges: (source, target) or (source, target, sign); a sign is -1, 0 (unknown) or +1, and 0 where it is left
                out while other edges have one. Triples in the order of SIF (source, sign, target) are recognised by
                their signs; a data frame is read by its columns.
            input_nodes: Names of the inputs, in order.
            function_nodes: Names of the functions, in order.
            output_nodes: Names of the outputs, in order.

        Raises:
            DataError: If an edge is not a pair or triple, names an unknown node, or joins types that have no edges.

        Example:
            >>> edges = [("x", "a"), ("a", "y")]
            >>> Graph.from_edges(edges, input_nodes=["x"], function_nodes=["a"], output_nodes=["y"]).E
            2
        """
        names = {"input": input_nodes, "function": function_nodes, "output": output_nodes}
        return cls._from_names(*columns(edges), names=names)

    @classmethod
    def from_networkx(
        cls,
        G: nx.DiGraph,
        input_nodes: Iterable[str] | None = None,
        function_nodes: Iterable[str] | None = None,
        output_nodes: Iterable[str] | None = None,
        weight_attr: str | None = "weight",
        sign_attr: str | None = "sign",
    ) -> Graph:
        """Build from a networkx DiGraph (parallel edges of a MultiDiGraph are collapsed).

        Args:
            G: The directed graph; every node of it must have a type.
            input_nodes: Names of the inputs, in order. Leave all three lists out to read the node attribute ``type``.
            function_nodes: Names of the functions. A listed node that G lacks becomes an isolated node.
            output_nodes: Names of the outputs.
            weight_attr: Edge attribute with the weight; ``"weight"`` is ignored if no edge has it. None: unweighted.
            sign_attr: Edge attribute with the sign (0 where an edge lacks it); ``"sign"`` is ignored if no edge has it.
                None: unsigned.

        Returns:
            The graph. The order of the edges within a type is the one in which networkx lists them.

        Raises:
            TypeError: If G is not a directed networkx graph.
            DataError: If a node has no type, some edges lack the weight, or the graph is not valid.

        Example:
            >>> import networkx as nx
            >>> G = nx.DiGraph([("x", "a"), ("a", "y")])
            >>> Graph.from_networkx(G, ["x"], ["a"], ["y"]).functions
            ('a',)
        """
        lists = (input_nodes, function_nodes, output_nodes)
        return cls._from_names(**read_networkx(G, lists, weight_attr, sign_attr))

    @classmethod
    def from_pandas(cls, edges: pd.DataFrame, nodes: pd.DataFrame) -> Graph:
        """Build from two tables, as :meth:`to_pandas` returns them.

        Args:
            edges: Columns ``source`` and ``target``; ``weight`` and ``sign`` if there are any (an empty sign is 0).
            nodes: Columns ``name`` and ``type`` (input, function or output), one row per node, in order.

        Raises:
            DataError: If a column is missing or the graph is not valid.

        Example:
            >>> import pandas as pd
            >>> edges = pd.DataFrame({"source": ["x", "a"], "target": ["a", "y"]})
            >>> nodes = pd.DataFrame({"name": ["x", "a", "y"], "type": ["input", "function", "output"]})
            >>> Graph.from_pandas(edges, nodes)
            Graph(I=1, N=1, O=1, E=2)
        """
        return cls._from_names(**read_pandas(edges, nodes))

    @classmethod
    def from_pyg(cls, data: Any) -> Graph:  # noqa: ANN401 - HeteroData or anything that looks like it
        """Build from a PyG ``HeteroData`` or any object with ``edge_index_dict`` and ``node_names_dict``.

        Args:
            data: The object; its ``edge_weight_dict`` and ``edge_sign_dict`` are kept if it has them. In a
                ``HeteroData`` the names are ``data[type].node_names``.

        Raises:
            TypeError: If the object lacks one of the two dictionaries.
            DataError: If the graph is not valid.
        """
        return cls(*read_hetero(data))

    @classmethod
    def coerce(cls, obj: Any) -> Graph:  # noqa: ANN401 - HeteroData or anything that looks like it
        """The object itself if it is a Graph, otherwise what :meth:`from_pyg` makes of it.

        Example:
            >>> from types import SimpleNamespace
            >>> index = {("input", "to", "function"): [[0], [0]], ("function", "to", "output"): [[0], [0]]}
            >>> names = {"input": ["x"], "function": ["a"], "output": ["y"]}
            >>> Graph.coerce(SimpleNamespace(edge_index_dict=index, node_names_dict=names))
            Graph(I=1, N=1, O=1, E=2)
        """
        return obj if isinstance(obj, Graph) else cls.from_pyg(obj)

    @classmethod
    def _from_names(
        cls,
        source: Sequence[str],
        target: Sequence[str],
        sign: Sequence[float] | None,
        weight: Sequence[float] | None = None,
        *,
        names: Mapping[str, Iterable[str]],
    ) -> Graph:
        """Build from columns of names."""
        checked = check_names(names)
        located = locate(source, target, checked)
        weights, signs = (None if v is None else np.asarray(v) for v in (weight, sign))
        return cls(
            {kind: index for kind, index, _ in located},
            checked,
            None if weights is None else {kind: weights[rows] for kind, _, rows in located},
            None if signs is None else {kind: signs[rows] for kind, _, rows in located},
        )

    def _with(self, edges: dict[EdgeType, Edges]) -> Graph:
        """A graph with the same nodes and other edges, which have been checked."""
        check_trainable(edges)
        graph = object.__new__(type(self))
        graph._names, graph._edges = self._names, edges
        return graph

    @property
    def node_names_dict(self) -> dict[str, list[str]]:
        """Names of the nodes of each type, in order (a copy)."""
        return {kind: list(self._names[kind]) for kind in NODE_TYPES}

    @property
    def edge_index_dict(self) -> dict[EdgeType, torch.Tensor]:
        """Edges of each type: int64 of shape (2, E_type), indices local to the node types (a copy)."""
        return {kind: torch.from_numpy(self._edges[kind].index.copy()) for kind in EDGE_TYPES}

    @property
    def edge_weight_dict(self) -> dict[EdgeType, torch.Tensor] | None:
        """Weights of each type: float64 of shape (E_type,), or None if unweighted (a copy)."""
        weights = {kind: edges.weight for kind, edges in self._edges.items()}
        return {kind: torch.from_numpy(w.copy()) for kind, w in weights.items() if w is not None} or None

    @property
    def edge_sign_dict(self) -> dict[EdgeType, torch.Tensor] | None:
        """Signs of each type: int8 of shape (E_type,), -1, 0 (unknown) or +1, or None if unsigned (a copy)."""
        signs = {kind: edges.sign for kind, edges in self._edges.items()}
        return {kind: torch.from_numpy(s.copy()) for kind, s in signs.items() if s is not None} or None

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs, in order."""
        return self._names["input"]

    @property
    def functions(self) -> tuple[str, ...]:
        """Names of the functions, in order."""
        return self._names["function"]

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs, in order."""
        return self._names["output"]

    @property
    def I(self) -> int:  # noqa: E743 - the fixed letter for inputs
        """Number of inputs."""
        return len(self.inputs)

    @property
    def N(self) -> int:
        """Number of functions."""
        return len(self.functions)

    @property
    def O(self) -> int:  # noqa: E743 - the fixed letter for outputs
        """Number of outputs."""
        return len(self.outputs)

    @property
    def E(self) -> int:
        """Number of edges of all types, without the self-edges that a model adds."""
        return sum(edges.index.shape[1] for edges in self._edges.values())

    @property
    def function_edges(self) -> list[Edge]:
        """The function -> function edges by name, in order."""
        return self._named(_FF, self._edges[_FF].index)

    def _named(self, kind: EdgeType, index: np.ndarray) -> list[Edge]:
        source, target = self._names[kind[0]], self._names[kind[2]]
        return [(source[s], target[t]) for s, t in index.T.tolist()]

    def without_edges(self, edges: Iterable[Edge]) -> Graph:
        """A copy without some edges; every node stays.

        Args:
            edges: (source, target) names, of any edge type.

        Raises:
            DataError: If one of the edges is not in the graph, or no function -> output edge is left.

        Example:
            >>> edges = [("x", "a"), ("a", "b"), ("b", "y")]
            >>> graph = Graph.from_edges(edges, input_nodes=["x"], function_nodes=["a", "b"], output_nodes=["y"])
            >>> graph.without_edges([("a", "b")]).function_edges
            []
        """
        source, target, _ = columns(edges)
        kept: dict[EdgeType, Edges] = {}
        missing: list[Edge] = []
        for kind, drop, _ in locate(source, target, self._names):
            width = len(self._names[kind[2]])
            present = self._edges[kind].index[0] * width + self._edges[kind].index[1]
            unwanted = drop[0] * width + drop[1]
            missing += self._named(kind, drop[:, ~np.isin(unwanted, present)])
            kept[kind] = self._edges[kind].take(np.flatnonzero(~np.isin(present, unwanted)))
        if missing:
            listed = shown(arrow(*edge) for edge in missing)
            raise DataError(f"{len(missing)} edges to remove are not in the graph: {listed}; the direction matters")
        return self._with(kept)

    def with_edges(self, edges: Iterable[Edge | SignedEdge], *, weight: float = 1.0) -> Graph:
        """A copy with more edges between nodes that exist, added after the others of their type.

        Args:
            edges: (source, target) or (source, target, sign), of any allowed edge type.
            weight: Weight of the new edges; used only if the graph is weighted.

        Returns:
            The larger graph. An unsigned graph becomes signed (old edges 0) if a new edge brings a sign.

        Raises:
            DataError: If an edge is in the graph already or is given twice, which would hide a bug in a loop that
                adds edges, or if it names an unknown node.

        Example:
            >>> edges = [("x", "a"), ("a", "y")]
            >>> graph = Graph.from_edges(edges, input_nodes=["x"], function_nodes=["a", "b"], output_nodes=["y"])
            >>> graph.with_edges([("a", "b", -1)]).function_edges
            [('a', 'b')]
        """
        source, target, sign = columns(edges)
        located = locate(source, target, self._names)
        signs = None if sign is None else np.asarray(sign)
        new = check_edges(
            {kind: index for kind, index, _ in located},
            {kind: np.full(len(rows), weight) for kind, _, rows in located} if self._weighted else None,
            None if signs is None else {kind: signs[rows] for kind, _, rows in located},
            self._names,
        )
        clash: list[Edge] = []
        for kind in EDGE_TYPES:
            width = len(self._names[kind[2]])
            old_key, new_key = (e[kind].index[0] * width + e[kind].index[1] for e in (self._edges, new))
            clash += self._named(kind, new[kind].duplicated)
            clash += self._named(kind, new[kind].index[:, np.isin(new_key, old_key)])
        if clash:
            listed = shown(arrow(*edge) for edge in dict.fromkeys(clash))
            raise DataError(f"edges to add that are in the graph already, or are given twice: {listed}; leave them out")
        signed = sign is not None or self._signed
        return self._with({kind: self._edges[kind].append(new[kind], signed=signed) for kind in EDGE_TYPES})

    @property
    def _weighted(self) -> bool:
        return self._edges[_FO].weight is not None

    @property
    def _signed(self) -> bool:
        return self._edges[_FO].sign is not None

    @property
    def duplicated_edges(self) -> list[Edge]:
        """Edges that were given more than once to the constructor, by name."""
        return [edge for kind in EDGE_TYPES for edge in self._named(kind, self._edges[kind].duplicated)]

    @property
    def self_edges(self) -> list[str]:
        """Functions with an edge to themselves."""
        source, target = self._edges[_FF].index
        return [self.functions[i] for i in source[source == target]]

    @cached_property
    def _reached(self) -> tuple[np.ndarray, np.ndarray]:
        """Which functions are reached by an input, and which reach an output; shape (N,) each."""
        ff = self._edges[_FF].index
        down = reached(ff, np.unique(self._edges[_IF].index[1]), self.N)
        up = reached(ff[::-1], np.unique(self._edges[_FO].index[0]), self.N)
        return down, up

    @property
    def unreached_functions(self) -> list[str]:
        """Functions that no input reaches."""
        return [self.functions[i] for i in np.flatnonzero(~self._reached[0])]

    @property
    def dead_end_functions(self) -> list[str]:
        """Functions that reach no output."""
        return [self.functions[i] for i in np.flatnonzero(~self._reached[1])]

    @property
    def unfed_outputs(self) -> list[str]:
        """Outputs without any edge."""
        fed = np.isin(np.arange(self.O), self._edges[_FO].index[1])
        return [self.outputs[i] for i in np.flatnonzero(~fed)]

    @property
    def unreached_outputs(self) -> list[str]:
        """Outputs that have edges, none of which leads back to an input."""
        source, target = self._edges[_FO].index
        return [self.outputs[i] for i in np.setdiff1d(target, target[self._reached[0][source]])]

    @property
    def unused_inputs(self) -> list[str]:
        """Inputs without any edge."""
        used = np.isin(np.arange(self.I), self._edges[_IF].index[0])
        return [self.inputs[i] for i in np.flatnonzero(~used)]

    def summary(self) -> GraphSummary:
        """Counts and warnings, to print or to test.

        Example:
            >>> edges = [("x", "a"), ("a", "y")]
            >>> graph = Graph.from_edges(edges, input_nodes=["x"], function_nodes=["a", "b"], output_nodes=["y"])
            >>> graph.summary().warnings
            ['1 function that no input reaches: b', '1 function that reaches no output: b']
        """
        oddities = {kind: getattr(self, kind) for kind in ODDITIES if kind != "duplicated_edges"}
        oddities["duplicated_edges"] = [arrow(*edge) for edge in self.duplicated_edges]
        return summarise(
            self.node_names_dict, self.edge_index_dict, self.edge_sign_dict, oddities, weighted=self._weighted
        )

    def equals(self, other: Graph) -> bool:
        """Whether two graphs have the same nodes in the same order and the same edges, weights and signs in any order.

        Args:
            other: The graph to compare with; duplicates that were collapsed are not compared.
        """
        if self._names != other._names or (self._weighted, self._signed) != (other._weighted, other._signed):
            return False
        return all(same_edges(self._edges[kind], other._edges[kind]) for kind in EDGE_TYPES)

    def __repr__(self) -> str:
        return f"Graph(I={self.I}, N={self.N}, O={self.O}, E={self.E})"

    def _repr_html_(self) -> str:
        """A small table for notebooks."""
        return self.summary()._repr_html_()

    def to_networkx(self) -> nx.DiGraph:
        """As a networkx DiGraph: node attribute ``type``, edge attributes ``weight`` and ``sign`` if there are any."""
        return write_networkx(*self.to_pandas())

    def to_pandas(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """As two tables, (edges, nodes), which :meth:`from_pandas` reads back."""
        return write_pandas(self.node_names_dict, self.edge_index_dict, self.edge_weight_dict, self.edge_sign_dict)

    def to_pyg(self) -> HeteroData:
        """As a PyG ``HeteroData`` (``edge_index``, ``edge_weight``, ``edge_sign``, ``node_names``, ``num_nodes``).

        Raises:
            MissingExtraError: If PyG is not installed.
        """
        return write_pyg(self.node_names_dict, self.edge_index_dict, self.edge_weight_dict, self.edge_sign_dict)
