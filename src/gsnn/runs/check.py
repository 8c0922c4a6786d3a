"""Examine a network and its data before training: what fits, what does not, what can be learnt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsnn.base.errors import DataError
from gsnn.runs.settings import present

if TYPE_CHECKING:
    from gsnn.data import PerturbationData
    from gsnn.io import NameMap, Network, Responses

_HUBS = 5  # how many of the functions with the most edges are named


@dataclass(frozen=True)
class Checkup:
    """What a network and its data hold.

    Attributes:
        sections: Title -> label -> number, text or list of names; JSON-able.
        warnings: What a user should know.
        error: Why training would refuse these files; empty if it would not.
        odd: Signs that something was read wrongly; also among the warnings.
        data: The data, without what did not match; None if nothing matches.
        proposal: A map of the names, to correct by hand (:func:`gsnn.data.naming.proposed_map`).
        notes: What the figures mean for the edges that can be found, in sentences.
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
    names: str | Path | None = None,
    network_options: Mapping[str, Any] | None = None,
    **options: Any,  # noqa: ANN401 - of Sources.from_files
) -> Checkup:
    """Read a network and responses as training would, and describe them.

    The arguments are those of :meth:`gsnn.runs.Sources.from_files`. Of samples that stay in their files 2,000 are drawn
    and examined.

    Returns:
        A description of what could be read. Identifiers that do not match, and everything else for which training would
        refuse the files, are its ``error``.

    Raises:
        DataError: If one of the files cannot be read at all.
    """
    import numpy as np

    from gsnn.data import build_data, stream_data
    from gsnn.data.drawn import SAMPLE, Drawn
    from gsnn.data.naming import dose_notes, proposed_map
    from gsnn.data.sanity import oddities
    from gsnn.graph.bypass import bypass_count
    from gsnn.io import read_name_map, read_network
    from gsnn.runs.sources import Sources
    from gsnn.training.left_out import left_out_correlations

    network = read_network(graph, **present(network_options))
    mapped = None if names is None else read_name_map(names)
    sources = Sources.from_files(graph, data, names=names, network_options=network_options, **options)
    paths = {role: Path(entry["given"]) for role, entry in sources.files.items()}
    opened, warnings = None, []
    if sources.streamed:
        opened = sources.stream_responses(network, paths)
        rows = Drawn.rows(SAMPLE, np.arange(len(opened)), seed=0)
        drawn = Drawn(len(rows), len(opened), seed=0)
        warnings += [drawn.note] if drawn.partial else []
        responses = opened.sample(rows)
    else:
        responses = sources.read_responses(network, paths)
    sections = {"network": _network(network), "responses": _responses(responses)}
    building = {**sources.options["build"], "names": mapped}
    ignore_case = bool(building.get("ignore_case"))
    proposal = proposed_map(network, responses, mapped, ignore_case)
    error, built = "", None
    try:
        if opened is not None:  # training refuses more of streamed data
            stream_data(network, opened, **building)
        built = build_data(network, responses, **building)
    except DataError as refused:
        error = str(refused)
        try:
            built = build_data(network, responses, **{**building, "on_unmatched": "drop"})
        except DataError:
            sections["unmatched"] = _lost(network, responses, ignore_case, mapped)
            warnings += [*network.warnings, *responses.warnings]
            return Checkup(sections, warnings, error, proposal=proposal)
    sections["unmatched"] = _unmatched(network, responses, built, ignore_case, mapped)
    sections |= _graph(built)
    bypasses = bypass_count(built.graph)
    sections["masked"] = _masked(built, bypasses)
    sections["aliases"] = _aliases(built)
    sections["to beat"] = left_out_correlations(built.x, built.y)
    odd = oddities(built, sections["to beat"], network)
    warnings += [*built.warnings, *dose_notes(built.graph.inputs, built.x), *odd]
    return Checkup(sections, warnings, error, built, odd, proposal, _notes(bypasses, sections["aliases"]))


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
    times = {"times": responses.times, "baseline rows left out": responses.n_baseline}
    return {
        "samples": len(treatments),
        "conditions": len(treatments.drop_duplicates()),
        "treatments": treatments.shape[1],
        "readouts": responses.readouts.shape[1],
        **(times if responses.times else {}),
    }


def _unmatched(
    network: Network, responses: Responses, data: PerturbationData, ignore_case: bool, names: NameMap | None
) -> dict[str, Any]:
    section = _lost(network, responses, ignore_case, names)
    if len(data) < len(responses.treatments):
        section["samples left"] = len(data)
    return section | {"functions with a treatment": data.graph.I, "functions with a readout": data.graph.O}


def _lost(network: Network, responses: Responses, ignore_case: bool, names: NameMap | None) -> dict[str, Any]:
    """The names that are no species, with the closest species."""
    from gsnn.data.matching import close_species, unmatched

    def hinted(names: list[str]) -> list[str]:
        # The closest species of a name costs a comparison with each of them; a long list needs none.
        near = {name: close_species(name, network.species, 1) for name in names[:20]}
        return [f"{name} (closest: {near[name][0]})" if near.get(name) else name for name in names]

    treatments, readouts = unmatched(network, responses, ignore_case, names)
    return {"treatments": hinted(treatments), "readouts": hinted(readouts)}


def _graph(data: PerturbationData) -> dict[str, dict[str, Any]]:
    import numpy as np

    graph, summary = data.graph, data.graph.summary()
    source, target = graph.edge_index_dict["function", "to", "function"].numpy()
    degrees: dict[str, Any] = {}
    for label, ends in (("in", target), ("out", source)):
        degree = np.bincount(ends, minlength=graph.N)
        hubs = np.argsort(-degree, kind="stable")[:_HUBS]
        sizes = [int(degree.min()), float(np.median(degree)), round(float(degree.mean()), 2), int(degree.max())]
        degrees[f"{label}: smallest, median, mean, largest"] = sizes
        names = [f"{graph.functions[i]} ({degree[i]})" for i in hubs if degree[i]]
        degrees[f"{label}: most"] = ", ".join(names) or "none"
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

    hideable = hideable_edges(data.graph)
    bypassed, of = bypasses
    known = sum(s != t for s, t in data.graph.function_edges)
    drawn = f" drawn at random, of {known}" if of < known else ""
    missing = data.outputs.isna()
    return {
        "values missing, left out of the loss": int(missing.to_numpy().sum()),
        "values": int(missing.size),
        "readouts with missing values": [name for name, some in missing.any().items() if some],
        "known edges a self-check can hide": len(hideable.rows),
        "known edges with a bypass (their source reaches their target without them)": f"{bypassed} of {of}{drawn}",
        "known edges on no path from input to output": hideable.n_pathless,
        "known edges that are the last of a function's children or parents": hideable.n_last,
    }


def _aliases(data: PerturbationData) -> dict[str, Any]:
    from gsnn.edges import alias_groups

    summaries: dict[str, Any] = {by: alias_groups(data.graph, by).summary() for by in ("reach", "hops")}
    for summary in summaries.values():
        del summary["by"], summary["max_hops"]
    return summaries


def _notes(bypasses: tuple[int, int], aliases: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What bypasses and look-alikes mean for the edges that can be found, where there are many."""
    notes = []
    bypassed, of = bypasses
    if 2 * bypassed > of:
        notes.append(
            f"{bypassed} of {of} known edges have a bypass: a model that lacks such an edge loses little and does not "
            "ask for it back, so that a self-check may find few of them; missing edges with a bypass hide as well"
        )
    share = aliases["hops"]["share_aliased"]
    if share is not None and share > 0.5:
        notes.append(
            f"{share:.0%} of the candidates look like another one to the data: read a group of look-alikes as one "
            "hypothesis; more treatments or readouts tell them apart"
        )
    return notes
