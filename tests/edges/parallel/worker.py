"""One of the processes that ``test_processes.py`` starts: everything that is checked of several, in one launch."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from gsnn import GSNN, GradientEdgeInferer, MagnitudeEdgeInferer
from gsnn.edges import FunctionEdgeInferer
from gsnn.edges.candidates import Selection
from gsnn.edges.parallel import Checkpoint, Processes, fit, processes, top_edges
from gsnn.graph import Graph
from gsnn.runs.inference.ranking import rank_candidates, rank_together

NOTHING = np.zeros(0, dtype=np.int64)
OPTIONS = {
    MagnitudeEdgeInferer: [
        {"layer_agg": agg, "score": score} for agg in ("mean", "mean0", "max") for score in ("corr", "partial")
    ],
    GradientEdgeInferer: [
        {"score": score, "null_correction": null}
        for score in ("regressed", "normalised", "explained")
        for null in (True, False)
    ],
}
WANTED = [
    (Selection(), {}),
    (Selection(5), {}),
    (Selection(), {"known": True, "forbidden": np.array([5, 9])}),
    (Selection(3), {"required": np.array([2, 45, 77]), "forbidden": np.array([5, 9])}),
    (Selection(4, 1, ["f1*"], ["f?"]), {"known": True}),
]


def problem(n_nodes=16, n_samples=90, seed=0):
    """A random graph, a float64 model and seven batches, some of unequal size."""
    rng = np.random.default_rng(seed)
    names = [f"f{i}" for i in range(n_nodes)]
    edges = [(f"x{i}", names[i]) for i in range(3)]
    edges += [(a, b) for a in names for b in names if a != b and rng.random() < 0.13]
    edges += [(names[-1 - i], f"y{i}") for i in range(3)]
    graph = Graph.from_edges(
        edges, input_nodes=["x0", "x1", "x2"], function_nodes=names, output_nodes=["y0", "y1", "y2"]
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = GSNN.from_graph(graph, channels=3, layers=4).double()
    x, y = torch.from_numpy(rng.normal(size=(n_samples, 3))), torch.from_numpy(rng.normal(size=(n_samples, 3)))
    return graph, model, list(zip(x.split(14), y.split(14), strict=True))


def same(found, expected, atol=1e-10):
    pd.testing.assert_frame_equal(
        found, expected.reset_index(drop=True), check_dtype=False, atol=atol, rtol=0, check_exact=False
    )


def check(joined: Processes, folder: Path) -> list[str]:
    """Compare with one process; what was compared."""
    graph, model, batches = problem()
    done = []
    for kind, each in OPTIONS.items():
        whole = kind(model, graph)
        whole.fit(batches, verbose=False)
        for shard in ("samples", "targets"):
            part = kind(model, graph)
            checkpoint = Checkpoint(folder / f"{kind.__name__}-{shard}", "these", every=0.0)
            found = fit(part, batches, joined, shard=shard, verbose=False, checkpoint=checkpoint)
            assert (found.n, found.batches, found.resumed_after, found.note) == (90, 7, 0, "")
            own = slice(part.targets.start, part.targets.stop)
            assert part.targets == joined.share(16)
            for options in each:
                score = part.scored(**options).score
                assert score.shape == (16, len(part.targets))
                np.testing.assert_allclose(score, whole.score_matrix(**options)[:, own], atol=1e-10, rtol=0)
                best = top_edges(part, joined, 12, per_target=3, **options)
                assert (best is None) == (not joined.first)
                if best is not None:
                    same(best, whole.top_edges(12, per_target=3, **options))
                other = each[0] if options is not each[0] else each[1]
                for wanted, more in WANTED:
                    more = {"forbidden": NOTHING, "required": NOTHING, **more}
                    mine = rank_together(
                        {"a": part.scored(**options), "b": part.scored(**other)}, wanted, joined, **more
                    )
                    if mine is None:
                        continue
                    theirs = rank_candidates({"a": whole.scored(**options), "b": whole.scored(**other)}, wanted, **more)
                    same(mine.table, theirs.table)
                    assert mine.rank.tolist() == theirs.rank.tolist()
                    assert mine.score_name == theirs.score_name
            # What is on disk is the whole of it, for a program that starts now.
            again = kind(model, graph)
            found = fit(again, [], joined, shard=shard, verbose=False, checkpoint=checkpoint)
            assert (found.n, found.resumed_after) == (90, 7)
            np.testing.assert_allclose(again.scored().score, part.scored().score, atol=1e-10, rtol=0)
            joined.barrier("comparing")
            found.forget()
            joined.barrier("comparing")
            assert not checkpoint.folder.exists()
            done.append(f"{kind.__name__} {shard}")
    # Ranks: each process its own targets, on all samples.
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    known = graph.edge_index_dict["function", "to", "function"]
    ranks = FunctionEdgeInferer(model, None, known, targets=joined.share(16))
    ranks.fit(x, y)
    best = top_edges(ranks, joined, 12)
    if best is not None:
        alone = FunctionEdgeInferer(model, None, known)
        alone.fit(x, y)
        same(best, alone.top_edges(12), atol=2e-6)  # summed in single precision
    # Fewer batches than processes.
    few = MagnitudeEdgeInferer(model, graph)
    fit(few, batches[:1], joined, verbose=False)
    alone = MagnitudeEdgeInferer(model, graph)
    alone.fit(batches[:1], verbose=False)
    own = slice(few.targets.start, few.targets.stop)
    np.testing.assert_allclose(few.scored().score, alone.score_matrix()[:, own], atol=1e-10, rtol=0)
    return [*done, "few"]


if __name__ == "__main__":
    torch.set_num_threads(1)
    with processes(timeout=120) as everyone:
        compared = check(everyone, Path(sys.argv[1]))
        (Path(sys.argv[1]) / f"rank{everyone.rank}.txt").write_text("\n".join(compared))
