"""Kernels of the two sparse maps of a block: edges to channels of their target, channels of their source to edges.

Both maps have one nonzero per (edge, channel of the edge's function). The weights ``values`` (nnz,) stand edge-major
(edges in homogeneous order), channel-minor, and the dense operands have the batch last. The three products here are
plain computations without gradients; ``gsnn.nn.maps`` makes them differentiable, each by means of the other two.

On a CPU the two maps are weighted embedding bags, which gather, multiply and add in one pass, and the product for the
weights is a few batched dense products, one for each group of functions of similar degree. On other devices they are
CSR products. Each was chosen by measurement, see ``benchmarks/README.md``.
"""

from __future__ import annotations

import functools
import warnings

import torch
from torch import Tensor

from gsnn.nn.handles import HandledModule

FEW_VALUES = 8192
"""Up to so many weights, one call that is slow per weight is faster than a series of dense products."""

GROUP_COST = 600
"""The cost of one more batched product in padded rows: few groups against little padding."""


class EdgeChannelPattern(HandledModule):
    """Where the nonzeros are: edge ``e`` meets every channel of ``edge_function[e]``, or none if that is -1.

    Args:
        edge_function: int64 (E,), the function each edge belongs to, -1 for an edge that is not in the map.
        channels: int64 (N,), the number of channels of each function; a function's channels are contiguous.
    """

    crow: Tensor
    col: Tensor
    crow_t: Tensor
    col_t: Tensor
    order_t: Tensor
    group_edges: Tensor
    group_functions: Tensor
    group_place: Tensor
    edge_of_value: Tensor

    def __init__(self, edge_function: Tensor, channels: Tensor) -> None:
        super().__init__()
        member = edge_function >= 0
        width = torch.where(member, channels[edge_function.clamp(min=0)], 0)
        start = torch.cumsum(channels, 0) - channels
        crow = _pointer(width)
        edge = torch.repeat_interleave(width)
        within = torch.arange(edge.numel()) - crow[edge]
        col = start[edge_function[edge]] + within
        order = torch.argsort(col, stable=True)
        self.n_edges = int(edge_function.numel())
        self.n_channels = int(channels.sum())
        self.nnz = int(edge.numel())
        crow_t = _pointer(torch.bincount(col, minlength=self.n_channels))
        # int32 halves the index traffic, and the vendor libraries take it without a copy.
        for name, value in (("crow", crow), ("col", col), ("crow_t", crow_t), ("col_t", edge[order])):
            self.register_buffer(name, value.to(torch.int32), persistent=False)
        self.register_buffer("order_t", order, persistent=False)
        # The channels of every function, 0 if functions differ; (functions, padded degree) of each group.
        self.width = int(channels[0]) if channels.numel() and bool((channels == channels[0]).all()) else 0
        self.groups: list[tuple[int, int]] = []
        if self.width and self.nnz > FEW_VALUES:
            self._group(edge_function)
        else:
            self.register_buffer("edge_of_value", edge.to(torch.int32), persistent=False)

    def _group(self, edge_function: Tensor) -> None:
        """Put functions of similar degree side by side, padded to the largest degree of their group.

        A padded place repeats an edge of the same function; its products are never read.
        """
        edges = torch.nonzero(edge_function >= 0).flatten()
        function = edge_function[edges]
        degree = torch.bincount(function)
        functions = torch.argsort(degree, stable=True)[int((degree == 0).sum()) :]
        counts = degree[functions]
        levels = _levels(counts)
        height = levels[torch.bucketize(counts, levels)]
        self.groups = [(int((height == level).sum()), int(level)) for level in levels]
        row = torch.repeat_interleave(height)
        within = torch.arange(row.numel()) - (torch.cumsum(height, 0) - height)[row]
        by_function = edges[torch.argsort(function, stable=True)]
        first = (torch.cumsum(degree, 0) - degree)[functions]
        gathered = by_function[first[row] + torch.minimum(within, counts[row] - 1)]
        real = within < counts[row]
        place = torch.empty(self.n_edges, dtype=torch.int64)
        place[gathered[real]] = torch.nonzero(real).flatten()
        for name, value in (("edges", gathered), ("functions", functions), ("place", place[edges])):
            self.register_buffer(f"group_{name}", value.to(torch.int32), persistent=False)

    def to_channels(self, values: Tensor, x: Tensor) -> Tensor:
        """z[c, b] = sum over edges e of values[e, c] x[e, b]: (nnz,), (E, B) -> (N*C, B)."""
        return _product(self.crow_t, self.col_t, values.index_select(0, self.order_t), self.n_channels, x)

    def to_edges(self, values: Tensor, h: Tensor) -> Tensor:
        """y[e, b] = sum over channels c of values[e, c] h[c, b]: (nnz,), (N*C, B) -> (E, B)."""
        return _product(self.crow, self.col, values, self.n_edges, h)

    def sampled(self, x: Tensor, h: Tensor) -> Tensor:
        """v[e, c] = sum over the batch b of x[e, b] h[c, b]: (E, B), (N*C, B) -> (nnz,)."""
        batch, width = x.shape[1], self.width
        if self.nnz == 0 or batch == 0:
            return x.new_zeros(self.nnz)
        x, h = x.detach().contiguous(), h.detach().contiguous()
        if not _on_cpu(x):
            pattern = _csr(self.crow, self.col, x.new_zeros(self.nnz), self.n_edges, self.n_channels)
            return torch.sparse.sampled_addmm(pattern, x, h.t(), beta=0.0).values()
        if not self.groups:
            # The derivative of an embedding bag by its weights: one dot product over the batch for each value.
            derivative = torch.ops.aten._embedding_bag_per_sample_weights_backward
            return derivative(x, h, self.col, self.crow, self.edge_of_value, 0)
        # One group at a time, through buffers that stay in the cache.
        rows = max(count * degree for count, degree in self.groups)
        functions = max(count for count, _ in self.groups)
        lefts, rights = x.new_empty(rows, batch), x.new_empty(functions, width * batch)
        h = h.view(-1, width * batch)
        out = x.new_empty(self.group_edges.numel(), width)
        row = function = 0
        for count, degree in self.groups:
            size = count * degree
            left, right = lefts[:size], rights[:count]
            torch.index_select(x, 0, self.group_edges[row : row + size], out=left)
            torch.index_select(h, 0, self.group_functions[function : function + count], out=right)
            torch.bmm(
                left.view(count, degree, batch),
                right.view(count, width, batch).transpose(1, 2),
                out=out[row : row + size].view(count, degree, width),
            )
            row, function = row + size, function + count
        return out.index_select(0, self.group_place).view(-1)

    def positions(self) -> tuple[Tensor, Tensor]:
        """int64 (nnz,) edge and channel of each value, in the order of the values, on the CPU."""
        edge = torch.repeat_interleave(self.crow.cpu().diff().long())
        return edge, self.col.cpu().long()

    def extra_repr(self) -> str:
        """Sizes for ``repr``."""
        return f"edges={self.n_edges}, channels={self.n_channels}, nnz={self.nnz}"


def _on_cpu(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu"


def _product(crow: Tensor, col: Tensor, values: Tensor, n_rows: int, dense: Tensor) -> Tensor:
    if values.numel() == 0 or dense.shape[1] == 0:
        return dense.new_zeros(n_rows, dense.shape[1])
    # Detached, because an embedding bag that may be differentiated prepares for it at every call.
    values, dense = values.detach(), dense.detach().contiguous()
    if _on_cpu(dense):
        return torch.embedding_bag(dense, col, crow, False, 0, False, values, True)[0]
    return _csr(crow, col, values, n_rows, dense.shape[0]) @ dense


def _levels(counts: Tensor) -> Tensor:
    """The degrees to pad to, ascending, with the least cost in padded rows and groups; ``counts`` ascend from 1."""
    degrees, repeats = torch.unique_consecutive(counts, return_counts=True)
    upto = torch.cat([repeats.new_zeros(1), torch.cumsum(repeats, 0)])
    # best[k]: the least cost of the k smallest degrees; split[k]: how many of them are before their last group.
    best, split = torch.zeros(2, degrees.numel() + 1, dtype=torch.int64)
    for end in range(1, degrees.numel() + 1):
        costs = best[:end] + degrees[end - 1] * (upto[end] - upto[:end])
        split[end] = torch.argmin(costs)
        best[end] = costs[split[end]] + GROUP_COST
    chosen, end = [], degrees.numel()
    while end:
        chosen.append(int(degrees[end - 1]))
        end = int(split[end])
    return torch.tensor(chosen[::-1], dtype=torch.int64)


def _csr(crow: Tensor, col: Tensor, values: Tensor, n_rows: int, n_cols: int) -> Tensor:
    _hear_beta_warning_once()
    return torch.sparse_csr_tensor(crow, col, values, size=(n_rows, n_cols), check_invariants=False)


@functools.cache
def _hear_beta_warning_once() -> None:
    """Torch warns once per process that CSR tensors are new; users of this library need not see it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        zero = torch.zeros(2, dtype=torch.int32)
        torch.sparse_csr_tensor(zero, zero[:0], torch.zeros(0), size=(1, 1), check_invariants=False)


def _pointer(counts: Tensor) -> Tensor:
    return torch.cat([counts.new_zeros(1), torch.cumsum(counts, 0)])
