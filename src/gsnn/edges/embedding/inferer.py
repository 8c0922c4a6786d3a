"""Node embeddings of the graph of known and mined edges."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from gsnn.base.errors import check_option
from gsnn.base.progress import track
from gsnn.base.torch_state import one_thread
from gsnn.edges.capture import Criterion
from gsnn.edges.embedding.mining import STRATEGIES, mine_edges
from gsnn.edges.embedding.skipgram import Draw, train_epoch
from gsnn.edges.embedding.walks import NegativeSampler, WalkGraph, random_walks, window_pairs
from gsnn.edges.inferer import EdgeInferer, EdgeScores
from gsnn.edges.magnitude import MagnitudeEdgeInferer
from gsnn.edges.pairs import ScoredPairs, edge_indices
from gsnn.graph.checks import EDGE_TYPES
from gsnn.metrics import roc_auc

_INITIAL_SCALE = 0.1
# Numbers in a table up to which one thread trains it faster than several.
_SMALL_TABLE = 2**15


class MagnitudeEdgeKGE(EdgeScores, nn.Module):
    r"""Embedding of the function nodes, from random walks over known and mined edges (GSNN spec 2.4).

    The best candidates of a fitted inferer are added to the known edges. Random walks on that graph, their windows and
    skip-gram with negative sampling give one vector per node; the score of i -> j is
    :math:`e_i^\top e_j`. Walks have no return or in-out parameter (node2vec with p = q = 1), so this is DeepWalk on
    a weighted graph.

    The score is symmetric, so it cannot tell an edge from its reverse, and on small graphs it does not beat the
    correlations it was mined from. :class:`DirectedMagnitudeEdgeKGE` has one vector per role.

    A transition has weight max(score, 0)^walk_alpha; an edge that leads both ways has the larger of the two. Known
    edges weigh at least as much as the strongest mined one, 1 where none has a positive weight. A mined edge of
    weight 0 is never walked.

    The table and the optimiser are on the device of the module, everything else on the CPU. ``true_heads``,
    ``true_tails``, ``inferred_heads``, ``inferred_tails``, ``pos_heads``, ``pos_tails`` (int64) and ``pos_mask``
    (bool (N, N), ``pos_mask[head, tail]``) may be assigned to, for ablations; call ``_build_adjacency()`` after.

    Args:
        mei: A fitted inferer with the table of :meth:`MagnitudeEdgeInferer.evaluate`; only its public interface is
            used.
        embedding_dim: d; there are N * d parameters.
        score: Score of the inferer.
        layer_agg: Its aggregation over layer pairs.
        mining_strategy: 'fdr': candidates with q <= ``fdr_alpha``; 'topk_per_target': the ``top_k_per_target`` best
            sources of each target.
        fdr_alpha: Level of 'fdr'.
        top_k_per_target: Number for 'topk_per_target'; may be 0 with 'fdr'.
        exclude_edges: (source, target) names that are never mined; in validation they are no negatives either.
        walks_per_node: Walks that start at each node, in every epoch.
        walk_length: Nodes of a walk, its start included.
        window_size: Largest distance of a context pair in a walk.
        n_negatives: Drawn pairs per context pair, uniform among the nodes that are not the node itself and not in its
            row of ``pos_mask``. The reverse of a one-way edge can be drawn, which gave better results than leaving it
            out.
        walk_undirected: Whether edges are walked both ways.
        walk_corr_weighted: False makes all transitions of a node equally likely.
        walk_alpha: Exponent of the weights; 0 makes all transitions of a node equally likely.
        kept_edge_weight: Weight of the known edges in place of the rule above.
        lr: Learning rate of AdamW.
        weight_decay: Decoupled weight decay.
        p_method: Which p-values of the inferer 'fdr' uses; None for its default.

    Attributes:
        pairs_per_epoch: Number of context pairs in each epoch of the last ``fit``.
        model: The model of ``mei``, if it has one.
        data: Its prior graph, if it has one.

    Raises:
        RuntimeError: If the inferer has seen fewer than 3 samples.
        ValueError: If an option is out of range or an excluded edge names an unknown node.

    Example:
        >>> class Fitted:  # stands for a fitted MagnitudeEdgeInferer
        ...     N, n, function_nodes, edges = 3, 100, ["a", "b", "c"], [("a", "b")]
        ...     def evaluate(self, **options):
        ...         return pd.DataFrame({"src_func": ["b", "a"], "dst_func": ["c", "b"], "src_idx": [1, 0],
        ...                              "dst_idx": [2, 1], "corr": [0.8, 0.1], "has_edge": [False, True],
        ...                              "q_value": [0.001, float("nan")]})
        >>> embedding = MagnitudeEdgeKGE(Fitted(), embedding_dim=4)
        >>> len(embedding.fit(n_epochs=3, verbose=False)["train_loss"]), len(embedding.evaluate())
        (3, 6)
    """

    true_heads: Tensor
    true_tails: Tensor
    inferred_heads: Tensor
    inferred_tails: Tensor
    pos_heads: Tensor
    pos_tails: Tensor
    pos_mask: Tensor

    #: Whether the score can tell an edge from its reverse.
    directed: ClassVar[bool] = False

    @classmethod
    def from_graph(cls, model: nn.Module, graph: Any, **options: Any) -> EmbeddingEdgeInferer:  # noqa: ANN401
        """The same for a model, its graph and a loader; see :class:`EmbeddingEdgeInferer`, whose options these are."""
        return EmbeddingEdgeInferer(model, graph, directed=cls.directed, **options)

    def __init__(
        self,
        mei: Any,  # noqa: ANN401 - any fitted inferer
        *,
        embedding_dim: int = 64,
        score: str = "corr",
        layer_agg: str = "max",
        mining_strategy: str = "fdr",
        fdr_alpha: float = 0.05,
        top_k_per_target: int = 5,
        exclude_edges: Iterable[tuple[str, str]] = (),
        walks_per_node: int = 20,
        walk_length: int = 10,
        window_size: int = 5,
        n_negatives: int = 5,
        walk_undirected: bool = True,
        walk_corr_weighted: bool = True,
        walk_alpha: float = 1.0,
        kept_edge_weight: float | None = None,
        lr: float = 1e-2,
        weight_decay: float = 1e-4,
        p_method: str | None = None,
    ) -> None:
        nn.Module.__init__(self)
        check_option("mining_strategy", mining_strategy, STRATEGIES)
        least = {"embedding_dim": 1, "walks_per_node": 1, "walk_length": 2, "window_size": 1, "n_negatives": 0}
        least["top_k_per_target"] = 0 if mining_strategy == "fdr" else 1
        arguments = locals()
        for name, low in least.items():
            if arguments[name] < low:
                raise ValueError(f"{name} must be at least {low}, got {arguments[name]}")
        for name in ("fdr_alpha", "walk_alpha", "kept_edge_weight", "lr", "weight_decay"):
            if arguments[name] is not None and not arguments[name] >= 0:
                raise ValueError(f"{name} must not be negative, got {arguments[name]}")
        if mei.n < 3:
            raise RuntimeError(f"mei has seen {mei.n} samples; call mei.fit with at least 3 before the embedding")

        names = list(mei.function_nodes)
        # A set has another order in another process.
        known = edge_indices(sorted(mei.edges), {name: i for i, name in enumerate(names)}, "mei.edges")
        prior = {EDGE_TYPES[0]: torch.from_numpy(known.copy())}
        graph = SimpleNamespace(node_names_dict={"function": names}, edge_index_dict=prior)
        EdgeScores.__init__(self, getattr(mei, "model", None), graph)
        self.data = getattr(mei, "data", None)
        self.embedding_dim = int(embedding_dim)
        self.walks_per_node, self.walk_length, self.window_size = walks_per_node, walk_length, window_size
        self.n_negatives, self.walk_undirected = n_negatives, walk_undirected
        self.walk_alpha = float(walk_alpha) if walk_corr_weighted else 0.0
        self.kept_edge_weight = kept_edge_weight
        self.lr, self.weight_decay = lr, weight_decay
        self._excluded = self._index(exclude_edges, "exclude_edges")

        options = {} if p_method is None else {"p_method": p_method}
        table = mei.evaluate(layer_agg=layer_agg, score=score, exclude_self=True, **options)
        column = next(c for c in (score, "score", "corr") if c in table.columns)
        self._collect(table, column, mining_strategy, fdr_alpha, top_k_per_target)
        self._build_adjacency()
        with torch.inference_mode(False):
            # A table made under inference mode could not be trained.
            self._make_tables()
        self._draw_tables(torch.Generator().manual_seed(0))
        self._best: dict[str, Tensor] | None = None
        self._best_auc = float("nan")
        self.pairs_per_epoch: list[int] = []

    def _collect(self, table: pd.DataFrame, column: str, strategy: str, alpha: float, k: int) -> None:
        """Set the known and mined edges, and the scores that give their weights."""
        source, target = (_column(table, name, np.int64) for name in ("src_idx", "dst_idx"))
        self._scores = torch.full((self.N, self.N), torch.nan, dtype=torch.float64)
        self._scores[source, target] = _column(table, column, np.float64)
        known = torch.from_numpy(self.prior.pairs)
        self.true_heads, self.true_tails = known[:, known[0] != known[1]]
        if self._excluded.shape[1]:
            excluded = self._mask(*self._excluded)[source, target].numpy()
            table = table[~excluded]
        mined = mine_edges(table, column, strategy, fdr_alpha=alpha, top_k_per_target=k)
        self.inferred_heads = _column(mined, "src_idx", np.int64)
        self.inferred_tails = _column(mined, "dst_idx", np.int64)
        self.pos_heads = torch.cat([self.true_heads, self.inferred_heads])
        self.pos_tails = torch.cat([self.true_tails, self.inferred_tails])
        self.pos_mask = self._mask(self.pos_heads, self.pos_tails)

    def _index(self, edges: Iterable[tuple[str, str]], parameter: str) -> Tensor:
        """(2, K) indices of edges given by name."""
        return torch.from_numpy(edge_indices(edges, self.prior.index, parameter).copy())

    def _mask(self, heads: Tensor, tails: Tensor) -> Tensor:
        mask = torch.zeros(self.N, self.N, dtype=torch.bool)
        mask[heads, tails] = True
        return mask

    def _build_adjacency(self) -> None:
        """Rebuild the walk graph from ``pos_heads`` and ``pos_tails``."""
        heads, tails = self.pos_heads, self.pos_tails
        known = self._mask(self.true_heads, self.true_tails)[heads, tails]
        if self.walk_alpha == 0:
            weights = torch.ones(len(heads), dtype=torch.float64)
        else:
            weights = self._scores[heads, tails].nan_to_num(nan=0.0).clamp(min=0) ** self.walk_alpha
            strongest = float(weights[~known].max()) if bool((~known).any()) else 0.0
            weights[known] = weights[known].clamp(min=strongest if strongest > 0 else 1.0)
        if self.kept_edge_weight is not None:
            weights[known] = self.kept_edge_weight
        self._walk_graph = WalkGraph.build(heads, tails, weights, self.N, undirected=self.walk_undirected)

    def _make_tables(self) -> None:
        self.embedding = nn.Parameter(torch.empty(self.N, self.embedding_dim))

    @torch.no_grad()
    def _draw_tables(self, generator: torch.Generator) -> None:
        for table in self.parameters():
            table.copy_(torch.randn(table.shape, generator=generator) * _INITIAL_SCALE)

    def _tables(self) -> tuple[Tensor, Tensor]:
        """(N, d) vectors of nodes as sources and as targets."""
        return self.embedding, self.embedding

    def _negatives(self, generator: torch.Generator) -> tuple[Draw, int]:
        """A function from context pairs to drawn pairs, and the number drawn for each."""
        sampler = NegativeSampler(self.pos_mask, generator)

        def draw(positives: Tensor) -> tuple[Tensor, Tensor]:
            row, drawn = sampler.draw(positives[:, 0], self.n_negatives)
            return row, torch.stack([positives[row, 0], drawn], 1)

        return draw, self.n_negatives

    def fit(
        self,
        n_epochs: int = 100,
        batch_size: int = 2048,
        validation_edges: Iterable[tuple[str, str]] | None = None,
        verbose: bool = True,
        seed: int | torch.Generator = 0,
    ) -> dict[str, list[float]]:
        """Draw the table anew and train it, every epoch on new walks.

        Args:
            n_epochs: Passes over the context pairs of new walks.
            batch_size: Context pairs of an optimiser step.
            validation_edges: (source, target) names; their AUC is measured after each epoch, against all pairs that
                are neither self-edges nor known, excluded or validation edges.
            verbose: Whether to show progress on stderr.
            seed: Fixes the table, the walks, the order and the negatives.

        Returns:
            'train_loss', averaged over pairs, and with ``validation_edges`` 'val_auc', one value per epoch.

        Raises:
            RuntimeError: If there is no edge to walk.
            ValueError: If an argument is out of range, or a validation edge is unknown or a known edge.
        """
        if n_epochs < 1 or batch_size < 1:
            raise ValueError(f"n_epochs and batch_size must be at least 1, got {n_epochs} and {batch_size}")
        generator = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
        validation = None if validation_edges is None else self._validation(validation_edges)
        self._build_adjacency()
        self._draw_tables(generator)
        self._best, self._best_auc = None, float("nan")
        self.pairs_per_epoch = []
        if not len(self._walk_graph.targets):
            raise RuntimeError(
                "there is no edge to walk: no known edge, and no candidate was mined with a positive weight; "
                "raise fdr_alpha, or use mining_strategy='topk_per_target'"
            )
        history: dict[str, list[float]] = {"train_loss": []}
        if validation is not None:
            history["val_auc"] = []
        small = self.embedding.numel() <= _SMALL_TABLE
        with torch.inference_mode(False), torch.enable_grad(), one_thread() if small else nullcontext():
            draw, n_drawn = self._negatives(generator)
            optimiser = torch.optim.AdamW(self.parameters(), lr=self.lr, weight_decay=self.weight_decay)
            for _ in track(range(n_epochs), "embedding", show=verbose):
                walks = random_walks(self._walk_graph, self.walks_per_node, self.walk_length, generator)
                pairs = window_pairs(walks, self.window_size, both_ways=not self.directed)
                self.pairs_per_epoch.append(len(pairs))
                loss = train_epoch(pairs, draw, n_drawn, self._tables, optimiser, batch_size, generator)
                history["train_loss"].append(loss)
                if validation is not None:
                    history["val_auc"].append(self._validate(*validation))
        return history

    @property
    def n_pairs(self) -> int:
        """Number of context pairs in the last epoch; 0 before ``fit``."""
        return self.pairs_per_epoch[-1] if self.pairs_per_epoch else 0

    def _validation(self, edges: Iterable[tuple[str, str]]) -> tuple[np.ndarray, np.ndarray]:
        """Flat cells that are compared, and which of them are positives."""
        index = self._index(edges, "validation_edges")
        if index.shape[1] == 0:
            raise ValueError("validation_edges is empty; pass None to do without validation")
        left_out = torch.from_numpy(~self.prior.candidates())
        wrong = index[:, left_out[index[0], index[1]]]
        if wrong.shape[1]:
            names = [(self.function_nodes[s], self.function_nodes[t]) for s, t in wrong.T[:5].tolist()]
            raise ValueError(f"validation_edges must be neither known edges nor self-edges, got {names}")
        left_out[tuple(self._excluded)] = True
        positive = self._mask(*index)
        compared = (~left_out | positive).flatten().nonzero().squeeze(1)
        return compared.numpy(), positive.flatten()[compared].numpy()

    def _validate(self, compared: np.ndarray, positive: np.ndarray) -> float:
        auc = roc_auc(self.scored().score.ravel()[compared], positive)
        if self._best is None or auc > self._best_auc:
            self._best_auc = auc
            self._best = {name: value.detach().clone() for name, value in self.named_parameters()}
        return auc

    @torch.no_grad()
    def load_best(self) -> None:
        """Restore the epoch of the best validation AUC, the first of equals.

        Raises:
            RuntimeError: If the last ``fit`` had no ``validation_edges``.
        """
        if self._best is None:
            raise RuntimeError("there is no best epoch to go back to; call fit with validation_edges first")
        for name, value in self.named_parameters():
            value.copy_(self._best[name])

    def scored(self) -> ScoredPairs:
        """Scores of all pairs; there are no options, and no columns beside the score."""
        sources, targets = (table.detach().double().cpu() for table in self._tables())
        score = (sources @ targets.T).numpy()
        if not self.directed:
            # A matrix product is symmetric only up to rounding, and an edge must tie with its reverse.
            score = (score + score.T) / 2
        return ScoredPairs(self.prior, score)


def _column(table: pd.DataFrame, name: str, dtype: type[np.generic]) -> Tensor:
    return torch.from_numpy(table[name].to_numpy(dtype=dtype, copy=True))


class DirectedMagnitudeEdgeKGE(MagnitudeEdgeKGE):
    r"""The embedding with one vector of each node as a source and one as a target, which tells the direction.

    Walks follow the edges, a pair is only (earlier, later), and the score of i -> j is :math:`s_i^\top t_j`: 2 N d
    parameters. For each pair ``n_negatives`` targets and as many sources are drawn, because candidates are compared
    within a target as well as within a source. ``embedding`` holds the vectors of sources, ``target_embedding`` those
    of targets. Arguments are those of :class:`MagnitudeEdgeKGE`, with ``walk_undirected=False`` as the default.

    Example:
        >>> DirectedMagnitudeEdgeKGE.__mro__[1].__name__
        'MagnitudeEdgeKGE'
    """

    directed = True

    def __init__(self, mei: Any, *, walk_undirected: bool = False, **options: Any) -> None:  # noqa: ANN401
        super().__init__(mei, walk_undirected=walk_undirected, **options)

    def _make_tables(self) -> None:
        super()._make_tables()
        self.target_embedding = nn.Parameter(torch.empty(self.N, self.embedding_dim))

    def _tables(self) -> tuple[Tensor, Tensor]:
        return self.embedding, self.target_embedding

    def _negatives(self, generator: torch.Generator) -> tuple[Draw, int]:
        targets = NegativeSampler(self.pos_mask, generator)
        sources = NegativeSampler(self.pos_mask.T, generator)

        def draw(positives: Tensor) -> tuple[Tensor, Tensor]:
            row, tail = targets.draw(positives[:, 0], self.n_negatives)
            other, head = sources.draw(positives[:, 1], self.n_negatives)
            pairs = [torch.stack([positives[row, 0], tail], 1), torch.stack([head, positives[other, 1]], 1)]
            return torch.cat([row, other]), torch.cat(pairs)

        return draw, 2 * self.n_negatives


class EmbeddingEdgeInferer(EdgeInferer):
    """The embedding for a model, a graph and a loader, as ``embedding`` and ``embedding-directed`` of the command line.

    :meth:`fit` fits a :class:`MagnitudeEdgeInferer`, which mines the edges, and then the embedding.

    Args:
        model: A :class:`gsnn.nn.GSNN` of at least 2 blocks.
        data: The prior graph it was built from.
        directed: One vector as a source and one as a target, as :class:`DirectedMagnitudeEdgeKGE`.
        n_epochs: Of the embedding.
        seed: Of the embedding.
        memory_budget: As for :class:`MagnitudeEdgeInferer`.
        **options: Further arguments of :class:`MagnitudeEdgeKGE`.

    Attributes:
        magnitude: The :class:`MagnitudeEdgeInferer`.
        embedding: The embedding; None before ``fit``.

    Example:
        >>> from gsnn.graph import Graph
        >>> from gsnn.nn import GSNN
        >>> graph = Graph.from_edges(
        ...     [("x", "a"), ("a", "b"), ("b", "y")], input_nodes=["x"], function_nodes=["a", "b"], output_nodes=["y"]
        ... )
        >>> inferer = EmbeddingEdgeInferer(GSNN.from_graph(graph, channels=2, layers=4), graph, n_epochs=2)
        >>> x = torch.randn(50, 1, generator=torch.Generator().manual_seed(0))
        >>> inferer.fit([(x, -x)], verbose=False), len(inferer.evaluate())
        (50, 2)
    """

    def __init__(
        self,
        model: nn.Module,
        data: Any,  # noqa: ANN401 - anything HeteroData-like
        *,
        directed: bool = False,
        n_epochs: int = 100,
        seed: int = 0,
        memory_budget: int | float | str | None = None,
        **options: Any,  # noqa: ANN401 - of the embedding
    ) -> None:
        super().__init__(model, data)
        self.magnitude = MagnitudeEdgeInferer(model, data, memory_budget=memory_budget)
        self._class = DirectedMagnitudeEdgeKGE if directed else MagnitudeEdgeKGE
        self.n_epochs, self.seed, self.options = n_epochs, seed, options
        self.embedding: MagnitudeEdgeKGE | None = None

    def fit(
        self,
        dataloader: Iterable[Any],
        crit: Criterion | None = None,
        device: torch.device | str = "cpu",
        verbose: bool = True,
    ) -> int:
        """Mine edges from the samples of a loader and embed the functions; see :meth:`EdgeInferer.fit`."""
        self.embedding = None
        n = self.magnitude.fit(dataloader, crit, device, verbose)
        embedding = self._class(self.magnitude, **self.options)
        embedding.fit(self.n_epochs, verbose=verbose, seed=self.seed)
        self.embedding = embedding
        return n

    def scored(self) -> ScoredPairs:
        """Scores of all pairs; see :meth:`MagnitudeEdgeKGE.scored`."""
        if self.embedding is None:
            raise RuntimeError("not fitted: call fit first")
        return self.embedding.scored()
