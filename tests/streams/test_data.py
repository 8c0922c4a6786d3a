"""Splitting, scaling and ordering without holding the samples."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch

from gsnn.base.errors import DataError
from gsnn.data import Split, Standardiser, build_data, stream_data
from gsnn.data import stream as stream_module
from gsnn.data.parts import Rebatched
from gsnn.data.scan import scan
from gsnn.data.split import draw_split
from gsnn.data.standardiser import ColumnMoments
from gsnn.io import ArrayResponses, Network, Responses
from gsnn.training import Batches
from gsnn.training.order import StreamedBatches


def codes_of(data, split):
    return np.concatenate([codes for _, codes, _, _ in data.chunks(split.codes(len(data)))])


def rows_of(batches):
    return np.concatenate([x.numpy() for x, _ in batches])


# ---------------------------------------------------------------- matching


def test_the_graph_is_that_of_data_in_memory(world):
    memory, stream = world.memory(), world.stream()
    assert stream.graph.node_names_dict == memory.graph.node_names_dict
    for kind, edges in memory.graph.edge_index_dict.items():
        assert torch.equal(stream.graph.edge_index_dict[kind], edges)
    assert len(stream) == len(memory)


def test_what_does_not_match_is_told_or_dropped(world):
    responses = ArrayResponses(world.x, world.y, treatments=["a", "b", "gg"], readouts=["d", "f"])
    with pytest.raises(DataError, match="names species that the network does not have: 1 of 3 treatments"):
        stream_data(world.network, responses)
    data = stream_data(world.network, responses, on_unmatched="drop")
    assert data.graph.inputs == ("TR:a", "TR:b")
    x = np.concatenate([x for _, _, x, _ in data.chunks()])
    np.testing.assert_array_equal(x, world.x[:, :2].astype(np.float32))


def test_options_that_cannot_be(world):
    responses = ArrayResponses(world.x, world.y, treatments=["a", "b", "g"], readouts=["d", "f"])
    for size in (0, True, 1.5):
        with pytest.raises(ValueError, match=f"buffer_bytes must be a number of bytes, at least 1, got {size}"):
            stream_data(world.network, responses, buffer_bytes=size)
    few = ArrayResponses(world.x[:2], world.y[:2], treatments=["a", "b", "g"], readouts=["d", "f"])
    with pytest.raises(DataError, match="holds 2 samples; at least 3 are needed"):
        stream_data(world.network, few)
    data = world.stream()
    assert str(data) == "400 samples, streamed, 3 inputs, 7 functions, 2 outputs"
    scale = Standardiser(np.zeros(2), np.ones(2))
    with pytest.raises(ValueError, match=r"unknown part 'tests'.*did you mean 'test'"):
        data.batches(scale, part="tests")
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        data.batches(scale, 0)


def test_freed_memory_goes_back_to_the_system_now_and_then(world, monkeypatch):
    trimmed = []
    monkeypatch.setattr(stream_module, "trim_freed_memory", lambda: trimmed.append(1))
    monkeypatch.setattr(stream_module, "_TRIMMED_EVERY", 4 * 5 * 100)  # 100 samples of 5 values
    x = np.concatenate([x for _, _, x, _ in world.stream(stretch=40).chunks()])
    np.testing.assert_array_equal(x, world.x.astype(np.float32))
    assert len(trimmed) == 3, "of 10 stretches of 40 samples each third exceeds the limit"


# ---------------------------------------------------------------- splitting


def test_no_condition_is_in_two_parts_and_the_shares_are_exact(world):
    data = world.stream()
    split = data.split(seed=4)
    codes = codes_of(data, split)
    x32 = world.x.astype(np.float32)
    _, condition = np.unique(x32, axis=0, return_inverse=True)
    parts = [set(codes[condition.ravel() == c].tolist()) for c in range(condition.max() + 1)]
    assert all(len(part) == 1 for part in parts)
    n = len(parts)
    sizes = [sum(part == {code} for part in parts) for code in range(3)]
    assert sizes[2] == round(0.2 * n)
    assert sizes[1] == round(0.1 * n)
    assert split.by == "condition"
    assert not np.array_equal(codes, codes_of(data, data.split(seed=5)))


@pytest.mark.parametrize("conditions", [3, 60, 350])
@pytest.mark.parametrize("seed", [0, 1, 7])
def test_the_split_is_that_of_the_samples_in_memory_however_the_file_is_cut_up(new_world, conditions, seed):
    world = new_world(conditions=conditions)
    world.x[::7] *= -0.0  # a zero is a zero
    inside = world.memory().split(seed)
    for stretch in (400, 13):
        outside = world.stream(stretch=stretch).split(seed)
        for part in ("train", "validation", "test"):
            np.testing.assert_array_equal(getattr(outside, part), getattr(inside, part))
        assert (outside.by, outside.warnings) == (inside.by, inside.warnings)


def test_samples_that_memory_leaves_out_do_not_change_the_split(world):
    """Those without a measured readout, and those of a treatment that is no species."""
    world.y[5:40] = np.nan
    names = ["a", "b", "x"]
    frames = pd.DataFrame(world.x, columns=names), pd.DataFrame(world.y, columns=["d", "f"])
    inside = build_data(world.network, Responses(*frames), on_unmatched="drop")
    responses = ArrayResponses(world.x, world.y, treatments=names, readouts=["d", "f"], stretch=37)
    outside = stream_data(world.network, responses, on_unmatched="drop")
    kept = np.flatnonzero((world.x[:, 2] == 0) & ~np.isnan(world.y).all(1))
    assert 10 < len(kept) < 395
    for part in ("train", "validation", "test"):
        rows = getattr(inside.split(3), part)
        np.testing.assert_array_equal(getattr(outside.split(3), part), kept[rows])


def test_keys_are_spread_evenly_and_do_not_collide():
    x = np.stack(np.meshgrid(np.arange(200.0), np.arange(200.0)), -1).reshape(-1, 2).astype(np.float32)
    keys = stream_module._row_keys(x)
    assert len(np.unique(keys)) == len(x)
    for shift in (0, 60):
        counts = np.bincount(((keys >> np.uint64(shift)) % np.uint64(16)).astype(int), minlength=16)
        # 16 bins of 2,500: a chi-square of 15 degrees of freedom stays below 45 but for one seed in 10,000.
        assert ((counts - 2500) ** 2 / 2500).sum() < 45


def test_few_conditions_are_split_by_sample_with_a_warning(new_world):
    data = new_world(samples=40, conditions=3).stream()
    split = data.split(seed=0)
    assert split.by == "sample"
    assert "only 3 distinct treatment rows" in split.warnings[0]
    assert np.bincount(codes_of(data, split)).tolist() == [28, 4, 8]


@pytest.mark.parametrize("kept", [0, 100])
def test_more_conditions_than_can_be_kept_are_drawn_in_groups(kept):
    rng = np.random.default_rng(0)
    x, y = np.repeat(rng.normal(size=(2000, 1)), 2, axis=0), rng.normal(size=(4000, 1))
    order = rng.permutation(4000)
    responses = ArrayResponses(x[order], y, treatments=["a"], readouts=["b"], stretch=300)
    data = stream_data(Network.from_edges([("a", "b")]), responses, buffer_bytes=16 * kept + 1)
    codes = codes_of(data, data.split(seed=2))
    # Few of the conditions share one of the 65,536 groups.
    np.testing.assert_allclose(np.bincount(codes) / 4000, [0.7, 0.1, 0.2], atol=0.005)
    pairs = codes[np.argsort(order)].reshape(-1, 2)
    np.testing.assert_array_equal(pairs[:, 0], pairs[:, 1], "no condition is in two parts")
    assert not np.array_equal(codes, codes_of(data, data.split(seed=3)))


def test_empty_parts_and_impossible_shares(world):
    data = world.stream()
    assert set(codes_of(data, data.split(test=0.0)).tolist()) == {0, 1}
    assert set(codes_of(data, data.split(test=0.0, validation=0.0)).tolist()) == {0}
    with pytest.raises(ValueError, match="leave nothing to train on"):
        data.split(test=0.6, validation=0.5)
    with pytest.raises(ValueError, match=r"test must be a share"):
        data.split(test=1.0)


def test_given_parts(world):
    split = Split(np.arange(100), np.arange(200, 220), np.array([399]), "plate")
    codes = codes_of(world.stream(), split)
    assert np.flatnonzero(codes == 0).tolist() == list(range(100))
    assert np.flatnonzero(codes == 2).tolist() == [399]
    with pytest.raises(ValueError, match=r"split.test has samples that another part has"):
        Split(np.arange(9), np.arange(0), np.arange(8, 10), "").codes(400)
    with pytest.raises(ValueError, match="of 400 samples"):
        Split(np.arange(401), np.arange(0), np.arange(0), "").codes(400)
    with pytest.raises(ValueError, match=r"split.train has a sample twice"):
        Split(np.array([1, 1, 2]), np.arange(0), np.arange(0), "").codes(400)


@pytest.mark.parametrize("n", [40, 200_000])
def test_a_split_survives_json(n):
    split = draw_split(np.arange(n) % (n // 2) - 1, 0, 0.2, 0.1)
    text = json.dumps(split.to_dict())
    again = Split.from_dict(json.loads(text), n)
    np.testing.assert_array_equal(again.codes(n), split.codes(n))
    assert (again.by, again.warnings) == (split.by, split.warnings)
    assert len(text) < 3 * n + 200


@pytest.mark.parametrize("packed", ["?", "AAAA", 3])
def test_a_damaged_split_is_refused(packed):
    with pytest.raises((ValueError, TypeError)):
        Split.from_dict({"by": "condition", "warnings": [], "packed": packed}, 100).codes(100)


# ---------------------------------------------------------------- scale


def test_moments_of_chunks_are_those_of_the_whole():
    rng = np.random.default_rng(0)
    values = 1e6 + rng.normal(size=(1000, 4))
    values[rng.random(values.shape) < 0.3] = np.nan
    values[:, 2] = np.nan
    values[:, 3] = 7.1
    moments = ColumnMoments(4)
    for part in np.array_split(values, [1, 1, 5, 600]):
        moments.update(part)
    ours, whole = Standardiser.from_moments(moments), Standardiser.fit(values)
    np.testing.assert_allclose(ours.mean, whole.mean, rtol=1e-14)
    np.testing.assert_allclose(ours.scale, whole.scale, rtol=1e-12)


def test_scan_is_what_the_training_part_says(world):
    data = world.stream(stretch=37)
    split = data.split(seed=2)
    found, codes = scan(data, split), codes_of(data, split)
    whole = Standardiser.fit(world.y.astype(np.float32)[codes == 0])
    np.testing.assert_allclose(found.standardiser.mean, whole.mean, rtol=1e-12)
    np.testing.assert_allclose(found.standardiser.scale, whole.scale, rtol=1e-12)
    assert found.counts.sum(0).tolist() == np.bincount(codes, minlength=4).tolist()
    x, y = (np.concatenate(side) for side in zip(*found.part("test").chunks(), strict=True))
    np.testing.assert_array_equal(x, world.x.astype(np.float32)[codes == 2])
    np.testing.assert_array_equal(y, found.standardiser.transform(world.y.astype(np.float32)[codes == 2]))


def test_scan_tells_of_odd_columns_and_empty_samples(new_world):
    world = new_world()
    world.x[:, 0] = 1.0
    world.y[:5] = np.nan
    world.y[5:, 1] = 2.0
    data = world.stream()
    found = scan(data, data.split())
    text = "\n".join(found.warnings)
    assert "5 samples without any measured readout left out" in text
    assert "1 input the same in every sample" in text
    assert "1 output the same wherever it was measured" in text
    split = Split(np.arange(5, 99), np.arange(99, 199), np.arange(199, 400), "list")
    world.y[:99, 1] = np.nan
    found = scan(world.stream(), split)
    assert "measured in no training sample and left out of all figures: DV:f" in found.warnings
    assert found.observed.tolist()[:3] == [True, True, True]
    world.y[:] = np.nan
    with pytest.raises(DataError, match="0 usable samples"):
        scan(world.stream(), split)


# ---------------------------------------------------------------- order


@pytest.mark.parametrize("drop_last", [False, True])
def test_a_buffer_for_all_gives_the_batches_of_arrays(world, drop_last):
    data = world.stream(stretch=37)
    part = scan(data, data.split(seed=2)).part("train")
    x, y = (torch.tensor(np.concatenate(side)) for side in zip(*part.chunks(), strict=True))
    ours = StreamedBatches(part, 16, seed=9, drop_last=drop_last)
    arrays = Batches(x, y, 16, seed=9, drop_last=drop_last)
    assert len(ours) == len(arrays)
    for epoch in (0, 1):
        ours.epoch = arrays.epoch = epoch
        for mine, theirs in zip(ours, arrays, strict=True):
            assert torch.equal(mine[0], theirs[0])
            assert torch.equal(mine[1].nan_to_num(-99), theirs[1].nan_to_num(-99))


@pytest.mark.parametrize("stretch", [20, 400])
def test_a_small_buffer_gives_every_sample_once_in_an_order_of_the_epoch(stretch):
    x = np.arange(400.0)[:, None]
    responses = ArrayResponses(x, x, treatments=["a"], readouts=["b"], stretch=stretch)
    data = stream_data(Network.from_edges([("a", "b")]), responses, buffer_bytes=8 * 64)
    assert bool(data.warnings) == (stretch == 400)
    part = scan(data, data.split(seed=0)).part("train")
    batches = StreamedBatches(part, 16, seed=1)
    orders = []
    for epoch in (0, 1, 0):
        batches.epoch = epoch
        orders.append(rows_of(batches).ravel())
    expected = np.concatenate([rows for rows, _ in part.chunks()]).ravel()
    for order in orders:
        assert np.array_equal(np.sort(order), expected)
    assert np.array_equal(orders[0], orders[2])
    assert not np.array_equal(orders[0], orders[1])
    assert [len(a) for a, _ in batches][:-1] == [16] * (len(batches) - 1)
    # No window holds more than the buffer: 64 samples, from 3 stretches of 20 at most, or 64 rows of one large one.
    first = np.unique(orders[0][:48] // 20)
    assert len(first) <= (4 if stretch == 20 else 6)


def test_processes_share_streamed_batches(world):
    data = world.stream(buffer_bytes=20 * 100)
    part = scan(data, data.split(seed=2)).part("train")
    whole = [b for b, _ in StreamedBatches(part, 16, seed=1)]
    parts = []
    for rank in range(2):
        batches = StreamedBatches(part, 16, seed=1)
        batches.share(rank, 2)
        parts.append([b for b, _ in batches])
    for together, first, second in zip(whole, *parts, strict=True):
        assert torch.equal(together[0::2], first)
        assert torch.equal(together[1::2], second)


def test_rebatched_keeps_order_and_sizes(world):
    data = world.stream(stretch=37)
    part = scan(data, data.split(seed=2)).part("train")
    batches = Rebatched(part, 50)
    sizes = [len(x) for x, _ in batches]
    assert sizes[:-1] == [50] * (len(sizes) - 1)
    np.testing.assert_array_equal(rows_of(batches), np.concatenate([x for x, _ in part.chunks()]))
