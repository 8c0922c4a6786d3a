"""The proposals of a round: the best candidates of each method, the next repairs of a table, or random edges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gsnn.discovery.repairs import Repair
from gsnn.discovery.retrain import Scorer, Trained
from gsnn.discovery.stacked.caps import chosen_pairs
from gsnn.edges.candidates import Ends
from gsnn.edges.pairs import PriorEdges, descending
from gsnn.graph import Graph
from gsnn.graph.checks import Edge
from gsnn.graph.kinds import FUNCTION_EDGES, drawn_targets


class Proposal(NamedTuple):
    """An edge that may enter, its score and the method that gave it; or another repair and its gain."""

    edge: Edge
    score: float
    method: str
    kind: str = FUNCTION_EDGES
    action: str = "add"
    sign: int = 0
    low: float = float("nan")

    @property
    def repair(self) -> Repair:
        """The change of the graph."""
        return Repair(self.action, self.kind, self.edge, self.sign)


def free_pairs(graph: Graph, kind: str, tried: Iterable[Edge]) -> npt.NDArray[np.bool_]:
    """(S, T) True for pairs that may be proposed; none into a treatment that is a species of the network."""
    ends, candidates = Ends.of(graph, kind), PriorEdges(graph, kind).candidates()
    candidates.ravel()[[row for edge in tried if (row := ends.row(*edge)) is not None]] = False
    candidates[:, drawn_targets(graph, kind)] = False
    return candidates


def propose(
    model: Trained,
    scorers: Mapping[str, Mapping[str, Scorer]],
    free: Mapping[str, npt.NDArray[np.bool_]],
    per_round: int,
    limits: Mapping[str, int | None],
) -> list[Proposal]:
    """The best of each method, of each kind in turn; each edge once, by the first method that proposes it."""
    best: dict[str, list[list[Proposal]]] = {}
    for kind, some in scorers.items():
        prior = PriorEdges(model.graph, kind)
        for method, scorer in some.items():
            scores = np.array(scorer(model.read, model.graph, model.batches), dtype=np.float64)
            scores[~free[kind] | ~np.isfinite(scores)] = np.nan
            if any(limits.values()):
                scores[~chosen_pairs(scores, **limits)] = np.nan
            first = descending(scores.ravel())[:per_round]
            ends = zip(*np.divmod(first, scores.shape[1]), strict=True)
            found = [
                Proposal((prior.sources[i], prior.targets[j]), float(scores[i, j]), method, kind)
                for i, j in ends
                if np.isfinite(scores[i, j])
            ]
            best.setdefault(method, []).append(found)
    proposals: dict[Edge, Proposal] = {}
    for lists in best.values():
        for proposal in _in_turn(lists)[:per_round]:
            proposals.setdefault(proposal.edge, proposal)
    return list(proposals.values())


def _in_turn(lists: Sequence[Sequence[Proposal]]) -> list[Proposal]:
    """The first of each list, the second of each, and so on."""
    longest = max(map(len, lists), default=0)
    return [some[k] for k in range(longest) for some in lists if k < len(some)]


def draw(graph: Graph, free: Mapping[str, npt.NDArray[np.bool_]], n: int, seed: tuple[int, int]) -> list[Proposal]:
    """Random candidates of each kind in turn, without a score."""
    rng, lists = np.random.default_rng(seed), []
    for kind, candidates in free.items():
        prior = PriorEdges(graph, kind)
        rows = np.flatnonzero(candidates.ravel())
        drawn = rng.choice(rows, size=min(n, len(rows)), replace=False)
        ends = zip(*np.divmod(drawn, candidates.shape[1]), strict=True)
        lists.append([Proposal((prior.sources[i], prior.targets[j]), float("nan"), "random", kind) for i, j in ends])
    return _in_turn(lists)[:n]


def next_repairs(
    planned: Sequence[Repair], tried: Iterable[Edge], per_round: int, limits: Mapping[str, int | None]
) -> list[Proposal]:
    """The next repairs of a table."""
    past, used = set(tried), Counter[tuple[str, str]]()
    found: list[Proposal] = []
    for each in planned:
        ends = tuple(zip(("per_source", "per_target"), each.edge, strict=True))
        full = any(used[end] >= most for end in ends if (most := limits[end[0]]) is not None)
        if each.edge in past or full or (each.action == "add" and each.gain <= 0):
            continue
        found.append(Proposal(each.edge, each.gain, "repairs", each.kind, each.action, each.sign, each.low))
        used.update(ends)
        if len(found) == per_round:
            break
    return found


def draw_like(
    records: Sequence[Mapping[str, Any]],
    graph: Graph,
    free: Mapping[str, npt.NDArray[np.bool_]],
    tried: Iterable[Edge],
    seed: tuple[int, int],
) -> list[Proposal]:
    """As many random repairs of each kind; edges are added and removed, and no sign is flipped."""
    found: list[Proposal] = []
    rng, past = np.random.default_rng(seed), set(tried)
    wanted = Counter((str(e["kind"]), str(e["action"])) for e in records if e["action"] != "flip")
    for (kind, action), n in wanted.items():
        prior = PriorEdges(graph, kind)
        pool = [edge for edge in prior.edges if edge not in past]
        if action == "add":
            ends = np.argwhere(free[kind]).tolist()
            pool = [(prior.sources[i], prior.targets[j]) for i, j in ends]
        drawn = rng.choice(len(pool), size=min(n, len(pool)), replace=False).tolist()
        found += [Proposal(pool[k], float("nan"), "random", kind, action) for k in drawn]
    return found


def draw_one_like(
    proposal: Proposal,
    graph: Graph,
    classes: npt.NDArray[np.int64],
    taken: set[Edge],
    rng: np.random.Generator,
) -> dict[Edge, Proposal]:
    """A random edge of the kind of a proposal, into a target of its degree class that has none of those taken."""
    ends, kind = Ends.of(graph, proposal.kind), proposal.kind
    free = free_pairs(graph, kind, taken)
    free[:, classes != classes[ends.place[1][proposal.edge[1]]]] = False
    full = {target for _, target in taken}
    others = free.copy()
    others[:, [j for j, name in enumerate(ends.targets) if name in full]] = False
    # If the proposals take every target of the class, take one of these.
    pairs = np.argwhere(others if others.any() else free)
    if not len(pairs):
        return {}
    i, j = rng.choice(pairs).tolist()
    edge = (ends.sources[i], ends.targets[j])
    return {edge: Proposal(edge, float("nan"), "random", kind)}
