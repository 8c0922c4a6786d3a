"""What the columns of ``edges.csv`` mean, for readers of the file, and notes on a ranking."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Q_MEANS = (
    "expected share of pairs without any association among the candidates with a q this small or smaller "
    "(Benjamini-Hochberg over all candidates); an association is not an edge: siblings, reverses and aliases of an "
    "edge are associated too"
)

_MEANINGS = {
    "source": "node the edge leaves",
    "target": "node the edge enters",
    "kind": "input->function: where a treatment acts; function->function; function->output: what a readout reads",
    "score": "how much the model misses the edge, by the method named in run.json; higher is better, and only the "
    "order within a kind in this file counts",
    "rank": "place among all candidates of the kind, 1 is best; empty for known edges",
    "p": "probability of a score as high if source and target were not associated (one-sided); empty where the method "
    "has no test",
    "q": Q_MEANS,
    "known": "whether the prior network has the edge",
    "sign": "1 activating, -1 inhibiting, 0 undecided, as the model would use the edge",
    "worst_rank": "last place that a member of the run gives the edge; far below the rank, the members disagree",
    "alias_group": "the data cannot tell candidates with the same number apart; how they were grouped is in run.json",
    "alias_size": "number of candidates in the alias group, this one included",
    "expected_precision": "share of edges to expect among the candidates of this rank or better, from known edges that "
    "were hidden (selfcheck.json has the assumptions); empty where the interval is wider than 0.5: not estimable",
    "precision_low": "lower end of the 95 % interval of expected_precision",
    "precision_high": "upper end of the 95 % interval of expected_precision",
    "precision_chance": "what expected_precision is for a random score",
    "stated_fdr": "smallest false discovery rate that can be stated for a list with this candidate, if missing edges "
    "are as many and as hard to find as the hidden ones",
    "required": "whether the edge was required, and so is listed whatever the other options say",
}
_FURTHER = {
    "rank": "place among all candidates by the method {}, 1 is best; empty where that method has no score",
    "score": "score by the method {}; higher is better, and only the order counts",
}
# The other columns that are described are numbers.
_TYPES: dict[str, Any] = {
    **dict.fromkeys(("source", "target", "kind"), "string"),
    **dict.fromkeys(("rank", "sign", "alias_group", "alias_size"), "integer"),
    **{name: {"base": "boolean", "format": "True|False"} for name in ("known", "required")},
}


def no_targets_note(names: Sequence[str]) -> str:
    """A note on treatments that are species of the network too, into which no edges are proposed.

    Example:
        >>> no_targets_note(["EGF"])
        'no edges are proposed into treatments that are species of the network: EGF (--targets asks for one)'
    """
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"no edges are proposed into treatments that are species of the network: {shown} (--targets asks for one)"


def structure_note(shared: Mapping[str, int]) -> str:
    """A note on how many of the best candidates (``top``) are ``shared`` with a ranking by the structure alone.

    Example:
        >>> structure_note({"top": 50, "shared": 12})[-64:]
        'the model put 38 there; a self-check says whether that is better'
    """
    top, n = shared["top"], shared["shared"]
    return (
        f"{n} of the best {top} would be there by the structure of the network alone (rank_structure), the model put "
        f"{top - n} there; a self-check says whether that is better"
    )


def members_note(agreement: Mapping[str, int], kind: str = "") -> str:
    """A note on how far members agree.

    Args:
        agreement: From :func:`gsnn.ask.agreement.agreement`.
        kind: The kind of the edges, where there are several.

    Example:
        >>> members_note({"members": 5, "top": 10, "in_all": 7})
        'ranks are averaged over 5 members: 7 of the best 10 candidates are among the best 20 of every member'
    """
    return (
        f"ranks are averaged over {agreement['members']} members: {agreement['in_all']} of the best {agreement['top']} "
        f"{kind}{' ' * bool(kind)}candidates are among the best {2 * agreement['top']} of every member"
    )


def csv_metadata(file: str, columns: Iterable[str]) -> dict[str, Any]:
    """A description of a table of edges, after the W3C's metadata vocabulary for tabular data (CSV on the Web).

    Args:
        file: Name of the CSV file.
        columns: Its columns, in order.

    Returns:
        JSON-able.

    Example:
        >>> csv_metadata("edges.csv", ["rank"])["tableSchema"]["columns"][0]["datatype"]
        'integer'
    """
    described = []
    for name in map(str, columns):
        entry: dict[str, Any] = {"name": name, "titles": name, "datatype": "string"}
        first, _, method = name.partition("_")
        if name in _MEANINGS:
            entry |= {"datatype": _TYPES.get(name, "number"), "dc:description": _MEANINGS[name]}
        elif first in _FURTHER and method:
            entry |= {"datatype": _TYPES.get(first, "number"), "dc:description": _FURTHER[first].format(method)}
        described.append(entry)
    return {"@context": "http://www.w3.org/ns/csvw", "url": file, "tableSchema": {"columns": described}}
