"""Small networks with models, for questions to a model."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from gsnn.data import Standardiser, build_data
from gsnn.io import Network, Responses
from gsnn.nn import GSNN

# d has no readout of its own, e reaches none, c and f are read twice over.
EDGES = [("a", "c", 1), ("b", "d", 1), ("c", "d", -1), ("d", "f", 1), ("c", "f", 1), ("f", "c", 1), ("a", "e", 1)]


def world(samples=30, seed=0):
    """Data on the network, with a gap."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 2, size=(samples, 2)) * rng.integers(1, 3, size=(samples, 2)).astype(float)
    y = np.c_[x[:, 0] - x[:, 1], 3 * x[:, 0] * x[:, 1]] + rng.normal(scale=0.1, size=(samples, 2))
    treatments, readouts = pd.DataFrame(x, columns=["a", "b"]), pd.DataFrame(y, columns=["c", "f"])
    readouts.iloc[3, 1] = np.nan
    data = build_data(Network.from_edges(EDGES), Responses(treatments, readouts))
    return data, Standardiser.fit(data.y)


def model_of(data, seed=0, **options):
    """A model with random weights and biases, as after a training; statistics of its norms are of some batch."""
    torch.manual_seed(seed)
    model = GSNN.from_graph(
        data.graph, **{"channels": 3, "layers": 4, "norm": "groupbatch", "share_layers": False} | options
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        model(torch.randn(16, data.graph.I))
    return model.eval()


def clamped_by_hand(model, x, node, values):
    """Predictions with the channels of one node set to values (L, C) at the post tap of every block, in plain torch."""

    def post(layer, h):
        h = h.clone()
        h[model.channel_node == node] = values[layer].unsqueeze(1)
        return h

    with torch.no_grad():
        return model.forward_with_taps(torch.as_tensor(x), post=post)


def channels_by_hand(model, x):
    """(L, N*C, B) at the post tap."""
    seen = []
    with torch.no_grad():
        model.forward_with_taps(torch.as_tensor(x), post=lambda _, h: seen.append(h.clone()))
    return torch.stack(seen)
