"""A look at a network and its data before anything is trained: what fits, what does not, what can be learnt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsnn.base.errors import DataError

if TYPE_CHECKING:
    from gsnn.data import PerturbationData
    from gsnn.io import NameMap, Network, Responses

_HUBS = 5  # functions with the most edges that are named


@dataclass(frozen=True)
class Checkup:
    """What was found.

    Attributes:
        sections: Title -> label -> number, text or list of names; JSON-able.
        warnings: What a user should know.
        error: Why training would refuse these files; empty if it would not.
        odd: What looks as if something was read wrongly; also among the warnings.
        data: The data, without what did not match; None if there are none.
        proposal: A map of the names, to correct by hand (:func:`gsnn.data.naming.proposed_map`).
        notes: What the figures say about what can be found, in sentences.
    """

    sections: dict[str, dict[str, Any]]
    warnings: list[str] = field(default_factory=list)
    error: str = ""
    data: PerturbationData | None = None
    odd: list[str] = field(default_factory=list)
    proposal: str = ""
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "ok": not self.error,
            "error": self.error or None,
            **self.sections,
            "looks wrong": self.odd,
            "notes": self.notes,
            "warnings": self.warnings,
        }


def check_up(
    graph: str | Path,
    data: str | Path | None = None,
    *,
    inputs: str | Path | None = None,
    outputs: str | Path | None = None,
    names: str | Path | None = None,
    network_options: Mapping[str, Any] | None = None,
    responses_options: Mapping[str, Any] | None = None,
    build_options: Mapping[str, Any] | None = None,
) -> Checkup:
    """Read a network and responses as training would, and describe them.

    The arguments are those of :meth:`gsnn.runs.Sources.from_files`. Of samples that stay in their files 2,000 are drawn
    and looked at.

    Returns:
        What was found. Identifiers that do not match, and everything else that keeps the two from being put together,
        are its ``error``, and what could be read is described all the same.

    Raises:
        DataError: If one of the files cannot be read at all.
    """
    import numpy as np

    from gsnn.data import build_data, stream_data
    from gsnn.data.drawn import SAMPLE, Drawn
    from gsnn.data.naming import dose_notes, proposed_map
    from gsnn.data.sanity import oddities
    from gsnn.graph.bypass import bypass_count
    from gsnn.io import read_name_map, read_network, read_responses
    from gsnn.runs.sources import Sources

    def given(options: Mapping[str, Any] | None) -> dict[str, Any]:
        return {name: value for name, value in (options or {}).items() if value is not None}

    network = read_network(graph, **given(network_options))
    mapped = None if names is None else read_name_map(names)
    sources = Sources.from_files(
        graph, data, inputs=inputs, outputs=outputs, names=names, responses_options=responses_options
    )
    opened, told = None, []
    if sources.streamed:
        opened = sources.stream_responses(network, {role: Path(entry["path"]) for role, entry in sources.files.items()})
        rows = Drawn.rows(SAMPLE, np.arange(len(opened)), seed=0)
        drawn = Drawn(len(rows), len(opened), seed=0)
        told += [drawn.note] if drawn.partial else []
        responses = opened.sample(rows)
    else:
        options = {name: value for name, value in given(responses_options).items() if name != "stream"}
        responses = read_responses(data, inputs=inputs, outputs=outputs, species=network.species, **options)
    sections = {"network": _network(network), "responses": _responses(responses)}
    building = {**given(build_options), "names": mapped}
    ignore_case = bool(building.get("ignore_case"))
    proposal = proposed_map(network, responses, mapped, ignore_case)
    error, built = "", None
    try:
        if opened is not None:  # what training refuses of these alone
            stream_data(network, opened, **building)
        built = build_data(network, responses, **building)
    except DataError as refused:
        error = str(refused)
        try:
            built = build_data(network, responses, **{**building, "on_unmatched": "drop"})
        except DataError:
            sections["unmatched"] = _lost(network, responses, ignore_case, mapped)
            return Checkup(sections, [*told, *network.warnings, *responses.warnings], error, proposal=proposal)
    sections["unmatched"] = _unmatched(network, responses, built, ignore_case, mapped)
    sections |= _graph(built)
    bypasses = bypass_count(built.graph)
    sections["masked"] = _masked(built, bypasses)
    sections["aliases"] = _aliases(built)
    sections["to beat"] = _to_beat(built)
    odd = oddities(built, sections["to beat"], network)
    told += [*built.warnings, *dose_notes(built.graph.inputs, built.x), *odd]
    return Checkup(sections, told, error, built, odd, proposal, _notes(bypasses, sections["aliases"]))


def _network(network: Network) -> dict[str, Any]:
    sign = network.edges["sign"].to_numpy()
    return {
        "species": len(network.species),
        "edges": len(sign),
        "activating": int((sign > 0).sum()),
        "inhibiting": int((sign < 0).sum()),
        "unknown sign": int((sign == 0).sum()),
        "duplicated edges": len(network.duplicates),
        "self-edges": len(network.self_edges),
    }


def _responses(responses: Responses) -> dict[str, Any]:
    treatments = responses.treatments
    found: dict[str, Any] = {
        "samples": len(treatments),
        "conditions": len(treatments.drop_duplicates()),
        "treatments": treatments.shape[1],
        "readouts": responses.readouts.shape[1],
    }
    if responses.times:
        found |= {"times": responses.times, "baseline rows left out": responses.n_baseline}
    return found


def _unmatched(
    network: Network, responses: Responses, data: PerturbationData, ignore_case: bool, names: NameMap | None
) -> dict[str, Any]:
    found = _lost(network, responses, ignore_case, names)
    if len(data) < len(responses.treatments):
        found["samples left"] = len(data)
    return found | {"functions with a treatment": data.graph.I, "functions with a readout": data.graph.O}


def _lost(network: Network, responses: Responses, ignore_case: bool, names: NameMap | None) -> dict[str, Any]:
    """The names that are no species."""
    from gsnn.data.matching import close_species, unmatched

    lost_in, lost_out = unmatched(network, responses, ignore_case, names)

    def hinted(names: list[str]) -> list[str]:
        # Closest names cost a comparison with every species each; a long list needs none.
        near = {name: close_species(name, network.species, 1) for name in names[:20]}
        return [f"{name} (closest: {near[name][0]})" if near.get(name) else name for name in names]

    return {"treatments": hinted(lost_in), "readouts": hinted(lost_out)}


def _graph(data: PerturbationData) -> dict[str, dict[str, Any]]:
    import numpy as np

    graph, summary = data.graph, data.graph.summary()
    source, target = graph.edge_index_dict["function", "to", "function"].numpy()
    degrees: dict[str, Any] = {}
    for label, ends in (("in", target), ("out", source)):
        degree = np.bincount(ends, minlength=graph.N)
        hubs = np.argsort(-degree, kind="stable")[:_HUBS]
        degrees |= {
            f"{label}: smallest, median, mean, largest": [
                int(degree.min()), float(np.median(degree)), round(float(degree.mean()), 2), int(degree.max())
            ],
            f"{label}: most": ", ".join(f"{graph.functions[i]} ({degree[i]})" for i in hubs if degree[i]) or "none",
        }  # fmt: skip
    n_known = sum(s != t for s, t in graph.function_edges)
    return {
        "types": {
            "inputs": graph.I,
            "functions": graph.N,
            "outputs": graph.O,
            **summary.n_edges,
            "candidate edges": graph.N * (graph.N - 1) - n_known,
        },
        "reachability": {
            "functions no input reaches": list(graph.unreached_functions),
            "functions that reach no output": list(graph.dead_end_functions),
            "outputs no input reaches": list(graph.unreached_outputs),
            "functions on a cycle": summary.n_cyclic,
        },
        "degrees": degrees,
    }


def _masked(data: PerturbationData, bypasses: tuple[int, int]) -> dict[str, Any]:
    from gsnn.discovery.hiding import hideable_edges

    can = hideable_edges(data.graph)
    bypassed, of = bypasses
    known = sum(s != t for s, t in data.graph.function_edges)
    drawn = f" drawn at random, of {known}" if of < known else ""
    missing = data.outputs.isna()
    return {
        "values missing, left out of the loss": int(missing.to_numpy().sum()),
        "values": int(missing.size),
        "readouts with missing values": [n for n, m in missing.any().items() if m],
        "known edges a self-check can hide": len(can.rows),
        "known edges with a bypass (their source reaches their target without them)": f"{bypassed} of {of}{drawn}",
        "known edges on no path from input to output": can.n_pathless,
        "known edges that are the last of a function's children or parents": can.n_last,
    }


def _aliases(data: PerturbationData) -> dict[str, Any]:
    from gsnn.edges import alias_groups

    found: dict[str, Any] = {}
    for by in ("reach", "hops"):
        groups = alias_groups(data.graph, by)
        found[by] = {name: value for name, value in groups.summary().items() if name not in ("by", "max_hops")}
    return found


def _notes(bypasses: tuple[int, int], aliases: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What bypasses and look-alikes mean for what can be found, where there are many."""
    found = []
    bypassed, of = bypasses
    if 2 * bypassed > of:
        found.append(
            f"{bypassed} of {of} known edges have a bypass: a model that lacks such an edge loses little and does not "
            "ask for it back, so that a self-check may find few of them; missing edges with a bypass hide as well"
        )
    share = aliases["hops"]["share_aliased"]
    if share is not None and share > 0.5:
        found.append(
            f"{share:.0%} of the candidates look like another one to the data: read a group of look-alikes as one "
            "hypothesis; more treatments or readouts tell them apart"
        )
    return found


def _to_beat(data: PerturbationData) -> dict[str, Any]:
    from gsnn.training.left_out import left_out_correlations

    return left_out_correlations(data.x, data.y)
