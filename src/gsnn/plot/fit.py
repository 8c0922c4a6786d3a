"""How training went, and how well the model fits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gsnn.plot.axes import CANDIDATE, GUIDE, PROPOSED, axes
from gsnn.training.baselines import readout_metrics

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_MAX_READOUTS = 8  # more colours than that cannot be told apart
LOSSES = {"train_loss": "training", "val_loss": "validation"}


def loss_curves(history: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Losses over the epochs, with a dot at the lowest validation loss.

    Args:
        history: A row per epoch: ``epoch`` and columns whose names end in ``loss``, as ``TrainResult.history``,
            ``Run.metrics()`` and ``GSNNRegressor.history_`` have it.
        ax: Where to draw; None makes a figure.

    Returns:
        The axes, with one line per loss that has a value.

    Raises:
        ValueError: If there is no column of losses.

    Example:
        >>> import pandas as pd
        >>> from matplotlib.figure import Figure
        >>> history = pd.DataFrame({"epoch": [1, 2], "train_loss": [1.0, 0.5], "val_loss": [1.1, 0.9]})
        >>> ax = loss_curves(history, ax=Figure().subplots())
        >>> ax.lines[0].get_ydata().tolist()
        [1.0, 0.5]
    """
    columns = [name for name in history.columns if str(name).endswith("loss")]
    if "epoch" not in history.columns or not columns:
        raise ValueError(f"history must have 'epoch' and columns ending in 'loss', got {list(history.columns)}")
    ax = axes(ax)
    epoch = history["epoch"].to_numpy()
    for name in columns:
        values = history[name].to_numpy(dtype=np.float64)
        if np.isnan(values).all():
            continue
        color = CANDIDATE if name == "train_loss" else PROPOSED if name == "val_loss" else None
        ax.plot(epoch, values, label=LOSSES.get(name, str(name)), color=color)
        if name == "val_loss":
            best = int(np.nanargmin(values))
            ax.plot(epoch[best], values[best], "o", color=color, label=f"lowest, epoch {epoch[best]}")
    ax.set(xlabel="epoch", ylabel="loss")
    if ax.lines:
        ax.legend()
    return ax


def observed_predicted(
    observed: Any,  # noqa: ANN401 - an array or a DataFrame
    predicted: Any,  # noqa: ANN401
    *,
    ax: Axes | None = None,
) -> Axes:
    """Observed against predicted responses, one dot per measured value, with the line of perfect prediction.

    Up to 8 readouts have a colour each, and their R2 in the legend; more share one colour.

    Args:
        observed: (M, O) or (M,), NaN where nothing was measured; the columns of a DataFrame name the readouts.
        predicted: The same shape.
        ax: Where to draw; None makes a figure.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> from matplotlib.figure import Figure
        >>> ax = observed_predicted([1.0, float("nan"), 3.0], [1.5, 2.0, 2.5], ax=Figure().subplots())
        >>> ax.collections[0].get_offsets().tolist()
        [[1.0, 1.5], [3.0, 2.5]]
    """
    names = [str(name) for name in getattr(observed, "columns", [])]
    y, prediction = (np.asarray(values, dtype=np.float64) for values in (observed, predicted))
    y, prediction = (values[:, None] if values.ndim == 1 else values for values in (y, prediction))
    r2 = readout_metrics(y, prediction)["r2"]
    ax = axes(ax)
    seen = ~(np.isnan(y) | np.isnan(prediction))
    style: dict[str, Any] = {"s": 14, "alpha": 0.7, "linewidths": 0}
    if y.shape[1] <= _MAX_READOUTS:
        for j in range(y.shape[1]):
            label = (names[j] if names else f"readout {j}" if y.shape[1] > 1 else "") + f" R² {r2[j]:.2f}"
            ax.scatter(y[seen[:, j], j], prediction[seen[:, j], j], label=label.strip(), **style)
    else:
        ax.scatter(y[seen], prediction[seen], color=CANDIDATE, label=f"{y.shape[1]} readouts", **style)
    if seen.any():
        ends = [float(f([y[seen], prediction[seen]])) for f in (np.min, np.max)]
        ax.plot(ends, ends, color=GUIDE, linestyle="--", zorder=0, label="perfect")
        ax.legend(fontsize="small")
    ax.set(xlabel="observed", ylabel="predicted", aspect="equal")
    ax.set_adjustable("datalim")
    return ax
