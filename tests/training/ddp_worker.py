"""One of the processes that ``test_ddp.py`` starts, and the training that they share with it."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gsnn.graph import Graph
from gsnn.nn import GSNN
from gsnn.training import TrainConfig, TrainingError, train_model
from gsnn.training.loop import build_model

PLAIN_NORMS = ("none", "layer", "rms", "softmax")
RUNNING_NORMS = ("batch", "edgebatch", "batch++", "groupbatch", "ema", "channelema")
CURVES = ("train_loss", "val_loss", "val_r2")


def train(norm: str, **options: Any) -> dict[str, Any]:
    """The curves, the weights and their digest after five epochs, in batches of 8, 8, 8, 8 and 5 samples."""
    graph = Graph.from_edges(
        [("x0", "a"), ("x1", "b"), ("a", "c"), ("b", "c"), ("c", "d"), ("d", "a"), ("c", "y0"), ("d", "y1")],
        input_nodes=["x0", "x1"],
        function_nodes=["a", "b", "c", "d", "alone"],
        output_nodes=["y0", "y1"],
    )
    rng = np.random.default_rng(0)
    x = rng.normal(size=(52, 2))
    y = np.stack([np.tanh(x[:, 0] + x[:, 1]), np.tanh(x[:, 0] - 0.5)], 1) + 0.05 * rng.normal(size=(52, 2))
    y[rng.random(y.shape) < 0.15] = np.nan
    config = TrainConfig(epochs=5, batch_size=8, lr=1e-2, seed=3, norm=norm, dropout=options.pop("dropout", 0.0))
    model = build_model(lambda: GSNN.from_graph(graph, channels=3, layers=3, norm=norm, dropout=config.dropout), 0)
    found = train_model(model, (x[:37], y[:37]), (x[37:], y[37:]), config, **options)
    weights = torch.cat([p.detach().ravel() for p in model.parameters()])
    return {name: found.history[name].tolist() for name in CURVES} | {
        "weights": weights.tolist(),
        "digest": hashlib.sha256(weights.numpy().tobytes()).hexdigest(),
    }


def main(folder: Path, n_processes: int) -> None:
    """Train with every norm and write what came of it, one file for each process."""
    torch.set_num_threads(1)
    files = {"checkpoint": folder / "last.ckpt", "metrics": folder / "metrics.csv"}
    found: dict[str, Any] = {norm: train(norm, devices=n_processes) for norm in PLAIN_NORMS}
    found["dropout"] = train("none", devices=n_processes, dropout=0.3, **files)
    found["resumed"] = train("none", devices=n_processes, dropout=0.3, resume=True, **files)
    for norm in RUNNING_NORMS:
        try:
            train(norm, devices=n_processes)
            found[norm] = None
        except TrainingError as error:
            found[norm] = str(error)
    found["world"] = torch.distributed.get_world_size()
    rank = torch.distributed.get_rank()
    (folder / f"rank{rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
