"""What a notebook shows of graphs, models and tables."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from gsnn.discovery.methods import METHODS
from gsnn.graph import Graph
from gsnn.nn import GSNN
from gsnn.runs.infer import edge_table


def graph(name="b"):
    edges = [("x", "a", 1), ("a", name, -1), (name, "y", 0)]
    return Graph.from_edges(edges, input_nodes=["x"], function_nodes=["a", name, "lost"], output_nodes=["y"])


def test_graph_and_its_summary_look_alike_and_are_escaped():
    shown = graph()
    text = shown._repr_html_()
    assert text == shown.summary()._repr_html_()
    assert "1 inputs, 3 functions, 1 outputs" in text
    assert "<li>1 function that no input reaches: lost</li>" in text
    lonely = Graph.from_edges(
        [("x", "a"), ("a", "y")], input_nodes=["x"], function_nodes=["a", "<i>"], output_nodes=["y"]
    )
    assert "&lt;i&gt;" in lonely._repr_html_()
    assert "<i>" not in lonely._repr_html_()


def test_the_summary_of_a_model_keeps_its_lines():
    text = GSNN.from_graph(graph(), 2, 2).summary()
    assert isinstance(text, str)
    assert text._repr_html_() == f"<pre>{text.replace('>', '&gt;')}</pre>"
    formatters = pytest.importorskip("IPython.core.formatters")
    assert formatters.PlainTextFormatter()(text) == str(text)
    assert formatters.HTMLFormatter()(text) == text._repr_html_()


# Those that train again need a graph with more edges than this one.
@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.by_default])
def test_tables_of_edges_have_the_types_they_show(method):
    x = torch.linspace(-1, 1, 20)[:, None]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = GSNN.from_graph(graph(), 2, 3)
    inferer = METHODS[method].make(model, graph())
    inferer.fit([(x, x**2)], verbose=False)
    table = inferer.evaluate(**METHODS[method].options)
    assert isinstance(table["src_func"].dtype, pd.CategoricalDtype)
    assert table["has_edge"].dtype == bool
    edges = edge_table(table, inferer.score_name, known=True)
    assert str(edges["rank"].dtype) == "Int64", "ranks are whole numbers, missing for known edges"
    assert {str(edges[c].dtype) for c in ("score", "p", "q")} == {"float64"}
    shown = edges._repr_html_()
    assert "&lt;NA&gt;" in shown, "a known edge has no rank, which is not a rank of 0"
    assert "1.0</td>" not in edges[["source", "target", "rank"]]._repr_html_()


def test_tables_go_through_pandas_and_back():
    edges, nodes = graph().to_pandas()
    assert Graph.from_pandas(edges, nodes).equals(graph())
