"""Masked losses against a loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gsnn.nn.losses import MaskedMSELoss, masked_mse


def test_equals_mse_without_missing_targets():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(7, 3, generator=generator), torch.randn(7, 3, generator=generator)
    torch.testing.assert_close(masked_mse(a, b), torch.nn.functional.mse_loss(a, b))


def test_matches_a_loop_and_is_a_mean_over_samples():
    generator = torch.Generator().manual_seed(1)
    prediction = torch.randn(8, 3, generator=generator, dtype=torch.float64)
    target = torch.randn(8, 3, generator=generator, dtype=torch.float64)
    target[torch.rand(8, 3, generator=generator) < 0.4] = torch.nan
    per_sample = []
    for b in range(8):
        squares = [(prediction[b, o] - target[b, o]).item() ** 2 for o in range(3) if not torch.isnan(target[b, o])]
        per_sample.append(sum(squares) / 3)
    assert masked_mse(prediction, target).item() == pytest.approx(np.mean(per_sample), rel=1e-12)
    halves = (masked_mse(prediction[:2], target[:2]) * 2 + masked_mse(prediction[2:], target[2:]) * 6) / 8
    torch.testing.assert_close(masked_mse(prediction, target), halves)


def test_dividing_by_the_observed_count_would_not_be_a_sum_over_samples():
    prediction, target = torch.zeros(2, 2), torch.tensor([[1.0, float("nan")], [2.0, 2.0]])

    def naive(p, t):
        return (p - t)[~torch.isnan(t)].square().mean()

    halves = (naive(prediction[:1], target[:1]) + naive(prediction[1:], target[1:])) / 2
    assert abs(naive(prediction, target) - halves) > 0.1
    halves = (masked_mse(prediction[:1], target[:1]) + masked_mse(prediction[1:], target[1:])) / 2
    torch.testing.assert_close(masked_mse(prediction, target), halves)


def test_gradient_is_zero_not_nan_at_missing_targets():
    prediction = torch.tensor([[1.0, 2.0]], requires_grad=True)
    MaskedMSELoss()(prediction, torch.tensor([[0.0, float("nan")]])).backward()
    torch.testing.assert_close(prediction.grad, torch.tensor([[1.0, 0.0]]))


def test_nothing_measured_is_zero():
    prediction = torch.ones(2, 2, requires_grad=True)
    loss = masked_mse(prediction, torch.full((2, 2), torch.nan))
    loss.backward()
    assert loss.item() == 0
    assert not prediction.grad.any()


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="same shape"):
        masked_mse(torch.zeros(2, 1), torch.zeros(2))
