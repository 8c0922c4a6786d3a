"""The sparse products in every size, grouping, dtype and mode of differentiation, against dense matrices."""

from __future__ import annotations

import inspect
import itertools

import pytest
import torch

from gsnn.nn import maps as maps_module
from gsnn.nn import sparse as sparse_module
from gsnn.nn.maps import sampled, to_channels, to_edges
from gsnn.nn.sparse import FEW_VALUES, EdgeChannelPattern, _csr, _levels, _product

NODES, COUNTS = [0, 2, 1, -1, 0, 3, 3], [1, 2, 4, 3]
OPERATORS = {
    "to_channels": (to_channels, "vx"),
    "to_edges": (to_edges, "vh"),
    "sampled": (sampled, "xh"),
}


def nonzeros(nodes, counts):
    starts = [sum(counts[:k]) for k in range(len(counts))]
    return [(e, starts[n] + c) for e, n in enumerate(nodes) if n >= 0 for c in range(counts[n])]


def make(nodes=NODES, counts=COUNTS, batch=3, dtype=torch.float64, seed=0):
    pattern = EdgeChannelPattern(torch.tensor(nodes), torch.tensor(counts))
    where = nonzeros(nodes, counts)
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    operands = {"v": draw(len(where)), "x": draw(len(nodes), batch), "h": draw(sum(counts), batch)}
    return pattern, where, operands


def dense(where, operands):
    """What each product is, by the dense matrix of the map."""
    v, x, h = operands["v"], operands["x"], operands["h"]
    matrix = v.new_zeros(len(x), len(h))
    for (e, c), value in zip(where, v, strict=True):
        matrix[e, c] = value
    full = x @ h.T
    picked = torch.stack([full[e, c] for e, c in where]) if where else x.new_zeros(0)
    return {"to_channels": matrix.T @ x, "to_edges": matrix @ h, "sampled": picked}


def random_pattern(seed, functions, width, edges):
    generator = torch.Generator().manual_seed(seed)
    nodes = (torch.rand(edges, generator=generator) ** 2 * functions).long()
    nodes[torch.rand(edges, generator=generator) < 0.2] = -1
    return nodes.tolist(), [width] * functions


class TestPattern:
    def test_sizes_and_buffers(self):
        pattern, where, _ = make()
        assert (pattern.n_edges, pattern.n_channels, pattern.nnz) == (7, 10, len(where))
        assert (pattern.width, pattern.groups) == (0, [])
        assert repr(pattern) == f"EdgeChannelPattern(edges=7, channels=10, nnz={len(where)})"
        assert not pattern.state_dict()
        for name in ("crow", "col", "crow_t", "col_t", "edge_of_value"):
            assert getattr(pattern, name).dtype == torch.int32
        edge, channel = pattern.positions()
        assert edge.dtype == channel.dtype == torch.int64
        assert list(zip(edge.tolist(), channel.tolist(), strict=True)) == where
        assert pattern.edge_of_value.tolist() == [e for e, _ in where]

    def test_rows_and_columns_of_both_orientations(self):
        pattern, where, _ = make()
        for e in range(7):
            assert pattern.col[pattern.crow[e] : pattern.crow[e + 1]].tolist() == [c for edge, c in where if edge == e]
        for c in range(10):
            edges = pattern.col_t[pattern.crow_t[c] : pattern.crow_t[c + 1]].tolist()
            assert edges == [e for e, channel in where if channel == c]

    @pytest.mark.parametrize(
        ("counts", "width"), [([3, 3, 3, 3], 3), ([3, 3, 3, 2], 0), ([2, 3, 3, 3], 0), ([1] * 4, 1), ([], 0)]
    )
    def test_width_is_that_of_all_functions(self, counts, width):
        nodes = torch.tensor(NODES if counts else [], dtype=torch.int64)
        assert EdgeChannelPattern(nodes, torch.tensor(counts, dtype=torch.int64)).width == width

    def test_groups_only_above_the_limit(self, monkeypatch):
        nodes, counts = [0, 1, 1, 1], [2, 2]
        monkeypatch.setattr(sparse_module, "FEW_VALUES", 8)
        assert make(nodes, counts)[0].groups == []
        monkeypatch.setattr(sparse_module, "FEW_VALUES", 7)
        assert make(nodes, counts)[0].groups == [(2, 3)]
        # Functions of unequal width cannot be put side by side.
        assert make(nodes, [1, 3])[0].groups == []


class TestLevels:
    @pytest.mark.parametrize("cost", [0, 1, 5, 40])
    @pytest.mark.parametrize("seed", range(4))
    def test_no_other_choice_costs_less(self, seed, cost, monkeypatch):
        monkeypatch.setattr(sparse_module, "GROUP_COST", cost)
        generator = torch.Generator().manual_seed(seed)
        counts = torch.randint(1, 12, (15,), generator=generator).sort().values

        def price(levels):
            rows = sum(min(level for level in levels if level >= count) for count in counts.tolist())
            return rows + cost * len(levels)

        distinct = sorted(set(counts.tolist()))
        choices = [
            [*some, distinct[-1]] for n in range(len(distinct)) for some in itertools.combinations(distinct[:-1], n)
        ]
        found = _levels(counts)
        assert found.dtype == torch.int64
        assert found.tolist() == sorted(set(found.tolist()))
        assert price(found.tolist()) == min(map(price, choices))


class TestGroups:
    """The dense products that large maps take, forced upon small ones."""

    @pytest.mark.parametrize("cost", [0, 3, 10_000])
    @pytest.mark.parametrize(("functions", "width", "edges"), [(1, 2, 1), (6, 3, 40), (9, 1, 60), (25, 4, 30)])
    def test_products_towards_the_weights(self, functions, width, edges, cost, monkeypatch):
        monkeypatch.setattr(sparse_module, "FEW_VALUES", 0)
        monkeypatch.setattr(sparse_module, "GROUP_COST", cost)
        nodes, counts = random_pattern(functions, functions, width, edges)
        pattern, where, operands = make(nodes, counts)
        if not where:
            nodes[0] = 0
            pattern, where, operands = make(nodes, counts)
        found = pattern.sampled(operands["x"], operands["h"])
        torch.testing.assert_close(found, dense(where, operands)["sampled"])
        assert found.shape == (pattern.nnz,)

    @pytest.mark.parametrize("cost", [0, 3, 10_000])
    def test_groups_hold_every_function_with_edges(self, cost, monkeypatch):
        monkeypatch.setattr(sparse_module, "FEW_VALUES", 0)
        monkeypatch.setattr(sparse_module, "GROUP_COST", cost)
        nodes, counts = random_pattern(3, 9, 2, 60)
        pattern, _, _ = make(nodes, counts)
        degree = [nodes.count(n) for n in range(9)]
        assert sorted(pattern.group_functions.tolist()) == [n for n in range(9) if degree[n]]
        assert sum(count for count, _ in pattern.groups) == sum(d > 0 for d in degree)
        levels = [level for _, level in pattern.groups]
        assert levels == sorted(set(levels))
        assert levels[-1] == max(degree)
        if cost == 0:  # no padding at all
            assert pattern.group_edges.numel() == sum(degree)
        if cost == 10_000:
            assert pattern.groups == [(sum(d > 0 for d in degree), max(degree))]
        row = place = 0
        for count, level in pattern.groups:
            for function in pattern.group_functions[place : place + count].tolist():
                edges = pattern.group_edges[row : row + level].tolist()
                assert set(edges) == {e for e, n in enumerate(nodes) if n == function}
                assert degree[function] <= level
                row += level
            place += count
        assert {pattern.group_edges.dtype, pattern.group_functions.dtype, pattern.group_place.dtype} == {torch.int32}
        assert not pattern.state_dict()

    def test_state_in_strides_and_with_a_graph(self, monkeypatch):
        for few in (0, FEW_VALUES):
            monkeypatch.setattr(sparse_module, "FEW_VALUES", few)
            nodes, counts = random_pattern(5, 6, 3, 40)
            pattern, where, operands = make(nodes, counts)
            strided = {name: value.t().contiguous().t().requires_grad_() for name, value in operands.items()}
            found = pattern.sampled(strided["x"], strided["h"])
            torch.testing.assert_close(found, dense(where, operands)["sampled"])
            assert not found.requires_grad


class TestProducts:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("name", OPERATORS)
    def test_forward(self, name, dtype):
        pattern, where, operands = make(dtype=dtype)
        function, factors = OPERATORS[name]
        found = function(pattern, *(operands[f] for f in factors))
        torch.testing.assert_close(found, dense(where, operands)[name])
        assert found.dtype == dtype

    def test_rows_in_compressed_form(self):
        pattern, where, operands = make()
        want = dense(where, operands)["to_edges"]
        for _ in range(2):
            matrix = _csr(pattern.crow, pattern.col, operands["v"], 7, 10)
            assert matrix.shape == (7, 10)
            assert _csr(pattern.crow, pattern.col, operands["v"], 7, 12).shape == (7, 12)
            torch.testing.assert_close(matrix @ operands["h"], want)
        torch.testing.assert_close(_product(pattern.crow, pattern.col, operands["v"], 7, operands["h"]), want)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize(
        ("nodes", "counts"), [(NODES, COUNTS), ([0, 1, 1], [2, 2, 3]), ([1], [1, 1]), ([-1, -1], [2, 1])]
    )
    def test_products_of_other_devices(self, nodes, counts, dtype, monkeypatch):
        """The compressed rows that are multiplied where there are no embedding bags, here on the CPU."""
        monkeypatch.setattr(sparse_module, "_on_cpu", lambda _: False)
        pattern, where, operands = make(nodes, counts, dtype=dtype)
        want = dense(where, operands)
        for name, (function, factors) in OPERATORS.items():
            found = function(pattern, *(operands[f] for f in factors))
            torch.testing.assert_close(found, want[name])
            assert found.dtype == dtype

    def test_device_decides(self):
        assert sparse_module._on_cpu(torch.zeros(1))
        assert not sparse_module._on_cpu(torch.zeros(1, device="meta"))

    @pytest.mark.parametrize("batch", [0, 1])
    @pytest.mark.parametrize("nodes", [[-1, -1, -1], [0, 1, 1], [1, -1, -1]])
    def test_nothing_to_multiply(self, nodes, batch):
        for dtype in (torch.float32, torch.float64):
            pattern, where, operands = make(nodes, [2, 1], batch=batch, dtype=dtype)
            want = dense(where, operands)
            for name, (function, factors) in OPERATORS.items():
                found = function(pattern, *(operands[f] for f in factors))
                torch.testing.assert_close(found, want[name])
                assert found.dtype == dtype

    @pytest.mark.parametrize("name", ["to_channels", "to_edges"])
    def test_result_has_the_dtype_of_the_weights(self, name, monkeypatch):
        pattern, where, operands = make()
        function, (_, factor) = OPERATORS[name]
        want = dense(where, operands)[name]
        for compiling in (False, True):
            monkeypatch.setattr(torch.compiler, "is_compiling", lambda compiling=compiling: compiling)
            found = function(pattern, operands["v"], operands[factor].float())
            assert found.dtype == torch.float64
            torch.testing.assert_close(found, want, rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("name", OPERATORS)
    def test_autocast_does_not_reach_them(self, name):
        pattern, where, operands = make(dtype=torch.float32)
        function, factors = OPERATORS[name]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = function(pattern, *(operands[f] for f in factors))
            assert torch.is_autocast_enabled("cpu")
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, dense(where, operands)[name])

    def test_precision_inside_a_product_under_autocast(self):
        seen = []

        def product(first, second):
            seen.append(torch.is_autocast_enabled("cpu"))
            return first @ second

        one = torch.eye(2)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert maps_module._full_precision(product, one, one).dtype == torch.float32
        maps_module._full_precision(product, one, one)
        assert seen == [False, False]


def asked(function, pattern, operands, factors, chosen):
    """The product with gradients of the chosen factors, and these."""
    leaves = {f: operands[f].clone().requires_grad_(f in chosen) for f in factors}
    return function(pattern, *leaves.values()), leaves


def recorder(product, name, called):
    return lambda *operands: called.append(name) or product(*operands)


@pytest.mark.parametrize("compiling", [False, True])
@pytest.mark.parametrize("name", OPERATORS)
class TestDerivatives:
    def test_gradients_are_those_of_the_dense_matrix(self, name, compiling, monkeypatch):
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiling)
        pattern, where, operands = make()
        function, factors = OPERATORS[name]
        for chosen in (factors, factors[0], factors[1]):
            found, leaves = asked(function, pattern, operands, factors, chosen)
            twins = {f: operands[f].clone().requires_grad_(f in chosen) for f in factors}
            want = dense(where, operands | twins)[name]
            weights = torch.linspace(-1, 2, want.numel(), dtype=want.dtype).view_as(want)
            mine = torch.autograd.grad(found, [leaves[f] for f in chosen], weights, create_graph=True)
            theirs = torch.autograd.grad(want, [twins[f] for f in chosen], weights, create_graph=True)
            torch.testing.assert_close(mine, theirs)
            if len(chosen) == 2:
                second = [
                    torch.autograd.grad(sum((g**2).sum() for g in gradients), list(of.values()))
                    for gradients, of in ((mine, leaves), (theirs, twins))
                ]
                torch.testing.assert_close(*second)

    def test_a_gradient_that_nobody_asked_for_costs_nothing(self, name, compiling, monkeypatch):
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiling)
        pattern, _, operands = make()
        function, factors = OPERATORS[name]
        product_for = {"v": "sampled", "x": "to_edges", "h": "to_channels"}
        for kept, left in (factors, factors[::-1]):
            found, leaves = asked(function, pattern, operands, factors, kept)
            called = []
            for product in OPERATORS:
                one = getattr(pattern, product)
                monkeypatch.setattr(pattern, product, recorder(one, product, called))
            found.sum().backward()
            monkeypatch.undo()
            monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiling)
            assert called == [product_for[kept]]
            assert leaves[kept].grad is not None
            assert leaves[left].grad is None

    def test_factors_are_kept_only_for_the_other_gradient(self, name, compiling, monkeypatch):
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiling)
        pattern, _, operands = make()
        function, factors = OPERATORS[name]
        for chosen in (factors, factors[0], factors[1]):
            kept = []
            with torch.autograd.graph.saved_tensors_hooks(lambda t, kept=kept: kept.append(t) or t, lambda t: t):
                asked(function, pattern, operands, factors, chosen)
            # The gradient of one factor is made with the other.
            want = [f for f in factors if chosen != f]
            assert len(kept) == len(want)
            for held, factor in zip(kept, want, strict=True):
                torch.testing.assert_close(held.detach(), operands[factor])


def test_second_order_is_recorded_only_if_asked_for():
    pattern, _, operands = make()
    found, leaves = asked(to_channels, pattern, operands, "vx", "vx")
    plain = torch.autograd.grad(found.sum(), list(leaves.values()), retain_graph=True)
    recorded = torch.autograd.grad(found.sum(), list(leaves.values()), create_graph=True)
    assert [g.requires_grad for g in plain] == [False, False]
    assert [g.requires_grad for g in recorded] == [True, True]
    torch.testing.assert_close(plain, tuple(g.detach() for g in recorded))


def test_signature_of_forward_is_remembered():
    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx, tensor, times=2):
            return tensor * times

    assert maps_module.remember_signature(Double) is Double
    assert Double.forward.__signature__ == inspect.signature(lambda ctx, tensor, times=2: None)
