"""One pass over the samples, shared among processes and saved as it goes."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch

from gsnn.base.errors import check_option
from gsnn.base.processes import Processes, Stopped
from gsnn.base.progress import track
from gsnn.edges import StreamingInferer
from gsnn.edges.capture import Criterion, ForwardOptions, isolated, iterate_batches, naming_batch
from gsnn.edges.parallel.checkpoint import Checkpoint, Keeper, check_folder
from gsnn.edges.parallel.shares import deal_batches
from gsnn.edges.parallel.statistics import Statistics

SHARDS = ("samples", "targets")


@dataclass(frozen=True)
class Pass:
    """The result of a pass over the samples.

    Attributes:
        n: Samples, of all processes together.
        batches: Batches, of all processes together.
        resumed_after: How many of the batches an earlier program had done.
        note: Why saved statistics were not continued; empty if there were none, or they were.
    """

    n: int
    batches: int
    resumed_after: int
    note: str
    _keeper: Keeper | None = field(default=None, repr=False, compare=False)

    def forget(self) -> None:
        """Remove the statistics saved on disk; call it once the results are safe."""
        if self._keeper is not None:
            self._keeper.remove()


def fit(
    inferer: StreamingInferer,
    dataloader: Iterable[Any],
    joined: Processes | None = None,
    *,
    shard: str = "samples",
    crit: Criterion | None = None,
    device: torch.device | str = "cpu",
    verbose: bool = True,
    model_kwargs: ForwardOptions = None,
    loss_reduction: str | None = None,
    checkpoint: Checkpoint | None = None,
) -> Pass:
    """As ``inferer.fit``, by several processes; afterwards each holds the statistics for edges into its targets.

    With ``shard='samples'`` every process reads its share of the batches, and statistics are added up over all of them
    (magnitudes by Chan's formula; the samples of the gradient inferer are exchanged). With ``shard='targets'`` every
    process reads all batches and keeps only the statistics for its own targets: less memory each, nothing to exchange,
    but the model runs over all samples in every process. Either way the scores are those of one process, but for the
    rounding of the model's dtype.

    With a checkpoint a program that was killed, or stopped with Ctrl-C or SIGTERM, continues after the last save when
    it is started again; with ``shard='samples'`` by any number of processes.

    Args:
        inferer: A magnitude or gradient inferer, of the same model and graph in every process. Its samples so far are
            cleared.
        dataloader: Yields the same batches (x, y, ...) in every process: a sequence, a ``DataLoader`` that does not
            shuffle, or any iterable.
        joined: The processes; None for this one alone.
        shard: ``'samples'`` or ``'targets'``.
        crit: As in ``inferer.fit``.
        device: As in ``inferer.fit``.
        verbose: Show progress on stderr, in process 0.
        model_kwargs: As in ``inferer.fit``.
        loss_reduction: As in ``inferer.fit``.
        checkpoint: Where to save statistics; None for nowhere.

    Returns:
        The numbers of samples and batches.

    Raises:
        ProcessError: If another process dies or fails.
        Stopped: On SIGTERM, in all processes; after saving.
        KeyboardInterrupt: On SIGINT; after saving.
        ValueError: If an option is unknown, the loader is empty or shuffles, or a batch is wrong (it is named).
        TypeError: If the inferer is another one.

    Example:
        >>> from gsnn.edges import MagnitudeEdgeInferer
        >>> from gsnn.graph import Graph
        >>> from gsnn.nn import GSNN
        >>> graph = Graph.from_edges(
        ...     [("x", "a"), ("a", "b"), ("b", "y")], input_nodes=["x"], function_nodes=["a", "b"], output_nodes=["y"]
        ... )
        >>> inferer = MagnitudeEdgeInferer(GSNN.from_graph(graph, channels=2, layers=4), graph)
        >>> fit(inferer, [(torch.ones(5, 1), torch.zeros(5, 1))] * 2, verbose=False).n
        10
    """
    check_option("shard", shard, SHARDS)
    joined = joined or Processes()
    statistics = Statistics(inferer, device)
    own = joined.share(inferer.N) if joined.size > 1 else statistics.inferer.targets
    statistics.inferer.targets = own if shard == "targets" else range(inferer.N) if joined.size > 1 else own
    inferer.reset_stats()
    if checkpoint is not None:
        check_folder(checkpoint)
    keeper = Keeper(checkpoint, statistics, joined, shard)
    start = keeper.load()
    done = start
    # Where targets are shared, every process takes every batch.
    rank, size = (joined.rank, joined.size) if shard == "samples" else (0, 1)
    try:
        with isolated(statistics.inferer._model, device), nullcontext() if checkpoint is None else joined.patient():
            shown = track(
                deal_batches(dataloader, start, rank, size),
                "Reading activations and gradients",
                total=_rounds(dataloader, start, size),
                show=verbose and joined.first,
            )
            for own_batch, done in shown:
                if own_batch is not None:
                    _update(inferer, *own_batch, crit, model_kwargs, loss_reduction)
                stop, save = joined.agree(joined.asked_to_stop is not None, keeper.due())
                if (stop and checkpoint is not None) or save:
                    keeper.save(done)
                if stop and joined.asked_to_stop == signal.SIGINT:
                    raise KeyboardInterrupt
                if stop:
                    raise Stopped(signal.SIGTERM)
        if done == 0:
            next(iterate_batches(()))  # an empty loader: the same error as everywhere
        if any(joined.agree(keeper.worthwhile())):
            keeper.save(done)  # scoring may be interrupted, too
        if shard == "samples":
            statistics.pool(joined)
            if joined.size > 1:
                statistics.narrow(own)
    except BaseException:
        # The statistics of half a loader must not pass for all of them.
        inferer.reset_stats()
        raise
    return Pass(inferer.n, done, start, keeper.note, keeper)


def _update(
    inferer: StreamingInferer,
    index: int,
    items: Any,  # noqa: ANN401 - whatever a loader yields
    crit: Criterion | None,
    model_kwargs: ForwardOptions,
    loss_reduction: str | None,
) -> None:
    with naming_batch(index):
        for batch in iterate_batches([items], model_kwargs):
            inferer.update(batch.x, batch.y, crit, model_kwargs=batch.model_kwargs, loss_reduction=loss_reduction)


def _rounds(loader: Iterable[Any], start: int, size: int) -> int | None:
    try:
        n: int = len(loader)  # type: ignore[arg-type]  # not every loader knows
    except TypeError:
        return None
    return -(-(n - start) // size)
