"""What members know of their own errors, against loops over samples and readouts."""

from __future__ import annotations

import numpy as np
import pytest

from gsnn.ask.ensemble import LEAST_NOISE, calibrate
from gsnn.base.errors import DataError


def by_hand(predictions, times, y):
    """Noise and ratios, one number at a time."""
    k, m, o = predictions.shape
    noise, ratios = np.full(o, np.nan), []
    spread = np.full((m, o), np.nan)
    for i in range(m):
        out = [member for member in range(k) if times[member, i] == 0]
        if len(out) > 1:
            spread[i] = np.var(predictions[out, i], axis=0, ddof=1)
    typical = np.nanmean(spread, axis=0)
    share, error = np.full((m, o), np.nan), np.full((m, o), np.nan)
    for i in range(m):
        out = [member for member in range(k) if times[member, i] == 0]
        if out:
            error[i] = y[i] - np.mean(predictions[out, i], axis=0)
            share[i] = (spread[i] if len(out) > 1 else typical) / len(out)
    for j in range(o):
        seen = [i for i in range(m) if np.isfinite(error[i, j])]
        if seen:
            square = np.mean([error[i, j] ** 2 for i in seen])
            noise[j] = max(square - np.mean([share[i, j] for i in seen]), LEAST_NOISE * square)
    for i in range(m):
        for j in range(o):
            if np.isfinite(error[i, j]):
                ratios.append(abs(error[i, j]) / np.sqrt(noise[j] + share[i, j]))
    return noise, np.array(ratios)


@pytest.fixture
def drawn():
    rng = np.random.default_rng(2)
    predictions, y = rng.normal(size=(4, 30, 3)), rng.normal(size=(30, 3))
    times = rng.poisson(1, size=(4, 30))
    times[:, 0] = 1  # in every bag
    times[:, 1] = [0, 1, 1, 1]  # out of one
    y[3:9, 0] = np.nan
    y[:, 2] = np.nan
    return predictions, times, y


def test_calibration_is_that_of_a_loop(drawn):
    found, (noise, ratios) = calibrate(*drawn), by_hand(*drawn)
    np.testing.assert_allclose(found.noise, noise, rtol=1e-12)
    np.testing.assert_allclose(found.ratios, ratios, rtol=1e-12)
    assert found.scale == pytest.approx(np.sqrt(np.mean(ratios**2)))
    assert found.quantile(0.9) == pytest.approx(np.quantile(ratios, 0.9))
    spread = np.full((2, 3), 0.5)
    np.testing.assert_allclose(found.raw(spread, 4), np.sqrt(np.tile(noise, (2, 1)) + 0.125))


def test_a_tenth_of_the_errors_lies_outside(drawn):
    predictions, times, y = drawn
    found = calibrate(predictions, times, y)
    assert np.mean(found.ratios > found.quantile(0.9)) == pytest.approx(0.1, abs=0.02)


def test_samples_that_every_member_has_seen_say_nothing(drawn):
    predictions, times, y = drawn
    before = calibrate(predictions, times, y)
    y[0] = 1e6
    np.testing.assert_array_equal(calibrate(predictions, times, y).ratios, before.ratios)


def test_spread_and_noise_are_told_apart():
    # Members scatter by 1 around the truth, responses by 2: with many samples noise is 4, and no factor is needed.
    rng = np.random.default_rng(0)
    predictions, y = rng.normal(size=(5, 20_000, 1)), 2 * rng.normal(size=(20_000, 1))
    found = calibrate(predictions, (rng.random((5, 20_000)) > 0.37).astype(int), y)
    assert found.noise[0] == pytest.approx(4, rel=0.05)
    assert found.scale == pytest.approx(1, rel=0.02)
    assert found.quantile(0.9) == pytest.approx(1.645, rel=0.03)


def test_nothing_out_of_the_bag_is_an_error():
    with pytest.raises(DataError, match="train more members"):
        calibrate(np.zeros((2, 3, 1)), np.ones((2, 3), int), np.zeros((3, 1)))
