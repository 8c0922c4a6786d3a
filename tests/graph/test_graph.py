"""Graph: validation, round trips, reports; reachability against networkx."""

from __future__ import annotations

import copy
import pickle
import time
from itertools import pairwise
from types import SimpleNamespace

import networkx as nx
import numpy as np
import pandas as pd
import pytest
import torch

from gsnn.base.errors import DataError
from gsnn.graph import EDGE_TYPES, Graph, nx2pyg, pyg2nx

FF, IF, FO = EDGE_TYPES
NAMES = {"input": ["x", "x2"], "function": ["a", "b", "c"], "output": ["y", "y2"]}


def indices(ff=((0, 1), (1, 0)), i_f=((0,), (0,)), fo=((1,), (0,))):
    return {FF: torch.tensor(ff), IF: torch.tensor(i_f), FO: torch.tensor(fo)}


def random_graph(seed, n=30, weighted=True, signed=True):
    """A graph with cycles, self-edges, isolated nodes of every type, weights and signs."""
    rng = np.random.default_rng(seed)
    names = {
        "input": [f"in{i}" for i in range(5)],
        "function": [f"f{i}" for i in range(n)],
        "output": [f"out{i}" for i in range(6)],
    }
    size = {kind: len(listed) for kind, listed in names.items()}
    index = {}
    for kind, count in ((FF, 2 * n), (IF, 4), (FO, 4)):
        pairs = rng.choice(size[kind[0]] * (size[kind[2]] - 1), count, replace=False)
        index[kind] = torch.tensor(np.stack(np.divmod(pairs, size[kind[2]] - 1)))
    weight = {k: torch.tensor(rng.normal(size=v.shape[1])) for k, v in index.items()} if weighted else None
    sign = {k: torch.tensor(rng.integers(-1, 2, v.shape[1])) for k, v in index.items()} if signed else None
    return Graph(index, names, weight, sign)


class TestContent:
    def test_dictionaries(self):
        graph = Graph(indices(), NAMES)
        assert graph.node_names_dict == NAMES
        assert list(graph.edge_index_dict) == list(EDGE_TYPES)
        for index in graph.edge_index_dict.values():
            assert index.dtype == torch.int64
            assert index.shape[0] == 2
        assert graph.edge_weight_dict is None
        assert graph.edge_sign_dict is None
        assert (graph.I, graph.N, graph.O, graph.E) == (2, 3, 2, 4)
        assert graph.function_edges == [("a", "b"), ("b", "a")]
        assert graph.inputs == ("x", "x2")

    @pytest.mark.parametrize("empty", [torch.empty(2, 0), torch.tensor([]), [[], []], None])
    def test_an_empty_edge_type_has_shape_2_0(self, empty):
        index = indices()
        index[FF] = empty
        if empty is None:
            del index[FF]
        assert Graph(index, NAMES).edge_index_dict[FF].shape == (2, 0)
        assert Graph(index, NAMES).edge_index_dict[FF].dtype == torch.int64

    def test_nothing_given_or_returned_is_shared(self):
        index, names = indices(), copy.deepcopy(NAMES)
        graph = Graph(index, names)
        index[FF][0, 0] = 2
        names["function"][0] = "changed"
        graph.edge_index_dict[FF][:] = 0
        graph.node_names_dict["function"].clear()
        assert graph.function_edges == [("a", "b"), ("b", "a")]

    def test_attributes_cannot_be_assigned(self):
        with pytest.raises(AttributeError):
            Graph(indices(), NAMES).edge_index_dict = {}

    def test_pickle_and_deepcopy(self):
        graph = random_graph(0)
        assert pickle.loads(pickle.dumps(graph)).equals(graph)
        assert copy.deepcopy(graph).equals(graph)

    def test_repr(self):
        assert repr(Graph(indices(), NAMES)) == "Graph(I=2, N=3, O=2, E=4)"

    def test_html_is_escaped(self):
        names = {**NAMES, "function": ["a", "b", "<script>&"]}
        text = Graph(indices(), names)._repr_html_()
        assert "<script>" not in text
        assert "&lt;script&gt;&amp;" in text


class TestRefusals:
    @pytest.mark.parametrize(
        ("names", "message"),
        [
            ({**NAMES, "function": ["a", "b", "a"]}, r"duplicate function names 'a'"),
            ({**NAMES, "output": ["y", "b"]}, r"names in two node types: 'b'"),
            ({**NAMES, "function": ["a", "b", 3]}, r"names of function nodes must be non-empty strings, got 3"),
            ({**NAMES, "function": ["a", "b", ""]}, r"must be non-empty strings, got ''"),
            ({**NAMES, "function": "abc"}, r"must be a list of names, got the string 'abc'"),
            ({**NAMES, "gene": ["g"]}, r"unknown node types \['gene'\]"),
            ({**NAMES, "input": []}, r"no input nodes"),
            ({**NAMES, "function": []}, r"no function nodes"),
            ({**NAMES, "output": []}, r"no output nodes"),
            ({"function": ["a"]}, r"no input and no output nodes"),
        ],
    )
    def test_names(self, names, message):
        with pytest.raises(DataError, match=message):
            Graph(indices(), names)

    @pytest.mark.parametrize("bad", [-1, 3])
    def test_index_out_of_range(self, bad):
        with pytest.raises(
            DataError, match=rf"out of range: edge 1 = \(1, {bad}\); there are 3 function and 3 function"
        ):
            Graph(indices(ff=((0, 1), (1, bad))), NAMES)

    def test_out_of_range_in_the_other_types(self):
        with pytest.raises(DataError, match="there are 2 input and 3 function"):
            Graph(indices(i_f=((2,), (0,))), NAMES)
        with pytest.raises(DataError, match="there are 3 function and 2 output"):
            Graph(indices(fo=((0,), (2,))), NAMES)

    @pytest.mark.parametrize(
        "kind", [("input", "to", "output"), ("output", "to", "function"), ("input", "x", "function")]
    )
    def test_foreign_edge_types(self, kind):
        with pytest.raises(
            DataError, match=r"edges of types that a graph has not: .*\(1 edges\); allowed are input -> "
        ):
            Graph({**indices(), kind: torch.tensor([[0], [0]])}, NAMES)
        assert Graph({**indices(), kind: torch.empty(2, 0)}, NAMES).E == 4  # nothing is dropped

    def test_shape_and_dtype(self):
        with pytest.raises(DataError, match=r"shape \(2, E\), got \(3, 2\); pass its transpose"):
            Graph(indices(ff=((0, 1), (1, 2), (2, 0))), NAMES)
        with pytest.raises(DataError, match="must hold integers, got float64"):
            Graph({**indices(), FF: np.array([[0.0], [1.0]])}, NAMES)

    def test_no_edge_into_an_output(self):
        index = indices()
        del index[FO]
        with pytest.raises(DataError, match="no function -> output edges"):
            Graph(index, NAMES)

    def test_weights_and_signs(self):
        ok = {FF: [1.0, 2.0], IF: [1.0], FO: [1.0]}
        with pytest.raises(DataError, match=r"edge_weight_dict\[.*\] must have shape \(2,\).*got \(1,\)"):
            Graph(indices(), NAMES, {**ok, FF: [1.0]})
        with pytest.raises(DataError, match=r"must have shape \(1,\).*got \(0,\)"):
            Graph(indices(), NAMES, {FF: [1.0, 2.0], IF: [1.0]})
        with pytest.raises(DataError, match=r"a weight must be finite; 1 do not: 'b' -> 'a' \(nan\)"):
            Graph(indices(), NAMES, {**ok, FF: [1.0, np.nan]})
        with pytest.raises(DataError, match=r"a sign is -1, 0 or \+1; 1 do not: 'b' -> 'a' \(2\)"):
            Graph(indices(), NAMES, None, {**ok, FF: [1, 2]})
        with pytest.raises(DataError, match="must hold numbers"):
            Graph(indices(), NAMES, None, {**ok, FF: ["up", "down"]})

    def test_edges_by_name(self):
        given = {"input_nodes": ["x"], "function_nodes": ["alpha", "b"], "output_nodes": ["y"]}
        with pytest.raises(DataError, match=r"1 edge ends .*'alfa' \(did you mean 'alpha'\?\)"):
            Graph.from_edges([("x", "alfa"), ("b", "y")], **given)
        with pytest.raises(
            DataError, match=r"2 edges join types .*'x' -> 'y' \(input -> output\), 'y' -> 'b' \(output -> fu"
        ):
            Graph.from_edges([("x", "y"), ("y", "b"), ("b", "y")], **given)
        with pytest.raises(DataError, match=r"edges must be \(source, target\).*got 'xb'"):
            Graph.from_edges(["xb"], **given)
        with pytest.raises(DataError, match=r"edges must be"):
            Graph.from_edges([("x", "b", 1, 2)], **given)

    def test_long_lists_of_offenders_are_cut(self):
        edges = [(f"in{i}", f"out{i}") for i in range(50)]
        names = {"input_nodes": [e[0] for e in edges], "function_nodes": ["f"], "output_nodes": [e[1] for e in edges]}
        with pytest.raises(DataError, match=r"50 edges join types") as error:
            Graph.from_edges(edges, **names)
        assert len(str(error.value)) < 500

    def test_networkx(self):
        G = nx.DiGraph([("x", "a"), ("a", "y"), ("a", "lost")])
        with pytest.raises(DataError, match="1 nodes of G are in none of the lists: 'lost'"):
            nx2pyg(G, ["x"], ["a"], ["y"])
        with pytest.raises(DataError, match="attribute 'type' is not"):
            Graph.from_networkx(G)
        with pytest.raises(DataError, match="function_nodes and output_nodes left out"):
            Graph.from_networkx(G, ["x"])
        with pytest.raises(TypeError, match="must be directed, got Graph"):
            Graph.from_networkx(nx.Graph(G), ["x"], ["a", "lost"], ["y"])
        with pytest.raises(TypeError, match="must be a networkx DiGraph, got dict"):
            Graph.from_networkx({}, ["x"], ["a"], ["y"])
        G = nx.DiGraph()
        G.add_edge("x", "a", w=1.0)
        G.add_edge("a", "y")
        with pytest.raises(DataError, match="1 edges lack the attribute 'w': 'a' -> 'y'"):
            nx2pyg(G, ["x"], ["a"], ["y"], weight_attr="w")
        with pytest.raises(DataError, match=r"no edge of G has the attribute 'ww'.*did you mean 'w'"):
            nx2pyg(G, ["x"], ["a"], ["y"], weight_attr="ww")

    def test_pandas(self):
        edges = pd.DataFrame({"source": ["x", "a"], "target": ["a", "y"]})
        nodes = pd.DataFrame({"name": ["x", "a", "y"], "type": ["input", "function", "output"]})
        with pytest.raises(DataError, match="edges has no column 'target'"):
            Graph.from_pandas(edges.rename(columns={"target": "to"}), nodes)
        with pytest.raises(DataError, match="nodes has no column 'type'"):
            Graph.from_pandas(edges, nodes[["name"]])
        with pytest.raises(DataError, match=r"nodes\['type'\] must be .*'gene'"):
            Graph.from_pandas(edges, nodes.replace("input", "gene"))
        with pytest.raises(DataError, match=r"edges\['sign'\] must hold numbers, got row 0: 'up'"):
            Graph.from_pandas(edges.assign(sign=["up", 1]), nodes)
        with pytest.raises(DataError, match="a weight must be finite; 1 do not: 'a' -> 'y'"):
            Graph.from_pandas(edges.assign(weight=[1, np.nan]), nodes)
        with pytest.raises(TypeError, match="edges must be a pandas DataFrame, got list"):
            Graph.from_pandas([], nodes)

    def test_coerce(self):
        with pytest.raises(TypeError, match="got int without edge_index_dict"):
            Graph.coerce(3)
        with pytest.raises(TypeError, match="without node_names_dict"):
            Graph.coerce(SimpleNamespace(edge_index_dict={}))


class TestDuplicates:
    def test_collapsed_in_order_with_signs(self):
        edges = [
            ("x", "c"),
            ("b", "a", 1),
            ("a", "b", 1),
            ("b", "a", -1),
            ("a", "b", 0),
            ("b", "b", -1),
            ("b", "b", -1),
        ]
        given = {"input_nodes": ["x"], "function_nodes": ["a", "b", "c"], "output_nodes": ["y"]}
        graph = Graph.from_edges([*edges, ("c", "y")], **given)
        assert graph.function_edges == [("b", "a"), ("a", "b"), ("b", "b")]
        assert graph.edge_sign_dict[FF].tolist() == [0, 1, -1]
        assert graph.duplicated_edges == [("b", "a"), ("a", "b"), ("b", "b")]
        assert graph.self_edges == ["b"]
        text = "\n".join(graph.summary().warnings)
        assert "3 duplicated edges" in text
        assert "1 function with a self-edge: b" in text

    def test_against_a_loop(self):
        rng = np.random.default_rng(3)
        index, sign = rng.integers(0, 5, (2, 200)), rng.integers(-1, 2, 200)
        found: dict[tuple[int, int], set[int]] = {}
        for s, t, value in zip(*index.tolist(), sign.tolist(), strict=True):
            found.setdefault((s, t), set()).add(value)
        names = {"input": ["x"], "function": list("abcde"), "output": ["y"]}
        signs = {FF: sign, IF: [0], FO: [0]}
        graph = Graph({FF: index, IF: [[0], [0]], FO: [[0], [0]]}, names, None, signs)
        assert list(map(tuple, graph.edge_index_dict[FF].T.tolist())) == list(found)
        expected = [0 if {1, -1} <= values else sum(values) for values in found.values()]
        assert graph.edge_sign_dict[FF].tolist() == expected

    def test_weights_must_agree(self):
        weight = {FF: [1.0, 1.0], IF: [1.0], FO: [1.0]}
        graph = Graph(indices(ff=((0, 0), (1, 1))), NAMES, weight)
        assert graph.edge_weight_dict[FF].tolist() == [1.0]
        with pytest.raises(DataError, match=r"repeated edges must agree; combine them; 1 do not: 'a' -> 'b' \(2\)"):
            Graph(indices(ff=((0, 0), (1, 1))), NAMES, {**weight, FF: [1.0, 2.0]})

    def test_multidigraph(self):
        G = nx.MultiDiGraph([("x", "a"), ("a", "y"), ("a", "y")])
        assert nx2pyg(G, ["x"], ["a"], ["y"]).duplicated_edges == [("a", "y")]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("signed", [False, True])
class TestRoundTrips:
    def test_networkx(self, weighted, signed):
        graph = random_graph(1, weighted=weighted, signed=signed)
        assert Graph.from_networkx(graph.to_networkx()).equals(graph)
        lists = (graph.inputs, graph.functions, graph.outputs)
        again = nx2pyg(pyg2nx(graph), *lists, weight_attr="weight" if weighted else None)
        assert again.equals(graph)
        assert nx.utils.graphs_equal(again.to_networkx(), graph.to_networkx())

    def test_pandas(self, weighted, signed):
        graph = random_graph(2, weighted=weighted, signed=signed)
        again = Graph.from_pandas(*graph.to_pandas())
        assert again.equals(graph)
        for kind in EDGE_TYPES:  # here the order of the edges is kept too
            assert torch.equal(again.edge_index_dict[kind], graph.edge_index_dict[kind])

    def test_pyg(self, weighted, signed):
        pytest.importorskip("torch_geometric", exc_type=ImportError)
        graph = random_graph(3, weighted=weighted, signed=signed)
        data = graph.to_pyg()
        assert data.node_names_dict["function"] == list(graph.functions)
        assert data["function"].num_nodes == graph.N
        assert Graph.from_pyg(data).equals(graph)
        assert Graph.coerce(data).equals(graph)
        assert nx.utils.graphs_equal(pyg2nx(data), graph.to_networkx())

    def test_edge_list(self, weighted, signed):
        graph = random_graph(4, weighted=False, signed=signed)
        edges = list(graph.to_pandas()[0].itertuples(index=False, name=None))
        given = {"input_nodes": graph.inputs, "function_nodes": graph.functions, "output_nodes": graph.outputs}
        assert Graph.from_edges(edges, **given).equals(graph)


class TestConversions:
    def test_given_order_and_listed_nodes_without_edges(self):
        G = nx.DiGraph([("x", "a"), ("b", "a"), ("a", "y")])
        graph = nx2pyg(G, ["x2", "x"], ["c", "b", "a"], ["y"])
        assert graph.functions == ("c", "b", "a")
        assert graph.edge_index_dict[FF].tolist() == [[1], [2]]
        assert graph.edge_index_dict[IF].tolist() == [[1], [2]]

    def test_signs_that_some_edges_lack(self):
        G = nx.DiGraph()
        G.add_edge("x", "a", sign=None)
        G.add_edge("a", "y", sign=-1)
        G.add_edge("a", "y2")
        graph = nx2pyg(G, ["x"], ["a"], ["y", "y2"])
        assert graph.edge_sign_dict[IF].tolist() == [0]
        assert graph.edge_sign_dict[FO].tolist() == [-1, 0]
        assert Graph.from_networkx(G, ["x"], ["a"], ["y", "y2"], sign_attr=None).edge_sign_dict is None

    def test_empty_cells_of_a_sign_column(self):
        edges = pd.DataFrame({"source": ["x", "a"], "target": ["a", "y"], "sign": pd.array([1, None], dtype="Int8")})
        nodes = pd.DataFrame({"name": ["x", "a", "y"], "type": ["input", "function", "output"]})
        assert Graph.from_pandas(edges, nodes).edge_sign_dict[FO].tolist() == [0]

    def test_weights_of_a_hetero_like_object_may_leave_out_empty_types(self):
        index = indices()
        del index[FF]
        like = SimpleNamespace(edge_index_dict=index, node_names_dict=NAMES, edge_weight_dict={IF: [2.0], FO: [3.0]})
        assert Graph.coerce(like).edge_weight_dict[FF].shape == (0,)

    def test_odd_names_survive(self):
        odd = ["a b", 'q"uote', "<b>", "x=y", "é", "表", "a,b"]
        graph = Graph.from_edges(
            [("x", odd[0]), *pairwise(odd), (odd[-1], "y")],
            input_nodes=["x"],
            function_nodes=odd,
            output_nodes=["y"],
        )
        assert graph.functions == tuple(odd)
        assert Graph.from_networkx(graph.to_networkx()).equals(graph)


class TestChanges:
    def test_without_then_with_gives_the_graph_back(self):
        graph = random_graph(5, weighted=False)
        gone = graph.function_edges[::3]
        signs = dict(zip(graph.function_edges, graph.edge_sign_dict[FF].tolist(), strict=True))
        smaller = graph.without_edges(gone)
        assert set(smaller.function_edges) == set(graph.function_edges) - set(gone)
        assert smaller.functions == graph.functions
        assert smaller.with_edges([(*edge, signs[edge]) for edge in gone]).equals(graph)

    def test_without_edges_of_other_types(self):
        assert Graph(indices(), NAMES).without_edges([("x", "a")]).E == 3

    def test_unknown_edges_are_named(self):
        graph = Graph(indices(), NAMES)
        with pytest.raises(DataError, match="2 edges to remove are not in the graph: 'a' -> 'c', 'c' -> 'a'"):
            graph.without_edges([("a", "b"), ("a", "c"), ("c", "a")])
        with pytest.raises(DataError, match="not nodes of the graph: 'zzz'"):
            graph.without_edges([("a", "zzz")])
        with pytest.raises(DataError, match="no function -> output edges"):
            graph.without_edges([("b", "y")])

    def test_adding_an_edge_that_exists_is_an_error(self):
        graph = Graph(indices(), NAMES)
        with pytest.raises(DataError, match="in the graph already, or are given twice: 'a' -> 'b'"):
            graph.with_edges([("a", "b")])
        with pytest.raises(DataError, match="given twice: 'a' -> 'c'"):
            graph.with_edges([("a", "c"), ("a", "c")])

    def test_signs_and_weights_of_added_edges(self):
        graph = Graph(indices(), NAMES, {FF: [3.0, 4.0], IF: [1.0], FO: [1.0]})
        larger = graph.with_edges([("a", "c", -1)], weight=0.5)
        assert larger.edge_weight_dict[FF].tolist() == [3.0, 4.0, 0.5]
        assert larger.edge_sign_dict[FF].tolist() == [0, 0, -1]
        assert graph.with_edges([("a", "c")]).edge_sign_dict is None
        assert graph.edge_sign_dict is None


class TestEquals:
    def test_differences_are_seen(self):
        graph = random_graph(6)
        index, names = graph.edge_index_dict, graph.node_names_dict
        weight, sign = graph.edge_weight_dict, graph.edge_sign_dict
        flipped = {k: v.flip(-1) for k, v in index.items()}
        args = (flipped, names, {k: v.flip(0) for k, v in weight.items()}, {k: v.flip(0) for k, v in sign.items()})
        assert Graph(*args).equals(graph)
        assert not Graph(index, names, weight, None).equals(graph)
        assert not Graph(index, names, None, sign).equals(graph)
        assert not Graph(index, names, {**weight, FF: -weight[FF]}, sign).equals(graph)
        assert not Graph(index, {**names, "function": names["function"][::-1]}, weight, sign).equals(graph)
        assert not graph.without_edges(graph.function_edges[:1]).equals(graph)


class TestReports:
    def test_each(self):
        names = {"input": ["x", "idle"], "function": ["a", "b", "orphan", "end"], "output": ["y", "y2", "none"]}
        graph = Graph.from_edges(
            [("x", "a"), ("a", "b"), ("b", "a"), ("orphan", "y2"), ("a", "end"), ("b", "y"), ("b", "b")],
            input_nodes=names["input"],
            function_nodes=names["function"],
            output_nodes=names["output"],
        )
        assert graph.unused_inputs == ["idle"]
        assert graph.unreached_functions == ["orphan"]
        assert graph.dead_end_functions == ["end"]
        assert graph.unfed_outputs == ["none"]
        assert graph.unreached_outputs == ["y2"]
        assert graph.self_edges == ["b"]
        summary = graph.summary()
        assert len(summary.warnings) == 6
        assert (summary.n_inputs, summary.n_functions, summary.n_outputs) == (2, 4, 3)
        assert summary.n_edges["function -> function"] == 4
        assert summary.n_cyclic == 2
        assert "warning: 1 output that nobody feeds" in str(summary)
        assert "2 inputs, 4 functions, 3 outputs" in str(summary)

    def test_signs_are_counted(self):
        graph = Graph.from_edges(
            [("x", "a", 1), ("a", "y", -1), ("a", "y2")],
            input_nodes=["x"],
            function_nodes=["a"],
            output_nodes=["y", "y2"],
        )
        assert graph.summary().n_signs == {"activating": 1, "inhibiting": 1, "unknown": 1}
        assert "1 inhibiting" in str(graph.summary())

    @pytest.mark.parametrize("seed", range(5))
    def test_reachability_against_networkx(self, seed):
        graph = random_graph(seed, n=40)
        G = graph.to_networkx()
        down = set().union(*(nx.descendants(G, x) for x in graph.inputs))
        up = set().union(*(nx.ancestors(G, y) for y in graph.outputs))
        assert graph.unreached_functions == [f for f in graph.functions if f not in down]
        assert graph.dead_end_functions == [f for f in graph.functions if f not in up]
        assert graph.unfed_outputs == [y for y in graph.outputs if G.in_degree(y) == 0]
        assert graph.unreached_outputs == [y for y in graph.outputs if G.in_degree(y) and y not in down]
        cyclic = {f for part in nx.strongly_connected_components(G) if len(part) > 1 for f in part}
        assert graph.summary().n_cyclic == len(cyclic | set(nx.nodes_with_selfloops(G)))


def test_large_graph_is_fast():
    n, n_edges = 100_000, 400_000
    rng = np.random.default_rng(0)
    names = {"input": ["x"], "function": [f"f{i}" for i in range(n)], "output": ["y"]}
    index = {FF: rng.integers(0, n, (2, n_edges)), IF: [[0], [0]], FO: [[n - 1], [0]]}
    start = time.perf_counter()
    graph = Graph(index, names)
    graph.summary()
    assert time.perf_counter() - start < 5.0  # about 0.3 s; far below anything quadratic
