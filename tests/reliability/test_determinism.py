"""The same seed on the same machine gives the same bits; what has no order has no influence by its order."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ..edges.registry import ENTRIES
from ..edges.worlds import gsnn, samples, small_graph


@pytest.mark.slow
def test_two_processes_agree_bit_for_bit():
    """Also with other hashes of strings, which order sets."""
    script = Path(__file__).with_name("digests.py")
    processes = [
        subprocess.Popen(
            [sys.executable, str(script)],
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
        )
        for seed in ("1", "2")
    ]
    found = [json.loads(process.communicate(timeout=600)[0]) for process in processes]
    names = {"model.safetensors", "checkpoint.safetensors", "metrics.csv", "edges.csv", "refine.json"}
    assert names | {"embedding", "simulate", "simulate_sde", "run.json"} <= set(found[0])
    different = [name for name in found[0] if found[0][name] != found[1][name]]
    assert not different


# Two train models again, and a training follows the order of its samples; the combined and the learned one read
# untrained networks on samples that they draw by their places.
PLACES = ("stacked", "stability", "combined", "learned")
STREAMING = [entry for entry in ENTRIES if "batch_split" not in entry.omits and entry.name not in PLACES]


@pytest.mark.parametrize("dtype", [torch.float64, pytest.param(torch.float32, marks=pytest.mark.slow)])
@pytest.mark.parametrize("entry", STREAMING, ids=lambda entry: entry.name)
def test_order_of_batches_and_samples_does_not_matter(entry, dtype):
    x, y = samples(48, dtype=dtype)
    model, graph = gsnn(dtype=dtype).eval(), small_graph()

    def scores(order):
        inferer = entry.make(model, graph)
        inferer.fit([(x[rows], y[rows]) for rows in order.split(8)], torch.nn.MSELoss(), verbose=False)
        return entry.score(inferer)

    rows = torch.arange(48)
    expected = scores(rows)
    generator = torch.Generator().manual_seed(0)
    for order in (rows.flip(0), rows.view(6, 8).flip(0).ravel(), torch.randperm(48, generator=generator)):
        found = scores(order)
        np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
        # 1e-9 and 1e-6 where an entry does not say why it asks for less.
        np.testing.assert_allclose(found, expected, rtol=0, atol=entry.tolerance[dtype == torch.float32])
