"""Digests of what train, infer, simulate, the embedding and refine make; printed as JSON when run as a program."""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from kill import infer, refine, snapshot, train, write_sources

from gsnn.edges import MagnitudeEdgeInferer, MagnitudeEdgeKGE
from gsnn.runs import Run
from gsnn.simulation import convergence_graph, simulate, simulate_sde


def digest(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()


def embedding(run: Run) -> np.ndarray:
    data = run.data()
    inferer = MagnitudeEdgeInferer(run.model(), data.graph)
    inferer.fit([(torch.tensor(data.x), torch.tensor(data.y))], verbose=False)
    kge = MagnitudeEdgeKGE(inferer, embedding_dim=8, layer_agg="mean0")
    kge.fit(n_epochs=5, verbose=False)
    return kge.score_matrix()


def digests() -> dict[str, str]:
    """A name for each result, and the digest of its bits."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        write_sources(work)
        train(work)
        infer(work)
        refine(work)
        found = snapshot(work / "run")
        found["run.json"] = found["run.json"].replace(str(work), "")
        found |= {"embedding": embedding(Run.open(work / "run")).tobytes()}
    graph, inputs, _, outputs, _ = convergence_graph(4)
    for job in (simulate, simulate_sde):
        made = job(graph, 6, 3, inputs, outputs, seed=4)
        found[job.__name__] = [np.asarray(part).tobytes() for part in made]
    return {key: digest(value) for key, value in found.items()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(digests()))
