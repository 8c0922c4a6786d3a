"""Training and inference on streams against the same samples in memory."""

from __future__ import annotations

import gc
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch

from gsnn import GSNN, GradientEdgeInferer, MagnitudeEdgeInferer
from gsnn.base.errors import DataError, RunError
from gsnn.data import Split, Standardiser, stream_data
from gsnn.data.scan import scan
from gsnn.discovery import StructureEdgeInferer
from gsnn.io import ArrayResponses, Network, ParquetResponses
from gsnn.runs import Run
from gsnn.training import TrainConfig, fit, train_model
from gsnn.training import baselines as baselines_module
from gsnn.training.baselines import RidgeBaseline
from gsnn.training.loop import build_model
from gsnn.training.order import StreamedBatches

CONFIG = TrainConfig(epochs=3, channels=2, layers=3, batch_size=32, norm="layer", dropout=0.2, seed=3)
LISTS = Split(np.arange(0, 280), np.arange(280, 320), np.arange(320, 400), "list")


def weights(model):
    return torch.cat([p.detach().ravel() for p in model.parameters()])


def test_the_loss_curve_is_that_of_arrays_when_the_buffer_holds_all(world):
    data = world.stream(stretch=37)
    found = scan(data, data.split(seed=2))
    parts = found.part("train"), found.part("validation")
    arrays = [tuple(np.concatenate(side) for side in zip(*part.chunks(), strict=True)) for part in parts]
    results = []
    for train, validation in (parts, arrays):
        model = build_model(lambda: GSNN.from_graph(data.graph, **CONFIG.model_options()), 0)
        results.append((train_model(model, train, validation, CONFIG).history.drop(columns="seconds"), weights(model)))
    assert results[0][0].equals(results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_what_cannot_be_measured_is_left_out_with_a_note(new_world):
    world = new_world(samples=3, conditions=3, missing=0.0)
    world.x[:] = 0.0
    split = Split(np.array([0]), np.array([1]), np.array([2]), "list")
    found = fit(world.stream(), CONFIG, split=split, progress=False)
    # One sample predicts itself, as in memory.
    assert found.report.summary.loc["ridge", "mse"] == found.report.summary.loc["mean", "mse"]
    whole = Split(np.arange(3), np.arange(0), np.arange(0), "list")
    found = fit(world.stream(), CONFIG, split=whole, progress=False)
    assert "no sample is in the test part, so the fit was not measured" in found.warnings
    assert found.report.readouts["n"].tolist() == [0, 0]
    with pytest.raises(DataError, match=r"patience and restore_best need .* raise validation"):
        fit(world.stream(), replace(CONFIG, patience=1), split=whole, progress=False)
    with pytest.raises(DataError, match="of 3 samples"):
        fit(world.stream(), CONFIG, split=Split(np.arange(4), np.arange(0), np.arange(0), "list"), progress=False)


def test_ridge_is_left_out_where_its_matrices_would_be_too_large(world, monkeypatch):
    monkeypatch.setattr(baselines_module, "_MAX_INPUTS", 2)
    found = fit(world.stream(), replace(CONFIG, epochs=1), progress=False)
    assert any("with 3 inputs its matrices are too large (2 are allowed)" in text for text in found.warnings)


@pytest.mark.parametrize("missing", [0.0, 0.1])
def test_fit_reports_what_it_reports_in_memory(new_world, missing):
    world = new_world(missing=missing)
    ours, theirs = (
        fit(world.stream(), CONFIG, split=LISTS, progress=False),
        fit(world.memory(), CONFIG, split=LISTS, progress=False),
    )
    np.testing.assert_allclose(ours.history["train_loss"], theirs.history["train_loss"], rtol=1e-5)
    np.testing.assert_allclose(ours.history["val_r2"], theirs.history["val_r2"], rtol=1e-4)
    columns = [c for c in theirs.report.readouts if c != "readout" and (missing == 0 or "ridge" not in c)]
    for name in columns:
        np.testing.assert_allclose(ours.report.readouts[name], theirs.report.readouts[name], rtol=1e-4, atol=1e-6)
    rows = ["model", "mean"] if missing else ["model", "ridge", "mean"]
    np.testing.assert_allclose(ours.report.summary.loc[rows], theirs.report.summary.loc[rows], rtol=1e-4, atol=1e-6)
    for name in (*rows, "group mean"):
        assert ours.report.correlation[name] == pytest.approx(theirs.report.correlation[name], abs=1e-5)
    told = [w for w in ours.warnings if "ridge baseline is left out" in w]
    assert bool(told) == bool(missing)
    assert np.isnan(ours.report.summary.loc["ridge"]).all() == bool(missing)


def test_ridge_in_passes_is_ridge_at_once(new_world):
    world = new_world(missing=0.0)
    world.x[:, 1] = 2 * world.x[:, 0]  # a rank below the number of inputs
    data = world.stream(stretch=37)
    part = scan(data, data.split(seed=2)).part("train")
    x, y = (np.concatenate(side) for side in zip(*part.chunks(), strict=True))
    ours, whole = RidgeBaseline.from_chunks(part), RidgeBaseline.fit(x, y)
    np.testing.assert_allclose(ours.weights, whole.weights, atol=1e-8)
    np.testing.assert_allclose(ours.intercept, whole.intercept, atol=1e-8)
    np.testing.assert_array_equal(ours.alphas, whole.alphas)


def test_a_run_that_is_resumed_ends_with_the_same_bits(world, tmp_path):
    data = world.stream(buffer_bytes=20 * 100)

    def run(name):
        return Run.create(tmp_path / name, config=CONFIG, data=data)

    whole = fit(data, CONFIG, run("whole"), progress=False)
    part = run("part")
    fit(data, TrainConfig(**{**CONFIG.to_dict(), "epochs": 2}), part, progress=False)
    again = fit(data, CONFIG, Run.open(part.path), resume=True, progress=False)
    assert torch.equal(weights(whole.model), weights(again.model))
    assert whole.history.drop(columns="seconds").equals(again.history.drop(columns="seconds"))
    # Another buffer is another order.
    other = world.stream(buffer_bytes=20 * 50)
    with pytest.raises(RunError, match="the data are not those of the run"):
        fit(other, CONFIG, Run.open(part.path), resume=True, progress=False)


@pytest.mark.parametrize(
    "kind", [MagnitudeEdgeInferer, GradientEdgeInferer, pytest.param(StructureEdgeInferer, marks=pytest.mark.slow)]
)
def test_inferers_find_the_same_as_in_memory(opened, world, kind):
    data = stream_data(world.network, opened)
    standardiser = Standardiser.fit(world.y.astype(np.float32))
    model = build_model(lambda: GSNN.from_graph(data.graph, channels=2, layers=3, norm="none"), 1)
    x, y = torch.tensor(world.x, dtype=torch.float32), torch.tensor(world.y, dtype=torch.float32)
    y = torch.tensor(standardiser.transform(y.numpy()))
    scores = []
    for batches in (
        list(zip(x.split(64), y.split(64), strict=True)),
        data.batches(standardiser, 64),
        iter(data.batches(standardiser, 64)),  # of unknown length
    ):
        inferer = kind(model, data.graph)
        assert inferer.fit(batches, verbose=False) == 400
        scores.append(inferer.score_matrix())
    np.testing.assert_allclose(scores[1], scores[0], atol=1e-10)
    np.testing.assert_allclose(scores[2], scores[0], atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["npy", "parquet"])
def test_memory_does_not_grow_with_the_samples(tmp_path, kind):
    """Twenty times the samples, a buffer that both fill; numpy's and Arrow's allocations are counted."""
    arrow, width, rng = pytest.importorskip("pyarrow"), 40, np.random.default_rng(0)
    names = {"treatments": [f"n{i}" for i in range(width)], "readouts": [f"n{i}" for i in range(width)]}
    network = Network.from_edges([(f"n{i}", f"n{i + 1}") for i in range(width - 1)])
    peaks = []
    before = arrow.default_memory_pool()
    try:
        for samples in (2_000, 40_000):
            x, y = rng.normal(size=(2, samples, width)).astype(np.float32)
            if kind == "npy":
                np.save(tmp_path / "x.npy", x)
                np.save(tmp_path / "y.npy", y)
            else:
                from pyarrow import parquet

                columns = {f"TR:n{i}": x[:, i] for i in range(width)} | {f"DV:n{i}": y[:, i] for i in range(width)}
                parquet.write_table(arrow.table(columns), tmp_path / "r.parquet", row_group_size=500)
                del columns
            size = x.nbytes + y.nbytes
            del x, y
            gc.collect()
            pool = arrow.proxy_memory_pool(before)
            arrow.set_memory_pool(pool)
            tracemalloc.start()
            if kind == "npy":
                responses = ArrayResponses(tmp_path / "x.npy", tmp_path / "y.npy", **names, stretch=500)
            else:
                responses = ParquetResponses(tmp_path / "r.parquet")
            data = stream_data(network, responses, buffer_bytes=2**18)
            part = scan(data, data.split(seed=0)).part("train")
            assert sum(len(b) for b, _ in StreamedBatches(part, 64, seed=1)) == len(part)
            peaks.append(tracemalloc.get_traced_memory()[1] + pool.max_memory())
            tracemalloc.stop()
            responses.close()
    finally:
        tracemalloc.stop()
        arrow.set_memory_pool(before)
    # A split has some bytes for each sample.
    assert peaks[1] < 1.25 * peaks[0] + 3 * 8 * 40_000
    assert peaks[1] < size / 4
