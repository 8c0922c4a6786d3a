"""Small graphs, models and data for the inferers, and slow obvious oracles."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from gsnn.graph import Graph
from gsnn.nn import GSNN

FUNCTIONS = ["a", "b", "c", "d", "e", "lone", "sink", "dark"]


def small_graph() -> Graph:
    """Cycle, self-loop, an isolated node, a dead end, and a node no input reaches."""
    edges = [
        ("x0", "a"), ("x1", "b"), ("x2", "c"),
        ("a", "c"), ("b", "c"), ("c", "d"), ("d", "a"), ("b", "d"), ("d", "e"), ("e", "e"),
        ("a", "sink"), ("dark", "e"),
        ("d", "y0"), ("e", "y1"), ("c", "y1"),
    ]  # fmt: skip
    return Graph.from_edges(edges, input_nodes=["x0", "x1", "x2"], function_nodes=FUNCTIONS, output_nodes=["y0", "y1"])


def gsnn(graph: Graph | None = None, *, dtype: torch.dtype = torch.float64, seed: int = 0, **options) -> GSNN:
    """A model with seeded weights, and norms that have seen data."""
    options = {"channels": 3, "layers": 4, "norm": "none", "share_layers": False, "dropout": 0.3} | options
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GSNN.from_graph(graph or small_graph(), **options).to(dtype)
        model.train()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim:
                    parameter += 0.05 * torch.randn(parameter.shape, dtype=dtype)
        x, _ = samples(32, dtype=dtype, seed=seed)
        model(x)
    return model


def samples(n: int, *, dtype: torch.dtype = torch.float64, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed + 100)
    x = torch.randn(n, 3, generator=generator, dtype=torch.float64)
    noise = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    y = torch.stack([x[:, 0] * x[:, 1], x.sum(1)], 1) + 0.3 * noise
    return x.to(dtype), y.to(dtype)


def batches(x: torch.Tensor, y: torch.Tensor, size: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return list(zip(x.split(size), y.split(size), strict=True))


class Tiny(nn.Module):
    """A dense model with the taps of a GSNN, whose nodes can be permuted by indexing."""

    def __init__(self, n: int = 6, channels: int = 2, layers: int = 4, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.N, self.I, self.O, self.L, self.C = n, 3, 2, layers, channels
        self.norm = "none"
        self.function_nodes = [f"n{i}" for i in range(n)]
        self.register_buffer("channel_node", torch.arange(n).repeat_interleave(channels))
        size = n * channels

        def draw(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(*shape, generator=generator, dtype=torch.float64) / 2)

        self.w_in, self.w, self.w_out = draw(layers, size, 3), draw(layers, size, size), draw(2, size)

    def forward_with_taps(self, x, *, pre=None, post=None, detach_parameters=False):
        w_in, w, w_out = (p.detach() if detach_parameters else p for p in (self.w_in, self.w, self.w_out))
        state = torch.zeros(self.N * self.C, len(x), dtype=x.dtype)
        for layer in range(self.L):
            z = w_in[layer] @ x.T + w[layer] @ state
            z = z if pre is None else pre(layer, z)
            state = torch.tanh(z)
            state = state if post is None else post(layer, state)
        return (w_out @ state).T

    def forward(self, x):
        return self.forward_with_taps(x)

    def permuted(self, order: list[int]) -> Tiny:
        """The same function with node k of the new model being node order[k] of this one."""
        other = Tiny(self.N, self.C, self.L)
        channels = (torch.tensor(order)[:, None] * self.C + torch.arange(self.C)).ravel()
        other.w_in.data = self.w_in.data[:, channels]
        other.w.data = self.w.data[:, channels][:, :, channels]
        other.w_out.data = self.w_out.data[:, channels]
        other.function_nodes = [self.function_nodes[k] for k in order]
        return other


def tiny_data(model: Tiny, edges: list[tuple[str, str]]) -> SimpleNamespace:
    """HeteroData-like, without being one of ours."""
    position = {name: i for i, name in enumerate(model.function_nodes)}
    index = torch.tensor([[position[a] for a, _ in edges], [position[b] for _, b in edges]], dtype=torch.int64)
    return SimpleNamespace(
        edge_index_dict={("function", "to", "function"): index.reshape(2, -1)},
        node_names_dict={"input": ["x0", "x1", "x2"], "function": model.function_nodes, "output": ["y0", "y1"]},
    )


def naive_magnitudes(model: GSNN, x, y, reduction: str = "l1", tap: str = "pre_tap"):
    """Sample by sample with ordinary hooks: (P, N, B) activation and gradient magnitudes."""
    model.eval()
    found = []
    for b in range(len(x)):
        kept: list[torch.Tensor] = []

        def keep(_module, _inputs, output, kept=kept):
            output.retain_grad()
            kept.append(output)

        handles = [getattr(block, tap).register_forward_hook(keep) for block in model.blocks]
        try:
            # Frozen models and inputs without gradient would leave the hooks nothing to read.
            loss = ((model(x[b : b + 1].clone().requires_grad_()) - y[b : b + 1]) ** 2).mean()
            loss.backward()
        finally:
            for handle in handles:
                handle.remove()
        per_layer = []
        for tensor in kept:
            sides = []
            for values in (tensor.detach(), torch.zeros_like(tensor) if tensor.grad is None else tensor.grad):
                nodes = values.reshape(model.N, -1).numpy()
                sides.append(np.abs(nodes).sum(1) if reduction == "l1" else np.sqrt((nodes**2).sum(1)))
            per_layer.append(sides)
        found.append(per_layer)
    model.zero_grad(set_to_none=True)
    values = np.array(found, dtype=np.float64)  # (B, L, 2, N)
    return values[:, :-1, 0].transpose(1, 2, 0), values[:, 1:, 1].transpose(1, 2, 0)


def constant(values: np.ndarray) -> bool:
    return bool(values.std() <= 1e-13 * abs(values.mean()))


def naive_corr(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(P, N, N) by one np.corrcoef per pair."""
    p, n, _ = a.shape
    r = np.full((p, n, n), np.nan)
    for layer in range(p):
        for i in range(n):
            for j in range(n):
                if not constant(a[layer, i]) and not constant(b[layer, j]):
                    r[layer, i, j] = np.corrcoef(a[layer, i], b[layer, j])[0, 1]
    return r


def naive_partial(a: np.ndarray, b: np.ndarray, parents: list[list[int]]) -> np.ndarray:
    """(P, N, N) by regressing the parents out of both sides."""
    p, n, m = a.shape
    r = np.full((p, n, n), np.nan)
    for layer in range(p):
        for j in range(n):
            design = np.column_stack([np.ones(m), *(a[layer, s] for s in parents[j])])
            rest_y = b[layer, j] - design @ np.linalg.lstsq(design, b[layer, j], rcond=None)[0]
            for i in range(n):
                if i == j or i in parents[j] or constant(a[layer, i]) or constant(b[layer, j]):
                    continue
                rest_x = a[layer, i] - design @ np.linalg.lstsq(design, a[layer, i], rcond=None)[0]
                if rest_x.std() > 1e-7 * a[layer, i].std() and rest_y.std() > 1e-7 * b[layer, j].std():
                    r[layer, i, j] = np.corrcoef(rest_x, rest_y)[0, 1]
    return r
