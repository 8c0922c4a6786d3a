"""What the properties are tried on: hostile names, odd graphs, scores with ties and gaps.

By default each property meets the same few examples every time; ``GSNN_EXAMPLES=1000`` tries as many new ones.
"""

from __future__ import annotations

import os

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gsnn.graph import Graph

_GIVEN = os.environ.get("GSNN_EXAMPLES")


def examples(share: float = 1.0):
    """The decorator of a property; one that costs more takes a share of the usual number of examples."""
    return settings(
        max_examples=max(2, round(share * int(_GIVEN or 15))),
        deadline=None,
        database=None,
        derandomize=_GIVEN is None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
    )


HOSTILE = (
    "NA", "nan", " ", "0", "007", "1e5", "-1", "True", "=1+1", "@x", "a,b", 'a"b', "a\tb", "it's", "<b>&amp;", "#c",
    "../up", "naïve ∂", "Ünï", "e\u0301", "中", "\u202eabc", "😀", "__class__", "{0}", "%s", "\\n", "a|b", "a;b",
    "None", "\n", "\x00",
)  # fmt: skip
# What every text format can hold: no line breaks, no control characters, no blanks at the ends.
printable = st.one_of(
    st.sampled_from([name for name in HOSTILE if name.strip() and name.isprintable() and name[0] != "#"]),
    st.text(
        st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp", "Zs", "Cf"], exclude_characters="\ufffe\uffff#"),
        min_size=1,
        max_size=6,
    ),
)
names = st.one_of(st.sampled_from(HOSTILE), st.text(min_size=1, max_size=6))


@st.composite
def graphs(draw, max_functions: int = 9, signed: bool | None = None, node_names=names, loops: bool = True):
    """Cycles, self-edges, isolated nodes, repeated edges, functions out of reach and input or output edges at will."""
    n_in, n, n_out = draw(st.integers(1, 3)), draw(st.integers(1, max_functions)), draw(st.integers(1, 3))
    size = n_in + n + n_out
    called = draw(st.lists(node_names, min_size=size, max_size=size, unique=True))
    inputs, functions, outputs = called[:n_in], called[n_in : n_in + n], called[n_in + n :]

    def pairs(sources, targets, least=0):
        one = st.tuples(st.sampled_from(sources), st.sampled_from(targets))
        return draw(st.lists(one, min_size=least, max_size=3 * n))

    inner = [edge for edge in pairs(functions, functions) if loops or edge[0] != edge[1]]
    edges = pairs(inputs, functions) + inner + pairs(functions, outputs, least=1)
    if draw(st.booleans()) if signed is None else signed:
        signs = draw(st.lists(st.sampled_from([-1, 0, 1]), min_size=len(edges), max_size=len(edges)))
        edges = [(*edge, sign) for edge, sign in zip(edges, signs, strict=True)]
    return Graph.from_edges(edges, input_nodes=inputs, function_nodes=functions, output_nodes=outputs)


@st.composite
def dense_graphs(draw, max_functions: int = 7):
    """Graphs that a model learns on: every input and every output has an edge."""
    graph = draw(graphs(max_functions, signed=False, node_names=st.text("abcdef", min_size=3, max_size=6)))
    ends = st.sampled_from(graph.functions)
    edges = [(name, draw(ends)) for name in graph.inputs] + [(draw(ends), name) for name in graph.outputs]
    return Graph.from_edges(
        [*graph.function_edges, *edges],
        input_nodes=graph.inputs,
        function_nodes=graph.functions,
        output_nodes=graph.outputs,
    )


finite = st.floats(-1e6, 1e6, allow_subnormal=False)
tied = st.one_of(finite, st.sampled_from([0.0, -0.0, 1.0, -1.0]))
with_gaps = st.one_of(tied, st.just(float("nan")))


@st.composite
def ranked(draw, elements=with_gaps, least: int = 1):
    """Scores and labels of as many candidates."""
    size = draw(st.integers(least, 40))
    scores = draw(hnp.arrays(np.float64, size, elements=elements))
    return scores, draw(hnp.arrays(bool, size))


@st.composite
def split_points(draw, size: int):
    """Slices that cut ``size`` rows into parts, empty ones among them."""
    cuts = sorted(draw(st.lists(st.integers(0, size), max_size=4)))
    return [slice(a, b) for a, b in zip([0, *cuts], [*cuts, size], strict=True)]


seeds = st.integers(0, 2**32 - 1)
