"""What a fit means, in words: how much of unseen conditions is explained, beside ridge, and what keeps it from more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from gsnn.base.verdict import Verdict

if TYPE_CHECKING:
    import pandas as pd

    from gsnn.training.baselines import FitReport

CLOSE = 0.02  # R2 within which two predictors explain as much
_MOVES = 0.02  # share of a loss: what it moved by over the last fifth of the epochs, below which it is flat
_RISES = 0.05  # share by which a validation loss ends above its lowest point, where it has risen
_MEMORISED = (
    0.3  # R2 on the training samples above that on unseen ones, from which on a model knows its samples by heart
)

_SHORT = 20  # epochs of which the curves say nothing


def fit_verdict(fit: FitReport, history: pd.DataFrame) -> Verdict:
    """The fit on unseen conditions in a sentence, and where ridge does better, the cause that the curves show.

    A validation loss that has risen asks for ``--patience``; one that falls still, for more epochs; one that lies flat
    says that the network keeps the model from fitting. Without a validation part the training loss is looked at, and
    a model that explains its training samples much better than unseen conditions counts as one whose loss has risen.

    Args:
        fit: What the model and the baselines reach on held-out samples.
        history: A row per epoch: epoch, train_loss and val_loss, as :class:`gsnn.training.TrainResult` has them.

    Returns:
        The verdict: ``bad`` below ridge or the mean, ``unsure`` beside ridge, ``good`` above.

    Example:
        >>> import pandas as pd
        >>> from gsnn.training.baselines import FitReport
        >>> summary = pd.DataFrame({"pooled_r2": {"model": 0.3, "ridge": 0.67, "mean": -0.01}})
        >>> curve = pd.DataFrame({"epoch": [1, 2, 3], "train_loss": 0.7, "val_loss": 0.7})
        >>> print(fit_verdict(FitReport(pd.DataFrame(), summary, 18), curve).text[:60])
        The model explains 30 % of the variance of unseen conditions
    """
    model, ridge, mean = (_of(fit, name) for name in ("model", "ridge", "mean"))
    if not np.isfinite(model):
        return Verdict(
            "not known", "No held-out response varies, so that nothing says how well the model fits.", "unsure"
        )
    said = f"The model explains {_percent(model)} of the variance of unseen conditions"
    if np.isfinite(ridge):
        said += f"; ridge regression without a network explains {_percent(ridge)}"
    cause = _cause(history, model)
    if model <= 0 or model <= mean:
        return Verdict(
            "no better than a constant", f"{said}: what this model says of edges means little. {cause}", "bad"
        )
    if not np.isfinite(ridge) or model > ridge + CLOSE:
        return Verdict("fits", f"{said}. A good fit alone does not show that the network is right.", "good")
    if model >= ridge - CLOSE:
        return Verdict("fits as ridge does", f"{said}: the network adds nothing to the prediction.", "unsure")
    if cause.startswith("The losses lie flat"):
        said += ": the network as it stands keeps the model from fitting"
    return Verdict("worse than ridge", f"{said}. {cause}", "bad")


def r_meaning(r: Mapping[str, float]) -> str:
    """Why an r in the units of the data stands where R2 does not: it counts how readouts differ in level.

    Args:
        r: By predictor, as :attr:`gsnn.training.baselines.FitReport.correlation`.

    Example:
        >>> r_meaning({"model": 0.95, "mean": 0.943})
        'it counts how readouts differ in level, so that the mean of each alone reaches 0.943; R2 does not'
    """
    mean = r.get("mean", float("nan"))
    told = f"so that the mean of each alone reaches {mean:.3f}" if np.isfinite(mean) else "which R2 leaves out"
    return f"it counts how readouts differ in level, {told}" + ("; R2 does not" if np.isfinite(mean) else "")


def _cause(history: pd.DataFrame, r2: float) -> str:
    """What the curves say is in the way."""
    epochs = history["epoch"].to_numpy(dtype=float)
    train, watched = (
        history[name].to_numpy(dtype=float) if name in history else np.full(len(epochs), np.nan)
        for name in ("train_loss", "val_loss")
    )
    if not len(epochs):
        return ""
    held_out = bool(np.isfinite(watched).any())
    curve = watched if held_out else train
    seen = np.isfinite(curve)
    epochs, curve = epochs[seen], curve[seen]
    if not len(curve):
        return ""
    fifth = max(1, len(curve) // 5)
    lowest = int(curve.argmin())
    if held_out and lowest < len(curve) - fifth and curve[-fifth:].mean() > (1 + _RISES) * curve[lowest]:
        return f"The validation loss has risen since epoch {epochs[lowest]:.0f}: stop there, with --patience 20."
    if not held_out and 1 - float(curve[-1]) > r2 + _MEMORISED:
        return (
            f"It explains {_percent(1 - float(curve[-1]))} of the samples it was trained on, so that it knows them by "
            "heart: hold conditions out and stop in time, with --patience 20."
        )
    if len(curve) < _SHORT:
        return f"It was trained for {len(curve)} epochs, too few to tell what is in the way: train longer (--epochs)."
    if curve[-2 * fifth : -fifth].mean() - curve[-fifth:].mean() > _MOVES * curve.max():
        return f"The {'validation' if held_out else 'training'} loss is falling still: train longer (--epochs)."
    return "The losses lie flat: edges are missing; gsnn infer --kinds all says which may be."


def _of(fit: FitReport, name: str) -> float:
    return float(fit.summary["pooled_r2"].get(name, float("nan")))


def _percent(r2: float) -> str:
    return "nothing" if r2 <= 0 else f"{100 * r2:.0f} %"
