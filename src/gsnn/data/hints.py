"""Why names of responses are no species: another separator, another case, other identifiers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from gsnn.base.wording import asked, shell
from gsnn.io.text import counted, listed
from gsnn.io.treatments import CONTROLS

# The longest first, so that "A || B" is not cut at a blank.
SEPARATORS = (" || ", "||", " + ", "+", ";", "|", "&", ",", "_", "/", ":", "-", " ")
_ACCESSIONS = {
    "Ensembl identifiers": re.compile(r"ENS[A-Z]{0,6}[GTPE]\d{6,}(\.\d+)?", re.IGNORECASE),
    "UniProt accessions": re.compile(r"([OPQ]\d[A-Z0-9]{3}\d|[A-NR-Z]\d([A-Z][A-Z0-9]{2}\d){1,2})(-\d+)?"),
    "RefSeq accessions": re.compile(r"[NX][MRPC]_\d{4,}(\.\d+)?"),
    "HGNC identifiers": re.compile(r"HGNC:\d+", re.IGNORECASE),
    "numbers, as Entrez identifiers are": re.compile(r"\d+"),
}


def accession(name: str) -> str:
    """What kind of accession a name is; empty if it is none.

    Example:
        >>> accession("ENSG00000146648"), accession("P00533"), accession("EGFR")
        ('Ensembl identifiers', 'UniProt accessions', '')
    """
    return next((kind for kind, pattern in _ACCESSIONS.items() if pattern.fullmatch(name)), "")


def kind_of(names: Sequence[str]) -> str:
    """The kind of accession that more than half of the names are; empty if there is none."""
    kinds = [accession(name) for name in names]
    best = max(set(kinds), key=kinds.count, default="")
    return best if best and 2 * kinds.count(best) > len(kinds) else ""


def find_separator(names: Iterable[str], known: Callable[[str], bool]) -> tuple[str, list[str]]:
    """What joins species in labels such as ``A+B``.

    Args:
        names: Labels that are no species.
        known: Whether a part of one is a species, or an inhibitor of one.

    Returns:
        The separator, and the labels that it cuts into known parts; empty if there is none.

    Example:
        >>> find_separator(["A_B", "x"], {"A", "B"}.__contains__)
        ('_', ['A_B'])
    """
    names = list(names)
    best: tuple[str, list[str]] = ("", [])
    for separator in SEPARATORS:
        cut = []
        for name in names:
            parts = [part.strip() for part in name.split(separator)]
            some = [known(part) for part in parts if part.casefold() not in CONTROLS]
            if len(parts) > 1 and all(parts) and some and all(some):
                cut.append(name)
        if len(cut) > len(best[1]):
            best = separator, cut
    return best


def but_for_case(names: Iterable[str], species: Iterable[str]) -> dict[str, str]:
    """Names that would be a species if upper and lower case were one, and which; an ambiguous one is left out.

    Example:
        >>> but_for_case(["egf", "MEKi", "x"], ["EGF", "Mek"])
        {'egf': 'EGF', 'MEKi': 'Mek'}
    """
    folded: dict[str, list[str]] = {}
    for each in species:
        folded.setdefault(each.casefold(), []).append(each)
    found = {}
    for name in names:
        bare = name.casefold()
        hit = folded.get(bare) or (folded.get(bare[:-1]) if bare.endswith("i") else None)
        if hit and len(hit) == 1:
            found[name] = hit[0]
    return found


def advice(
    lost_in: Sequence[str],
    lost_out: Sequence[str],
    species: Sequence[str],
    others: Mapping[str, Sequence[str]],
    splittable: bool,
) -> list[str]:
    """What to do about names that are no species, the likeliest first.

    Args:
        lost_in: Treatments that are none.
        lost_out: Readouts that are none.
        species: The species.
        others: What each column of ``var`` calls the readouts.
        splittable: Whether the treatments are labels that a separator can cut.

    Returns:
        Sentences; none if nothing was found.
    """
    there = set(species)
    found = []
    separator, cut = find_separator(lost_in, lambda part: part in there or part.removesuffix("i") in there)
    if cut:
        how = (
            f"pass {asked(f'separator={separator!r}', f'--separator {shell(separator)}')}"
            if splittable
            else "give each a column of its own"
        )
        found.append(f"{counted(len(cut), 'treatment')} ({listed(cut, 3)}) join species by {separator!r}: {how}")
    hits = {column: len(there & set(names)) for column, names in others.items()}
    column = max(hits, key=lambda name: hits[name], default="")
    if column and hits[column] and lost_out:
        option = asked(f"var_names={column!r}", f"--var-names {shell(column)}")
        found.append(
            f"column {column!r} of 'var' holds {counted(hits[column], 'species', 'species')} of the network: pass "
            f"{option}"
        )
    case = but_for_case([*lost_in, *lost_out], species)
    if case:
        shown = [f"{name!r} is {hit!r} there" for name, hit in list(case.items())[:3]]
        more = f" and {len(case) - 3} more" if len(case) > 3 else ""
        found.append(
            f"{counted(len(case), 'name')} would match if upper and lower case were one ({', '.join(shown)}{more}): "
            f"pass {asked('ignore_case=True', '--ignore-case')}"
        )
    kind, known = kind_of([*lost_in, *lost_out] if not lost_out else lost_out), kind_of(species)
    if not found and kind != known:
        one = f"are {kind}" if kind else "are names"
        other = f"are {known}" if known else "are names"
        found.append(
            f"the {'readouts' if lost_out else 'treatments'} that are missing {one} and the species {other}: "
            "translate one of them (mygene, biomaRt or a table of the database)"
        )
    return found
