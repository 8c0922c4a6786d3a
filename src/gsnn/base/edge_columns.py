"""Which columns of a table are the two ends of an edge, by their names."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Pairs of names that belong together, the most common first: "source" beside "from" and "to" names a database.
ENDS = (
    ("source", "target"),
    ("src", "dst"),
    ("from", "to"),
    ("regulator", "target"),
    ("regulator", "gene"),
    ("regulator", "regulated"),
    ("tf", "target"),
    ("tf", "gene"),
    ("source_node", "target_node"),
    ("source_name", "target_name"),
    ("source_id", "target_id"),
    ("source_genesymbol", "target_genesymbol"),
    ("from_node", "to_node"),
    ("node1", "node2"),
    ("node_1", "node_2"),
    ("node_a", "node_b"),
    ("gene1", "gene2"),
    ("gene_a", "gene_b"),
    ("protein1", "protein2"),
    ("entitya", "entityb"),
    ("entity_a", "entity_b"),
    ("participant_a", "participant_b"),
    ("official_symbol_interactor_a", "official_symbol_interactor_b"),
    ("upstream", "downstream"),
    ("parent", "child"),
    ("ligand", "receptor"),
    ("kinase", "substrate"),
    ("enzyme", "substrate"),
    ("start", "end"),
    ("head", "tail"),
    ("u", "v"),
)
SOURCES = tuple(dict.fromkeys(s for s, _ in ENDS))
TARGETS = (*dict.fromkeys(t for _, t in ENDS), "dest", "destination", "target_gene", "targetgene")
SIGNS = ("sign", "mor", "mode_of_regulation", "effect", "edge_sign")


def plain_name(name: str) -> str:
    """A column name in lower case, its words joined by underscores."""
    return re.sub(r"[\s.\-]+", "_", name.lstrip("#").strip().casefold())


def find_edge_columns(header: Sequence[str]) -> tuple[int, int] | None:
    """The columns of sources and targets, recognised by name in any case.

    Returns:
        Their positions, or None if either is missing.

    Example:
        >>> find_edge_columns(["weight", "From", "To"]), find_edge_columns(["a", "b"])
        ((1, 2), None)
    """
    names = [plain_name(h) for h in header]
    for source, target in ENDS:
        if source in names and target in names:
            return names.index(source), names.index(target)
    source_at = next((names.index(s) for s in SOURCES if s in names), None)
    target_at = next((names.index(t) for t in TARGETS if t in names), None)
    if source_at is None or target_at is None or source_at == target_at:
        return None
    return source_at, target_at
