"""What a fit is said to mean, on constructed curves."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gsnn.training.baselines import FitReport
from gsnn.training.verdict import fit_verdict, r_meaning

N = 50
FLAT, FALLING = np.full(N, 0.7), np.linspace(1.5, 0.7, N)
RISING = np.r_[np.linspace(1.2, 0.6, 20), np.linspace(0.6, 0.9, N - 20)]


def verdict(model, ridge=0.67, train=FLAT, watched=None, **more):
    summary = pd.DataFrame({"pooled_r2": {"model": model, "ridge": ridge, "mean": -0.02}})
    nothing = np.full(N, np.nan)
    curves = {"epoch": range(1, N + 1), "train_loss": train, "val_loss": nothing if watched is None else watched}
    return fit_verdict(FitReport(pd.DataFrame(), summary, 18), pd.DataFrame(curves), **more)


@pytest.mark.parametrize(
    ("model", "short", "tone"),
    [
        (0.3, "worse than ridge", "bad"),
        (0.66, "fits as ridge does", "unsure"),
        (0.68, "fits as ridge does", "unsure"),
        (0.75, "fits", "good"),
        (-0.1, "no better than a constant", "bad"),
        (float("nan"), "not known", "unsure"),
    ],
)
def test_beside_ridge(model, short, tone):
    found = verdict(model)
    assert (found.short, found.tone) == (short, tone)


def test_the_cause_is_the_one_that_the_curves_show():
    flat = verdict(0.3)
    assert flat.text.startswith(
        "The model explains 30 % of the variance of unseen conditions; ridge regression without a network explains "
        "67 %: the network as it stands keeps the model from fitting. "
    )
    assert "gsnn infer RUN --kinds all" in flat.next
    assert "train longer" in verdict(0.3, train=FALLING).text
    assert "train longer" in verdict(0.3, watched=FALLING).text
    # The training loss falls still, but what counts has risen: no advice to train longer.
    risen = verdict(0.3, train=FALLING, watched=RISING)
    assert "risen since epoch 20" in risen.text or "risen since epoch 21" in risen.text
    assert "--patience" in risen.next
    assert "train longer" not in risen.text
    short = fit_verdict(
        FitReport(pd.DataFrame(), pd.DataFrame({"pooled_r2": {"model": 0.1, "ridge": 0.6, "mean": 0.0}}), 9),
        pd.DataFrame({"epoch": range(1, 9), "train_loss": 0.95}),
    )
    assert "trained for 8 epochs" in short.text
    # A patience of 20 never runs out within 12 epochs.
    by_heart = fit_verdict(
        FitReport(pd.DataFrame(), pd.DataFrame({"pooled_r2": {"model": 0.48, "ridge": 0.8, "mean": 0.0}}), 9),
        pd.DataFrame({"epoch": range(1, 13), "train_loss": 0.2}),
    )
    assert "--patience 20 --epochs 150 --overwrite" in by_heart.next
    by_heart = verdict(0.3, train=FALLING - 0.6)
    assert "by heart" in by_heart.text
    assert "train longer" not in by_heart.text


@pytest.mark.parametrize(
    ("curves", "model", "after"),
    [
        ({}, 0.75, "gsnn selfcheck RUN, "),
        ({}, 0.67, "gsnn selfcheck RUN, "),
        ({}, 0.3, "gsnn selfcheck RUN --kinds all"),
        ({"train": FLAT + 0.1}, -0.1, "gsnn check on the same files"),
        ({}, float("nan"), "gsnn check on the same files"),
        ({"train": FALLING}, 0.3, "the same gsnn train with --resume --epochs 150"),
        ({"train": FALLING + 0.1}, -0.1, "the same gsnn train with --resume --epochs 150"),
        ({"watched": RISING}, 0.3, "the same gsnn train with --patience 20"),
        ({"train": FALLING - 0.6}, 0.3, "the same gsnn train with --patience 20"),
    ],
)
def test_what_comes_next_follows_from_the_cause(curves, model, after):
    assert verdict(model, **curves).next.startswith(after)


def test_patience_that_has_run_out_is_not_advised_again():
    found = verdict(0.3, watched=RISING, stopped_early=True)
    assert "training has stopped" in found.text
    assert found.next.startswith("gsnn selfcheck RUN")


def test_what_comes_next_names_the_folder():
    assert verdict(0.75).at("runs/my run").next.startswith("gsnn selfcheck 'runs/my run', ")
    assert "RUN" not in str(verdict(0.75).at("r").to_dict())


def test_a_fit_without_ridge_or_curves_is_judged_all_the_same():
    assert verdict(0.3, ridge=float("nan")).short == "fits"
    report = FitReport(pd.DataFrame(), pd.DataFrame({"pooled_r2": {"model": 0.3, "ridge": 0.6, "mean": 0.0}}), 9)
    assert fit_verdict(report, pd.DataFrame({"epoch": [], "train_loss": []})).short == "worse than ridge"


def test_r_beside_r2_says_why_they_differ():
    assert "0.943" in r_meaning({"model": 0.95, "mean": 0.943})
    assert "R2 leaves out" in r_meaning({"model": 0.95})
    # Where readouts do not differ in level, that is no reason.
    assert "level" not in r_meaning({"model": 0.88, "mean": -0.076})
    assert "too small or too large" in r_meaning({"model": 0.88, "mean": -0.076})
