"""Which samples of a stream are kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gsnn.edges.stats import SampleSketch


def sketch(size, *parts):
    made = SampleSketch((1,), size, torch.float64)
    for part in parts:
        made.update(part[None].double())
    return made


def test_a_short_stream_is_kept_as_it_came():
    numbers = torch.arange(40)
    made = sketch(40, numbers[:7], numbers[7:8], numbers[8:])
    assert made.samples[0].tolist() == numbers.tolist()
    assert (made.seen, len(made.keys)) == (40, 40)


@pytest.mark.parametrize("cuts", [[], [1], [5, 6, 30], list(range(1, 100))])
def test_how_a_stream_was_cut_does_not_matter(cuts):
    numbers = torch.arange(100)
    whole, parts = sketch(8, numbers), sketch(8, *numbers.tensor_split(cuts))
    assert whole.samples.tolist() == parts.samples.tolist()
    assert whole.keys.tolist() == parts.keys.tolist()
    assert whole.samples[0].tolist() == sorted(whole.samples[0].tolist())
    assert len(set(whole.samples[0].tolist())) == 8


def test_samples_are_drawn_evenly_over_the_stream():
    kept = sketch(1000, torch.arange(10_000)).samples[0].numpy()
    counts = np.histogram(kept, bins=10, range=(0, 10_000))[0]
    # Without replacement the counts vary less than binomial ones, of SD 9.5.
    assert np.abs(counts - 100).max() < 33
    assert np.abs(np.corrcoef(kept[1:] - kept[:-1], kept[1:])[0, 1]) < 0.15


def test_merging_draws_from_both_by_their_numbers():
    one, two = sketch(200, torch.arange(1000)), sketch(200, torch.arange(1000, 4000))
    before = two.samples.clone()
    one.merge(two)
    assert one.samples.shape == (1, 200)
    assert one.seen == 4000
    # 50 of 200 are expected from the first quarter; SD 6.
    assert 25 < int((one.samples < 1000).sum()) < 75
    assert torch.equal(two.samples, before)


def test_loading_goes_on_where_it_was():
    whole = sketch(8, torch.arange(100))
    half = sketch(8, torch.arange(60))
    other = SampleSketch((1,), 8, torch.float64)
    other.load(half.keys, half.samples, half.seen)
    other.update(torch.arange(60, 100)[None].double())
    assert other.samples.tolist() == whole.samples.tolist()
    other.reset()
    assert (other.seen, other.samples.shape) == (0, (1, 0))


def test_nothing_is_kept_of_size_0_and_nothing_is_shared():
    nothing = sketch(0, torch.arange(5))
    assert (nothing.samples.shape, nothing.keys.shape) == ((1, 0), (0,))
    values = torch.ones(1, 3, dtype=torch.float64)
    made = SampleSketch((1,), 5, torch.float64)
    made.update(values)
    values.zero_()
    assert made.samples.tolist() == [[1.0, 1.0, 1.0]]
