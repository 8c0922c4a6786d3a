"""What a fit means, in words: how much of unseen conditions it explains, compared with ridge, and what to do next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from gsnn.base.verdict import Verdict

if TYPE_CHECKING:
    import pandas as pd

    from gsnn.training.baselines import FitReport

CLOSE = 0.02  # two predictors explain as much if their R2 differ by no more
_MOVES = 0.02  # a loss is flat if it moved by a smaller share over the last fifth of the epochs
_RISES = 0.05  # a validation loss has risen if it ends above its lowest point by a larger share
_MEMORISED = 0.3  # a model knows its samples by heart if its R2 on them is above that on unseen ones by more
_LEVEL = 0.2  # readouts hardly differ in level if r of the mean of each is smaller
_SHORT = 20  # fewer epochs make curves that say nothing
_LONG = 150  # epochs that are enough for most
_CHECK = "gsnn selfcheck RUN, which says whether edges can be found in these data"
_PATIENCE = 20  # epochs without a better loss after which a training is told to stop
_STOP = f"the same gsnn train with --patience {_PATIENCE}"
_IN_TIME = "--overwrite, which holds conditions out and stops in time"
_FLAT = "The losses lie flat"


def fit_verdict(fit: FitReport, history: pd.DataFrame, *, stopped_early: bool = False) -> Verdict:
    """The fit on unseen conditions in a sentence, and if ridge does better, the cause that the curves show.

    If the validation loss has risen, the advice is ``--patience``; if it still falls, more epochs; if it is flat, the
    network keeps the model from fitting. Without a validation part the training loss is used, and a model that
    explains its training samples much better than unseen conditions counts as one whose loss has risen. A model that
    fits as well as ridge is followed by a self-check.

    Args:
        fit: What the model and the baselines reach on held-out samples.
        history: A row per epoch: epoch, train_loss and val_loss, as :class:`gsnn.training.TrainResult` has them.
        stopped_early: Whether the patience ran out, so that patience is no advice if the loss has risen.

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
    model, ridge, mean = (_r2(fit, name) for name in ("model", "ridge", "mean"))
    if not np.isfinite(model):
        return Verdict(
            "not known",
            "No held-out response varies, so that nothing says how well the model fits.",
            "unsure",
            "gsnn check on the same files: are these the responses you mean, and is more than one condition measured?",
        )
    said = f"The model explains {_percent(model)} of the variance of unseen conditions"
    if np.isfinite(ridge):
        said += f"; ridge regression without a network explains {_percent(ridge)}"
    cause, then = _cause(history, model, stopped_early)
    if model <= 0 or model <= mean:
        return Verdict(
            "no better than a constant",
            f"{said}: what this model says of edges means little. {cause}",
            "bad",
            then or "gsnn check on the same files: do names, doses and times say what you think?",
        )
    if not np.isfinite(ridge) or model > ridge + CLOSE:
        return Verdict("fits", f"{said}. A good fit alone does not show that the network is right.", "good", _CHECK)
    if model >= ridge - CLOSE:
        return Verdict("fits as ridge does", f"{said}: the network adds nothing to the prediction.", "unsure", _CHECK)
    if cause.startswith(_FLAT):
        said += ": the network as it stands keeps the model from fitting"
        cause += " Edges are missing, perhaps of several kinds."
    then = then or "gsnn selfcheck RUN --kinds all, then gsnn infer RUN --kinds all: edges of every kind may be missing"
    return Verdict("worse than ridge", f"{said}. {cause}", "bad", then)


def r_meaning(r: Mapping[str, float]) -> str:
    """Why r in the units of the data can be high where R2 is not: it counts how readouts differ in level, if they do.

    Args:
        r: By predictor, as :attr:`gsnn.training.baselines.FitReport.correlation`.

    Example:
        >>> r_meaning({"model": 0.95, "mean": 0.943})
        'it counts how readouts differ in level, so that the mean of each alone reaches 0.943; R2 does not'
        >>> r_meaning({"model": 0.88, "mean": -0.07})
        'it overlooks predictions that are too small or too large, and readouts with large values lead it; R2 does not'
    """
    mean = r.get("mean", float("nan"))
    if mean < _LEVEL:
        return (
            "it overlooks predictions that are too small or too large, and readouts with large values lead it; "
            "R2 does not"
        )
    if not np.isfinite(mean):
        return "it counts how readouts differ in level, which R2 leaves out"
    return f"it counts how readouts differ in level, so that the mean of each alone reaches {mean:.3f}; R2 does not"


def _cause(history: pd.DataFrame, r2: float, stopped_early: bool) -> tuple[str, str]:
    """The cause that the curves show, and what to do about it; nothing to do if more or less training cannot help."""
    epochs = history["epoch"].to_numpy(dtype=float)
    train, watched = (
        history[name].to_numpy(dtype=float) if name in history else np.full(len(epochs), np.nan)
        for name in ("train_loss", "val_loss")
    )
    if not len(epochs):
        return "", ""
    held_out = bool(np.isfinite(watched).any())
    curve = watched if held_out else train
    seen = np.isfinite(curve)
    epochs, curve = epochs[seen], curve[seen]
    if not len(curve):
        return "", ""
    more = f"the same gsnn train with --resume --epochs {max(_LONG, 2 * len(curve))}"
    # A patience that is as long as the training would never run out.
    longer = "" if len(curve) > 2 * _PATIENCE else f" --epochs {_LONG}"
    stop = f"{_STOP}{longer} {_IN_TIME}"
    fifth = max(1, len(curve) // 5)
    lowest = int(curve.argmin())
    if held_out and lowest < len(curve) - fifth and curve[-fifth:].mean() > (1 + _RISES) * curve[lowest]:
        risen = f"The validation loss has risen since epoch {epochs[lowest]:.0f}"
        if stopped_early:
            return f"{risen}, and training has stopped for it.", ""
        return f"{risen}: from there on the model learns noise by heart.", stop
    if not held_out and 1 - float(curve[-1]) > max(r2, 0) + _MEMORISED:
        return (
            f"It explains {_percent(1 - float(curve[-1]))} of the samples it was trained on, so that it knows them by "
            "heart.",
            stop,
        )
    if len(curve) < _SHORT:
        return f"It was trained for {len(curve)} epochs, too few to tell what is in the way: train longer.", more
    if curve[-2 * fifth : -fifth].mean() - curve[-fifth:].mean() > _MOVES * curve.max():
        return f"The {'validation' if held_out else 'training'} loss is falling still: train longer.", more
    return f"{_FLAT}.", ""


def _r2(fit: FitReport, name: str) -> float:
    return float(fit.summary["pooled_r2"].get(name, float("nan")))


def _percent(r2: float) -> str:
    return "nothing" if r2 <= 0 else f"{100 * r2:.0f} %"
