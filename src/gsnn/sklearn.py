"""A GSNN as a scikit-learn estimator: `cross_val_score`, pipelines and grid search take it like any other.

The training is that of :mod:`gsnn.training`; the estimator adds the bookkeeping that scikit-learn expects.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_array, check_consistent_length, check_is_fitted, validate_data

from gsnn.base.arrays import FloatArray, IntArray
from gsnn.base.errors import check_option, closest
from gsnn.graph import Graph
from gsnn.training.config import TrainConfig

if TYPE_CHECKING:
    import pandas as pd

    from gsnn.edges import EdgeInferer


_Y_RULES = {"dtype": np.float64, "ensure_2d": False, "ensure_all_finite": "allow-nan"}
_BATCH = 256  # of edge inference, whose statistics do not depend on it

__all__ = ["GSNNRegressor"]


class GSNNRegressor(RegressorMixin, BaseEstimator):
    """A graph structured neural network with ``fit``, ``predict`` and ``score``.

    Responses are standardised inside (means and standard deviations of the training samples) and predicted in their
    own units; inputs are used unchanged, so put a ``StandardScaler`` before it where they need one. A NaN in ``y`` is a
    missing response, which is left out. A NaN in ``X`` is refused. Global random generators are neither read nor
    changed.

    Without a graph, every input acts on every readout: one function node per input, one per readout, all pairs
    joined. Such a model knows nothing of a network and is what a graph should be compared with.

    Args:
        graph: The prior network, a :class:`gsnn.Graph` or anything HeteroData-like; None for the dense one. The
            columns of a DataFrame are matched with ``graph.inputs`` and ``graph.outputs`` by name, in any order, the
            columns of an array by position.
        channels: Channels C of every function node.
        layers: Residual blocks L.
        norm: One of ``gsnn.training.NORMS``.
        dropout: Probability of dropping a channel, in [0, 1).
        share_layers: One set of sparse weights for all blocks.
        add_function_self_edges: Give every function node an edge to itself.
        residual: Add each block to the edge state instead of replacing it.
        epochs: Passes over the samples, at most.
        lr: Learning rate of AdamW.
        weight_decay: Decoupled weight decay.
        batch_size: Samples B per step.
        patience: Stop after this many epochs without a better validation loss; None trains for all ``epochs``.
        min_delta: How much lower a validation loss must be to count as better.
        restore_best: Keep the weights of the epoch with the lowest validation loss.
        validation: Share of the conditions (distinct rows of ``X``) held out for ``patience`` and ``restore_best``;
            without them every sample is trained on.
        random_state: Fixes the weights, the order of the samples and the dropout: an int, a numpy ``RandomState`` or
            ``Generator`` to draw one from, or None for one of the operating system's (see ``seed_``).
        device: Where to train, such as ``"cpu"`` or ``"cuda"``.
        verbose: Show progress on stderr.

    Attributes:
        model_: The trained :class:`gsnn.GSNN`, on the CPU and in eval mode; predicts standardised responses.
        early_model_: The model when most was learnt, from which edges are inferred.
        graph_: The graph it was built from.
        standardiser_: Means and scales of the responses, (O,) each, in the order of ``graph_.outputs``.
        history_: A row per epoch: epoch (from 1), train_loss, val_loss, val_r2, lr, seconds.
        seed_: The seed that was used; ``random_state=seed_`` repeats the fit.
        n_features_in_: Number of inputs I.
        feature_names_in_: Names of the columns of ``X``, if it had any.
        output_names_: Names of the O columns of predictions: those of ``y``, else of the outputs.

    Example:
        >>> from gsnn.simulation import convergence_graph, simulate
        >>> from gsnn.graph import nx2pyg
        >>> full, inputs, functions, outputs, _ = convergence_graph(4)
        >>> X, _, y, _ = simulate(full, 60, 1, inputs, outputs, noise_scale=0.1, seed=0)
        >>> graph = nx2pyg(full, inputs, functions, outputs)
        >>> model = GSNNRegressor(graph, channels=4, layers=4, epochs=30, random_state=0).fit(X, y)
        >>> model.predict(X).shape, model.score(X, y) > 0.3
        ((60, 4), True)
        >>> list(model.infer_edges(X, y, top=5).columns[:4])
        ['source', 'target', 'kind', 'score']
    """

    def __init__(
        self,
        graph: Any = None,  # noqa: ANN401 - Graph or anything HeteroData-like
        *,
        channels: int = TrainConfig.channels,
        layers: int = TrainConfig.layers,
        norm: str = TrainConfig.norm,
        dropout: float = TrainConfig.dropout,
        share_layers: bool = TrainConfig.share_layers,
        add_function_self_edges: bool = TrainConfig.add_function_self_edges,
        residual: bool = TrainConfig.residual,
        epochs: int = TrainConfig.epochs,
        lr: float = TrainConfig.lr,
        weight_decay: float = TrainConfig.weight_decay,
        batch_size: int = TrainConfig.batch_size,
        patience: int | None = None,
        min_delta: float = TrainConfig.min_delta,
        restore_best: bool = TrainConfig.restore_best,
        validation: float = TrainConfig.validation,
        random_state: int | np.random.RandomState | np.random.Generator | None = None,
        device: str = "cpu",
        verbose: bool = False,
    ) -> None:
        self.graph = graph
        self.channels = channels
        self.layers = layers
        self.norm = norm
        self.dropout = dropout
        self.share_layers = share_layers
        self.add_function_self_edges = add_function_self_edges
        self.residual = residual
        self.epochs = epochs
        self.lr = lr
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.patience = patience
        self.min_delta = min_delta
        self.restore_best = restore_best
        self.validation = validation
        self.random_state = random_state
        self.device = device
        self.verbose = verbose

    def fit(self, X: Any, y: Any) -> Self:  # noqa: ANN401 - scikit-learn's names and types
        """Train on samples.

        Args:
            X: (M, I), an array or a DataFrame.
            y: (M,) or (M, O), likewise, NaN where nothing was measured.

        Raises:
            ValueError: If names, shapes or values do not fit each other or the graph, or a parameter is out of range.
            TypeError: If a parameter has the wrong type.
            TrainingError: If the loss becomes infinite or NaN.
        """
        from gsnn.data import Standardiser
        from gsnn.nn import GSNN
        from gsnn.training import train_model
        from gsnn.training.loop import build_model

        names = _strings(getattr(y, "columns", None))
        rules = {"dtype": np.float64, "ensure_min_samples": 2}
        X, y = validate_data(self, X, y, validate_separately=(rules, _Y_RULES))
        check_consistent_length(X, y)
        seed = _seed(self.random_state)
        fields, parameters = TrainConfig.__dataclass_fields__, self.get_params(deep=False).items()
        # A grid of settings often holds numpy scalars.
        settings = {n: v.item() if isinstance(v, np.generic) else v for n, v in parameters if n in fields}
        config = TrainConfig(**settings, seed=seed, test=1e-9)  # nothing is held out for a test here
        flat = y.ndim == 1
        if flat:
            y = y[:, None]
        graph = _dense(X.shape[1], y.shape[1]) if self.graph is None else Graph.coerce(self.graph)
        if self.graph is None:
            inputs, outputs = np.arange(graph.I), np.arange(graph.O)
        else:
            columns = _strings(getattr(self, "feature_names_in_", None))
            inputs = _positions(columns, graph.inputs, X.shape[1], "X", "inputs")
            outputs = _positions(names, graph.outputs, y.shape[1], "y", "outputs")
        x, targets = X[:, inputs].astype(np.float32), y[:, outputs]
        seen = ~np.isnan(targets).all(axis=1)
        if not seen.any():
            raise ValueError("y holds no measured response; there is nothing to learn from")
        x, targets = x[seen], targets[seen]
        train, held = self._parts(x, config)
        standardiser = Standardiser.fit(targets[train])
        scaled = standardiser.transform(targets)
        model = build_model(lambda: GSNN.from_graph(graph, **config.model_options()), seed)
        trained = train_model(
            model,
            (x[train], scaled[train]),
            None if held is None else (x[held], scaled[held]),
            config,
            progress=bool(self.verbose),
            device=self.device,
        )
        self.model_, self.graph_, self.standardiser_ = model, graph, standardiser
        self.early_model_ = trained.reading_model
        self.history_, self.seed_ = trained.history, seed
        self.output_names_ = np.asarray(names if names is not None else graph.outputs, dtype=object)
        self._input_columns, self._output_columns, self._flat, self._config = inputs, outputs, flat, config
        return self

    def predict(self, X: Any) -> FloatArray:  # noqa: ANN401
        """Predict the responses, in the units of ``y``.

        Args:
            X: (M, I), with the columns of ``fit``.

        Returns:
            (M, O) with the columns of the ``y`` of ``fit``, or (M,) if that had one dimension. NaN for a readout
            that was never measured.

        Raises:
            NotFittedError: Before ``fit``.
            ValueError: If ``X`` does not fit.
        """
        from gsnn.training import predict

        x = self._inputs(X)
        result = np.empty((len(x), len(self._output_columns)))
        result[:, self._output_columns] = self.standardiser_.inverse_transform(predict(self.model_, x))
        return result[:, 0] if self._flat else result

    def score(self, X: Any, y: Any) -> float:  # noqa: ANN401
        """R2 over the observed responses, averaged over the readouts whose R2 is defined.

        Without missing values and constant readouts that is :func:`sklearn.metrics.r2_score`.

        Args:
            X: (M, I).
            y: (M,) or (M, O), NaN where nothing was measured.

        Returns:
            At most 1; NaN if no readout has two values that differ.
        """
        from gsnn.training.baselines import readout_metrics

        prediction = self.predict(X)
        if self._flat:
            prediction = prediction[:, None]
        r2 = readout_metrics(self._responses(y, len(prediction)), prediction)["r2"]
        return float(r2[~np.isnan(r2)].mean()) if not np.isnan(r2).all() else float("nan")

    def edge_inferer(self, X: Any, y: Any, method: str | None = None, **options: Any) -> EdgeInferer:  # noqa: ANN401
        """An edge inferer that is fitted to the samples; its own methods give tables, matrices and more.

        Args:
            X: (M, I) samples to infer from, usually those of ``fit``.
            y: (M,) or (M, O).
            method: A name of ``gsnn.discovery.METHODS``; None: ``gsnn.discovery.DEFAULT_METHOD``.
            **options: Arguments of the inferer's constructor.

        Raises:
            ValueError: If the method is unknown, the data do not fit, or there is no prior graph.
            RuntimeError: If the model has fewer than 2 layers.
        """
        import torch

        from gsnn.discovery.methods import METHODS, default_method
        from gsnn.nn.losses import masked_mse

        check_is_fitted(self)
        method = default_method(0 if self.graph is None else self.graph.N) if method is None else method
        check_option("method", method, METHODS)
        if self.graph is None:
            raise ValueError("edges are inferred against a prior network; pass graph= to the estimator")
        x = torch.as_tensor(self._inputs(X))
        targets = self.standardiser_.transform(self._responses(y, len(x))[:, self._output_columns])
        t = torch.as_tensor(targets, dtype=torch.float32)
        inferer = METHODS[method].make(self.early_model_, self.graph_, {"train": self._config}, **options)
        batches = list(zip(x.split(_BATCH), t.split(_BATCH), strict=True))
        inferer.fit(batches, crit=masked_mse, verbose=bool(self.verbose))
        return inferer

    def infer_edges(
        self,
        X: Any,  # noqa: ANN401
        y: Any,  # noqa: ANN401
        method: str | None = None,
        *,
        top: int | None = None,
        known: bool = False,
        **options: Any,  # noqa: ANN401
    ) -> pd.DataFrame:
        """Rank the edges that the graph lacks, as ``gsnn infer`` does.

        Args:
            X: (M, I) samples to infer from, usually those of ``fit``.
            y: (M,) or (M, O).
            method: A name of ``gsnn.discovery.METHODS``; None: ``gsnn.discovery.DEFAULT_METHOD``.
            top: Keep only so many candidates; None keeps all.
            known: Add the known edges after the candidates, without rank.
            **options: Arguments of the inferer's ``evaluate`` that replace the method's own.

        Returns:
            Best first, with the columns of ``edges.csv``: source, target, score, rank (1 is best), p, q, known and so
            on.

        Raises:
            ValueError: As for :meth:`edge_inferer`, or if ``top`` is below 1.
        """
        from gsnn.discovery.methods import METHODS, default_method
        from gsnn.runs.infer import edge_table

        method = default_method(0 if self.graph is None else self.graph.N) if method is None else method
        if top is not None and top < 1:
            raise ValueError(f"top must be at least 1, got {top}; leave it out for every candidate")
        inferer = self.edge_inferer(X, y, method)
        table = inferer.evaluate(**{**METHODS[method].options, **options})
        edges = edge_table(table, inferer.score_name, known=known)
        return edges if top is None else edges[edges["rank"].isna() | (edges["rank"] <= top)]

    def __sklearn_tags__(self) -> Any:  # noqa: ANN401 - sklearn's Tags
        """Several responses at once are fine."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _parts(self, x: Any, config: TrainConfig) -> tuple[Any, IntArray | None]:  # noqa: ANN401
        """Rows for training and for validation, split by condition as in the run folders."""
        if not config.uses_validation:
            return slice(None), None
        from gsnn.data.split import conditions, draw_split

        split = draw_split(conditions(x), **config.split_options() | {"test": 0.0})
        return split.train, split.validation

    def _inputs(self, X: Any) -> npt.NDArray[np.float32]:  # noqa: ANN401
        """Checked samples in the order of the graph's inputs."""
        check_is_fitted(self)
        x = validate_data(self, X, reset=False, dtype=np.float64)
        inputs: npt.NDArray[np.float32] = x[:, self._input_columns].astype(np.float32)
        return inputs

    def _responses(self, y: Any, n: int) -> FloatArray:  # noqa: ANN401
        """Checked responses (M, O) with the columns of the ``y`` of ``fit``."""
        names = _strings(getattr(y, "columns", None))
        values = check_array(y, input_name="y", **_Y_RULES)
        values = values[:, None] if values.ndim == 1 else values
        if len(values) != n:
            raise ValueError(f"X and y must have the same number of samples, got {n} and {len(values)}")
        result: FloatArray = values[:, _positions(names, tuple(self.output_names_), values.shape[1], "y", "outputs")]
        return result


def _dense(n_inputs: int, n_outputs: int) -> Graph:
    """Every input has a function node that feeds the function node of every readout."""
    f = np.arange(n_inputs)
    g = n_inputs + np.arange(n_outputs)
    return Graph(
        {
            ("input", "to", "function"): np.stack([f, f]),
            ("function", "to", "function"): np.stack([np.repeat(f, n_outputs), np.tile(g, n_inputs)]),
            ("function", "to", "output"): np.stack([g, np.arange(n_outputs)]),
        },
        {
            "input": [f"x{i}" for i in range(n_inputs)],
            "function": [f"f{i}" for i in range(n_inputs)] + [f"g{i}" for i in range(n_outputs)],
            "output": [f"y{i}" for i in range(n_outputs)],
        },
    )


def _strings(names: Any) -> list[str] | None:  # noqa: ANN401 - an index, an array, or None
    """Names of columns, if all of them are text."""
    if names is None or not all(isinstance(name, str) for name in names):
        return None
    return [str(name) for name in names]


def _positions(names: list[str] | None, nodes: Sequence[str], width: int, table: str, kind: str) -> IntArray:
    """Where each node stands among the columns."""
    if names is None:
        if width != len(nodes):
            raise ValueError(f"{table} must have a column for each of the {len(nodes)} {kind}, got {width} columns")
        return np.arange(width)
    repeated = sorted(name for name, n in Counter(names).items() if n > 1)
    if repeated:
        raise ValueError(f"{table} has columns of the same name: {', '.join(map(repr, repeated[:5]))}; rename them")
    place, known = {name: i for i, name in enumerate(names)}, set(nodes)
    missing = [node for node in nodes if node not in place]
    unknown = [name for name in names if name not in known]
    if missing or unknown:
        parts = []
        if missing:
            parts.append(f"lacks {len(missing)} of the {len(nodes)} {kind}: {', '.join(map(repr, missing[:5]))}")
        if unknown:
            near = closest(unknown[0], nodes, 1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            parts.append(f"has columns that are none: {', '.join(map(repr, unknown[:5]))}{hint}")
        wrong = " and ".join(parts)
        raise ValueError(f"{table} {wrong}; name the columns as the graph does, or pass an array in its order")
    return np.array([place[node] for node in nodes], dtype=np.int64)


def _seed(random_state: Any) -> int:  # noqa: ANN401 - all that scikit-learn allows
    """One seed for the training, without reading or changing the global generator."""
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    if isinstance(random_state, int | np.integer) and not isinstance(random_state, bool):
        if random_state < 0:
            raise ValueError(f"random_state must be at least 0, got {random_state}")
        return int(random_state)
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**31))
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31 - 1))
    raise TypeError(f"random_state must be an int, a RandomState, a Generator or None, got {random_state!r}")
