"""The registry of methods that rank missing edges: the package's own, and those from outside.

A method of the package has a file in ``edges`` (or in ``discovery``, if it trains models) and one entry of
:data:`METHODS`. A method from outside is added by :func:`register`, or by an entry point ``gsnn.methods`` of an
installed package.
"""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gsnn.base.errors import DataError, check_option
from gsnn.base.memory import in_words, memory_bytes
from gsnn.discovery.learned.inferer import LearnedEdgeInferer, learned_memory
from gsnn.discovery.learned.structure import LearnedStructureEdgeInferer
from gsnn.discovery.stability import StabilityEdgeInferer
from gsnn.discovery.stacked.combined import CombinedEdgeInferer
from gsnn.discovery.stacked.inferer import StackedEdgeInferer
from gsnn.edges.boundary import InputEdgeInferer, OutputEdgeInferer
from gsnn.edges.capture import Criterion, iterate_batches
from gsnn.edges.embedding.inferer import EmbeddingEdgeInferer
from gsnn.edges.gradient.inferer import GradientEdgeInferer
from gsnn.edges.inferer import EdgeInferer
from gsnn.edges.magnitude import MagnitudeEdgeInferer
from gsnn.edges.measured import MeasuredEdgeInferer
from gsnn.edges.pairs import ScoredPairs
from gsnn.edges.rank import RankEdgeInferer
from gsnn.edges.regressor import MagnitudeEdgeRegressor
from gsnn.graph.kinds import KINDS

GROUP = "gsnn.methods"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Method:
    """A way to rank missing edges, as the command line offers it.

    Attributes:
        inferer: The class, made from a model and its graph.
        options: Arguments of its ``evaluate`` and ``top_edges``.
        summary: One line on what it does.
        by_default: Whether a self-check takes it when no method is named; not if it trains models of its own, keeps all
            samples or needs an extra.
        settings: Further arguments of the class.
        other_kinds: The methods of the same name for kinds of edges that ``inferer`` does not score.

    Raises:
        TypeError: If ``inferer`` is no subclass of :class:`gsnn.edges.EdgeInferer`.
    """

    inferer: type[EdgeInferer]
    options: Mapping[str, Any] = field(default_factory=dict)
    summary: str = ""
    by_default: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    other_kinds: Sequence[Method] = ()

    def __post_init__(self) -> None:
        if not (isinstance(self.inferer, type) and issubclass(self.inferer, EdgeInferer)):
            raise TypeError(f"inferer must be a subclass of gsnn.edges.EdgeInferer, got {self.inferer!r}")

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of edges that it can rank."""
        return tuple(kind for kind in KINDS if self.of(kind) is not None)

    def of(self, kind: str) -> Method | None:
        """The method for edges of a kind; None if there is none."""
        return next((each for each in (self, *self.other_kinds) if each.inferer.kind == kind), None)

    def make(
        self,
        model: Any,  # noqa: ANN401 - any model
        data: Any,  # noqa: ANN401 - anything HeteroData-like
        offered: Mapping[str, Any] | None = None,
        **arguments: Any,  # noqa: ANN401 - of the class
    ) -> EdgeInferer:
        """An inferer of a model, not fitted yet.

        Args:
            model: The trained model.
            data: Its graph.
            offered: Arguments that are used if the class has them: ``train``, the settings of a training for those
                that train models of their own, or ``memory_budget``.
            **arguments: Arguments of the class, in place of ``settings``.
        """
        parameters = inspect.signature(self.inferer).parameters
        used = {name: value for name, value in (offered or {}).items() if name in parameters}
        return self.inferer.from_graph(model, data, **{**used, **self.settings, **arguments})


Score = Callable[[Any, Any, Sequence[tuple[Tensor, Tensor]]], npt.ArrayLike]


def of_function(score: Score) -> Method:
    """A method from a function alone.

    Args:
        score: ``score(model, graph, batches)`` with the trained model, its graph and a list of (x, y); returns an
            (N, N) array, [i, j] for the edge i -> j, larger where an edge is likelier.

    Returns:
        The method; its summary is the first line of the function's docstring.

    Example:
        >>> of_function(lambda model, graph, batches: np.zeros((graph.N, graph.N))).kinds
        ('function->function',)
    """

    class FunctionScores(EdgeInferer):
        def fit(
            self,
            dataloader: Iterable[Any],
            crit: Criterion | None = None,
            device: torch.device | str = "cpu",
            verbose: bool = True,
        ) -> int:
            batches = [(batch.x, batch.y) for batch in iterate_batches(dataloader)]
            matrix = np.asarray(score(self.model, self.data, batches), dtype=np.float64)
            if matrix.shape != (self.N, self.N):
                raise ValueError(f"the function must give an array {(self.N, self.N)}, got {matrix.shape}")
            self._score = matrix
            return sum(len(x) for x, _ in batches)

        def scored(self) -> ScoredPairs:
            return ScoredPairs(self.prior, self._score)

    FunctionScores.__name__ = FunctionScores.__qualname__ = getattr(score, "__name__", "FunctionScores")
    return Method(FunctionScores, summary=(score.__doc__ or "").strip().split("\n")[0])


class _Methods(Mapping[str, Method]):
    """Methods by name. Installed packages are searched for a name that is not gsnn's own, and when all are listed."""

    def __init__(self, own: Mapping[str, Method]) -> None:
        self._own, self._added, self._searched = dict(own), dict[str, Method](), False

    def __getitem__(self, name: str) -> Method:
        if name in self._own:
            return self._own[name]
        if name not in self._added:
            self._search()
        return self._added[name]

    def __iter__(self) -> Iterator[str]:
        self._search()
        return iter([*self._own, *self._added])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def add(self, name: str, method: Any) -> None:  # noqa: ANN401 - checked here
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(f"name must be letters, digits, '-', '_' and '.', got {name!r}")
        if name in self._own:
            raise ValueError(f"the method {name!r} is one of gsnn's own; choose another name")
        if callable(method) and not isinstance(method, type | Method):
            method = of_function(method)
        self._added[name] = method if isinstance(method, Method) else Method(method)

    def _search(self) -> None:
        if self._searched:
            return
        self._searched = True
        for point in entry_points(group=GROUP):
            if point.name in self._added:
                continue
            try:
                self.add(point.name, point.load())
            except Exception as error:
                # An error in another package must not stop gsnn's own methods.
                warnings.warn(f"the method {point.name!r} ({point.value}) was left out: {error}", stacklevel=4)


_EXPLAINED_ELSEWHERE = (
    Method(InputEdgeInferer, {"score": "explained"}),
    Method(OutputEdgeInferer, {"score": "explained"}),
)

METHODS = _Methods(
    {
        "learned": Method(
            LearnedEdgeInferer,
            {"score": "learned"},
            "boosted trees that hundreds of problems have taught what a missing edge looks like; trains nothing again",
            by_default=True,
            other_kinds=_EXPLAINED_ELSEWHERE,
        ),
        "combined": Method(
            CombinedEdgeInferer,
            {"score": "combined"},
            "gradient-explained, and what a missing edge looks like among known ones; trains nothing again",
            other_kinds=_EXPLAINED_ELSEWHERE,
        ),
        "gradient": Method(
            GradientEdgeInferer,
            {"score": "regressed", "layer_agg": "mean0"},
            "first-order effect of the edge on the loss, given what the target already receives",
            by_default=True,
        ),
        "gradient-explained": Method(
            GradientEdgeInferer,
            {"score": "explained", "layer_agg": "rss"},
            "share of the target's gradient that the source's activation explains",
            by_default=True,
            other_kinds=_EXPLAINED_ELSEWHERE,
        ),
        "magnitude": Method(
            MagnitudeEdgeInferer,
            {"layer_agg": "mean0"},
            "correlation of activation with gradient magnitudes at adjacent blocks",
            by_default=True,
            other_kinds=(
                Method(InputEdgeInferer, {"score": "magnitude"}),
                Method(OutputEdgeInferer, {"score": "magnitude"}),
            ),
        ),
        "magnitude-partial": Method(
            MagnitudeEdgeInferer,
            {"layer_agg": "mean0", "score": "partial"},
            "the same, given the known parents of the target",
            by_default=True,
        ),
        "measured": Method(
            MeasuredEdgeInferer, {}, "partial correlation of readouts, for functions that are measured themselves"
        ),
        "rank": Method(RankEdgeInferer, {}, "rank correlation of the same; keeps all samples"),
        "regressor": Method(
            MagnitudeEdgeRegressor, {}, "a linear map that learns to predict gradient from activation magnitudes"
        ),
        "embedding": Method(
            EmbeddingEdgeInferer, {}, "vectors of the functions, learnt on walks over known and mined edges"
        ),
        "embedding-directed": Method(
            EmbeddingEdgeInferer,
            {},
            "the same with one vector as a source and one as a target",
            settings={"directed": True},
        ),
        "stacked": Method(
            StackedEdgeInferer,
            {"score": "stacked"},
            "classifiers that learn from hidden known edges, on the graph and the scores of the others; trains again",
        ),
        "stability": Method(
            StabilityEdgeInferer,
            {},
            "how often an edge enters when the network is refined on halves of the conditions; trains again",
        ),
        "structure": Method(
            LearnedStructureEdgeInferer,
            {},
            summary="what a missing edge looks like in the graph alone, without the data: the control of the others",
        ),
    }
)


# The default method: the best of one training on families that it had not seen (benchmarks/learned). The best that
# several processes can share. The default where the features of all pairs do not fit into memory.
DEFAULT_METHOD, SHARED_METHOD, SIMPLER_METHOD = "learned", "combined", "gradient-explained"


def too_large(n: int, memory_budget: int | float | str | None = None) -> str:
    """Why :data:`DEFAULT_METHOD` does not fit into the memory budget for N functions; empty if it does."""
    needed, budget = learned_memory(n), memory_bytes(memory_budget)
    if needed <= budget:
        return ""
    return (
        f"'{DEFAULT_METHOD}' takes {in_words(needed)} for {n} functions, and {in_words(budget)} may be taken "
        "(--memory-budget)"
    )


def default_method(n: int) -> str:
    """:data:`DEFAULT_METHOD` where it fits into the memory for N functions, else :data:`SIMPLER_METHOD`."""
    return SIMPLER_METHOD if too_large(n) else DEFAULT_METHOD


def register(name: str, method: Method | type[EdgeInferer] | Score) -> None:
    """Add a method of your own to :data:`METHODS`, for this program.

    A package adds one for every program, also for ``gsnn infer --method``, by an entry point of the group
    ``gsnn.methods`` that names a :class:`Method`, a subclass of :class:`gsnn.edges.EdgeInferer`, or a function
    (:func:`of_function`).

    Args:
        name: Its name; a method that was registered under that name before is replaced.
        method: The method, or just its inferer or a function that returns the scores.

    Raises:
        ValueError: If the name is one of gsnn's own, or has other characters than letters, digits, '-', '_' and '.'.
        TypeError: If it is neither a :class:`Method` nor an inferer.

    Example:
        >>> from gsnn.edges import MagnitudeEdgeInferer
        >>> register("largest", Method(MagnitudeEdgeInferer, {"layer_agg": "max"}, "the best pair of blocks decides"))
        >>> method_names("largest")
        ['largest']
    """
    METHODS.add(name, method)


def method_names(method: str | Sequence[str]) -> list[str]:
    """Names of methods from a name, several, or a list with commas; each once, in order.

    Raises:
        DataError: If there is none, or no method of that name.

    Example:
        >>> method_names("gradient, magnitude")
        ['gradient', 'magnitude']
    """
    texts = [method] if isinstance(method, str) else method
    names = list(dict.fromkeys(part.strip() for text in texts for part in text.split(",") if part.strip()))
    if not names:
        raise DataError(f"give at least one method: {', '.join(METHODS)}")
    for name in names:
        check_option("method", name, METHODS, DataError)
    return names


def ways(names: Sequence[str], kind: str) -> dict[str, Method]:
    """The methods for edges of a kind, by name; those that cannot rank them are left out.

    Raises:
        DataError: If none of them can.
    """
    methods = {name: method for name in names if (method := METHODS[name].of(kind)) is not None}
    if not methods:
        able = [name for name in METHODS if METHODS[name].of(kind) is not None]
        raise DataError(
            f"{' and '.join(map(repr, names))} cannot rank {kind} edges; add one of {', '.join(able)}, or leave that "
            "kind out"
        )
    return methods
