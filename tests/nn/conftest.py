"""An oracle for the model: dense, batch first, float64, plain torch operations, loops over nodes and edges."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

FF, IF, FO = ("function", "to", "function"), ("input", "to", "function"), ("function", "to", "output")


def names(n, i, o):
    return {
        "function": [f"f{k}" for k in range(n)],
        "input": [f"in{k}" for k in range(i)],
        "output": [f"o{k}" for k in range(o)],
    }


def random_graph(seed, n=6, i=3, o=3, *, empty=()):
    """Cycles, a self-loop in the data, parallel edges, and an isolated function (the last) by construction."""
    g = torch.Generator().manual_seed(seed)

    def pairs(rows, cols, count):
        return torch.stack([torch.randint(rows, (count,), generator=g), torch.randint(cols, (count,), generator=g)])

    inner = torch.cat([pairs(n - 1, n - 1, 2 * n), torch.tensor([[0, 1, 2, 2, 2], [1, 0, 2, 3, 3]])], dim=1)
    edges = {
        FF: inner,
        IF: torch.cat([pairs(i, n - 1, i), torch.tensor([[0, 0], [1, 1]])], dim=1),
        FO: torch.cat([pairs(n - 1, o - 1, o), torch.tensor([[1, 1], [0, 0]])], dim=1),
    }
    for kind in empty:
        edges[kind] = torch.empty(2, 0, dtype=torch.long)
    return edges, names(n, i, o)


def homogeneous(edges, node_names, *, self_edges=True, copies=1):
    """The edges in homogeneous order as a list of (source, target) node numbers."""
    n, i = len(node_names["function"]), len(node_names["input"])
    out = []
    for s, t in edges.get(FF, torch.empty(2, 0)).T.tolist():
        out += [(int(s), int(t))] * copies
    out += [(n + int(s), int(t)) for s, t in edges.get(IF, torch.empty(2, 0)).T.tolist()]
    out += [(int(s), n + i + int(t)) for s, t in edges.get(FO, torch.empty(2, 0)).T.tolist()]
    return out + [(k, k) for k in range(n) if self_edges]


def nonzeros(pairs, counts, side):
    """(edge, channel) of each sparse weight, edge-major and channel-minor; side 0 = out of, 1 = into a function."""
    starts = [sum(counts[:k]) for k in range(len(counts))]
    ends = [(e, pair[side]) for e, pair in enumerate(pairs) if pair[side] < len(counts)]
    return [(e, starts[node] + c) for e, node in ends for c in range(counts[node])]


class Oracle:
    """The formulas of the model, one after the other."""

    def __init__(
        self,
        edges,
        node_names,
        channels,
        layers,
        *,
        norm="layer",
        share_layers=True,
        residual=True,
        norm_first=True,
        bias=True,
        self_edges=True,
        copies=1,
        node_mlp=False,
        node_attn=False,
        weights=None,
        training=True,
    ):
        self.names = node_names
        self.n, self.i, self.o = (len(node_names[k]) for k in ("function", "input", "output"))
        self.pairs = homogeneous(edges, node_names, self_edges=self_edges, copies=copies)
        self.counts = [channels] * self.n if isinstance(channels, int) else list(channels)
        self.layers, self.norm, self.share = layers, norm, share_layers
        self.residual, self.norm_first, self.bias = residual, norm_first, bias
        self.node_mlp, self.node_attn, self.weights, self.training = node_mlp, node_attn, weights, training
        self.copies, self.ff = copies, edges.get(FF, torch.empty(2, 0)).shape[1] * copies
        self.dense_in = nonzeros(self.pairs, self.counts, 1)
        self.dense_out = nonzeros(self.pairs, self.counts, 0)

    def matrix(self, values, where):
        """(E, channels)"""
        dense = torch.zeros(len(self.pairs), sum(self.counts), dtype=values.dtype)
        if not where:
            return dense
        e, c = torch.tensor(where).T
        return dense.index_put((e, c), values)

    def groups(self):
        start = 0
        for node, count in enumerate(self.counts):
            yield node, slice(start, start + count)
            start += count

    def batch_norm(self, x, p, key, eps):
        w, b = p[key + "weight"], p[key + "bias"]
        if self.training:
            mean, var = x.mean(0), ((x - x.mean(0)) ** 2).mean(0)
        else:
            mean, var = p[key + "running_mean"], p[key + "running_var"]
        return (x - mean) / (var + eps).sqrt() * w + b

    def ema(self, x, p, key, node=None):
        """Statistics of one column, or of the columns of one node."""
        mean, var = (p[key + s] if node is None else p[key + s][node] for s in ("running_mean", "running_var"))
        if self.training:
            d = x.detach()
            m, v = (d.mean(0), d.var(0, unbiased=False)) if node is None else (d.mean(), d.var(unbiased=False))
            mean, var = 0.9 * mean + 0.1 * m, 0.9 * var + 0.1 * v
        return (x - mean) / (var + 1e-5).sqrt()

    def normalise(self, x, p, key):
        kind = self.norm
        if kind in ("none", "edgebatch"):
            return x
        if kind in ("batch", "batch++"):
            return self.batch_norm(x, p, key, 1e-3)
        if kind == "channelema":
            return self.ema(x, p, key)
        parts = []
        for node, where in self.groups():
            z = x[:, where]
            c = z.shape[1]
            if kind == "layer":
                mean = z.sum(1, keepdim=True) / c
                square = ((z - mean) ** 2).sum(1, keepdim=True)
                flat = square <= 1e-28  # the derivative of the deviation at a constant row is taken as 0
                std = torch.where(flat, 0.0, torch.where(flat, 1.0, square / max(c - 1, 1)).sqrt())
                parts.append((z - mean) / (std + 0.1) * p[key + "gamma"][node] + p[key + "beta"][node])
            elif kind == "groupbatch":
                if self.training:
                    mean = z.mean()
                    var = ((z - mean) ** 2).mean()
                else:
                    mean, var = p[key + "running_mean"][node], p[key + "running_var"][node]
                parts.append((z - mean) / (var + 1e-5).sqrt() * p[key + "gamma"][node] + p[key + "beta"][node])
            elif kind == "softmax":
                e = torch.exp(z)
                parts.append(e / e.sum(1, keepdim=True))
            elif kind == "rms":
                parts.append(z / ((z**2).mean(1, keepdim=True) + 1e-6).sqrt() * p[key + "gamma"][node])
            elif kind == "ema":
                parts.append(self.ema(z, p, key, node))
        return torch.cat(parts, 1)

    def __call__(self, x, p, *, node_mask=None, edge_mask=None, e0=None, node_errs=None, taps=None):
        b = x.shape[0]
        columns = []
        for s, _ in self.pairs:
            columns.append(x[:, s - self.n] if self.n <= s < self.n + self.i else torch.zeros(b, dtype=x.dtype))
        state = torch.stack(columns, 1)
        if e0 is not None:
            state = state + e0
        if edge_mask is not None:
            state = state * edge_mask
        for layer in range(self.layers):
            own = f"blocks.{layer}."
            lin = "blocks.0." if self.share else own
            z = state
            if self.norm in ("edgebatch", "batch++"):
                z = self.batch_norm(z, p, own + "edge_norm.", 1e-5)
            elif self.norm == "channelema":
                z = self.ema(z, p, own + "edge_norm.")
            z = z @ self.matrix(p[lin + "lin_in.weight"], self.dense_in)
            if self.bias:
                z = z + p[lin + "lin_in.bias"]
            if node_errs is not None:
                z = z + node_errs[layer]
            if taps is not None:
                taps.append(z)
            key = own + "norm."
            h = F.elu(self.normalise(z, p, key)) if self.norm_first else self.normalise(F.elu(z), p, key)
            if self.node_mlp:
                rows = h.view(b, self.n, -1)
                m = own + "mlp.mlp."
                rows = F.linear(rows, p[m + "0.weight"], p[m + "0.bias"])
                rows = F.elu(F.layer_norm(rows, rows.shape[-1:], p[m + "1.weight"], p[m + "1.bias"]))
                h = F.linear(rows, p[m + "4.weight"], p[m + "4.bias"]).flatten(1)
            if self.node_attn:
                rows = h.view(b, self.n, -1)
                m = own + "node_attn.mlp."
                hidden = F.elu(F.linear(rows, p[m + "0.weight"], p[m + "0.bias"]))
                hidden = F.layer_norm(hidden, hidden.shape[-1:], p[m + "2.weight"], p[m + "2.bias"])
                logit = F.linear(hidden, p[m + "3.weight"], p[m + "3.bias"])[..., 0]
                if self.weights is not None:
                    spread = [torch.zeros(b, dtype=x.dtype) for _ in range(self.n)]
                    for k, (s, t) in enumerate(self.pairs):
                        if s < self.n and t < self.n:
                            w = self.weights[k // self.copies] if k < self.ff else 1.0
                            spread[t] = spread[t] + w * logit[:, s]
                    logit = torch.stack(spread, 1)
                h = (rows * torch.sigmoid(logit)[..., None]).flatten(1)
            if node_mask is not None:
                per_channel = [
                    node_mask[..., node : node + 1].expand(*node_mask.shape[:-1], c)
                    for node, c in enumerate(self.counts)
                ]
                h = h * torch.cat(per_channel, -1)
            out = h @ self.matrix(p[lin + "lin_out.weight"], self.dense_out).T
            if self.bias:
                out = out + p[lin + "lin_out.bias"]
            if self.residual:
                out = out + torch.relu(p[own + "residual_weight"]) * state
            state = out if edge_mask is None else out * edge_mask
        if self.residual:
            state = state / math.sqrt(self.layers)
        first = self.n + self.i
        outputs = []
        for o in range(self.o):
            into = [k for k, (_, t) in enumerate(self.pairs) if t == first + o]
            total = state[:, into].sum(1) if into else torch.zeros(b, dtype=x.dtype)
            outputs.append(total / math.sqrt(max(len(into), 1)))
        return torch.stack(outputs, 1), state


def leaves(model):
    """The parameters as new leaves, and copies of the buffers, by state dict key."""
    trained = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    return {k: v.detach().clone().requires_grad_(k in trained) for k, v in model.state_dict().items()}


def shake(model, seed=0):
    """Random values for everything the state dict holds, so that no term is zero or one by luck."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, value in model.state_dict().items():
            if not value.dtype.is_floating_point:
                continue
            noise = torch.rand(value.shape, generator=g, dtype=torch.float64)
            value.copy_(0.5 + noise if key.endswith(("running_var", "residual_weight")) else 1.6 * noise - 0.8)
    return model


@pytest.fixture(autouse=True)
def _seed():
    """Models draw their weights from torch's default generator."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def kit():
    """The helpers of these tests."""
    return SimpleNamespace(
        FF=FF,
        IF=IF,
        FO=FO,
        names=names,
        random_graph=random_graph,
        homogeneous=homogeneous,
        nonzeros=nonzeros,
        Oracle=Oracle,
        leaves=leaves,
        shake=shake,
    )
