"""Hints why names of responses are no species: another separator, another case, other identifiers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from gsnn.base.wording import asked, shell
from gsnn.io.names import probably, spreadsheet_dates
from gsnn.io.text import counted, joined, listed
from gsnn.io.treatments import CONTROLS, UNKNOWN

if TYPE_CHECKING:
    from gsnn.io import Responses, StreamedResponses

# The longest first, so that "A || B" is not cut at a blank.
SEPARATORS = (" || ", "||", " + ", "+", ";", "|", "&", ",", "_", "/", ":", "-", " ")
TRANSLATE = "translate one of them"
_ACCESSIONS = {
    "Ensembl identifiers": re.compile(r"ENS[A-Z]{0,6}[GTPE]\d{6,}(\.\d+)?", re.IGNORECASE),
    "UniProt accessions": re.compile(r"([OPQ]\d[A-Z0-9]{3}\d|[A-NR-Z]\d([A-Z][A-Z0-9]{2}\d){1,2})(-\d+)?"),
    "RefSeq accessions": re.compile(r"[NX][MRPC]_\d{4,}(\.\d+)?"),
    "HGNC identifiers": re.compile(r"HGNC:\d+", re.IGNORECASE),
    "numbers, as Entrez identifiers are": re.compile(r"\d+"),
}
# Additions of databases and antibodies to a name, and how messages call them.
_ADDITIONS = (
    ("the version behind the dot", re.compile(r"\.\d{1,3}$")),
    ("the number of the isoform", re.compile(r"(?<=[A-Z0-9]{5})-\d{1,2}$")),
    ("the number of the organism before the dot", re.compile(r"^\d{3,7}\.(?=\D)")),
    ("the organism behind the underscore", re.compile(r"_[A-Z]{4,5}$")),
    ("the name of the database before the colon", re.compile(r"^[A-Za-z_.]{2,12}:(?=\S)")),
    ("what stands in brackets", re.compile(r"\s*[(\[][^()\[\]]*[)\]]$")),
    ("the site", re.compile(r"[_-]p?[STY]\d+([_-]?p?[STY]\d+)*$")),
    ("the p of phosphorylated", re.compile(r"^(p|phospho)[-_]?(?=[A-Z])")),
)
# Labels that are probably controls, beside those that always count as controls.
_CONTROL = re.compile(
    r"(.*[-_. ])?(ctrl|ctr|con|control|controls|nt|ntc|dmso|vehicle|scr|scramble|scrambled|mock|untreated|unstimulated"
    r"|wt|wild[- _]?type|baseline|media|medium|pbs|neg|no[- _]treatment|not[- _]treated|sgnt|safe[- _]?targeting)"
    r"([-_. (+].*)?",
    re.IGNORECASE,
)
_MOST_TRIED = 10  # strings between names that are tried as separators


def accession(name: str) -> str:
    """The kind of accession of a name; empty if it is none.

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
    """The separator of species in labels such as ``A+B``, and the labels that it cuts; both empty if there is none.

    Args:
        names: Labels that are no species.
        known: Whether a part is a species, or an inhibitor of one.

    Example:
        >>> find_separator(["A_B", "x"], {"A", "B"}.__contains__)
        ('_', ['A_B'])
    """
    names = list(names)
    best: tuple[str, list[str]] = ("", [])
    # Strings between letters and digits in the labels themselves, such as "__" and " and ".
    between = Counter(
        joiner for name in names for joiner in set(re.findall(r"[^\W_](\W+and\W+|[\W_]+)(?=[^\W_])", name))
    )
    others = [joiner for joiner, _ in between.most_common(_MOST_TRIED) if joiner not in SEPARATORS]
    for separator in (*sorted(others, key=len, reverse=True), *SEPARATORS):
        cut = []
        for name in names:
            parts = [part.strip() for part in name.split(separator)]
            some = [known(part) for part in parts if part.casefold() not in CONTROLS]
            if len(parts) > 1 and all(parts) and some and all(some):
                cut.append(name)
        if len(cut) > len(best[1]):
            best = separator, cut
    return best


def but_for_case(names: Iterable[str], species: Iterable[str], *, inhibitors: bool = True) -> dict[str, str]:
    """Names that differ from exactly one species in case only.

    Args:
        names: Names that are no species.
        species: The species.
        inhibitors: Whether an i after a name may make it an inhibitor, as for treatments.

    Returns:
        The species by name.

    Example:
        >>> but_for_case(["egf", "MEKi", "x"], ["EGF", "Mek"])
        {'egf': 'EGF', 'MEKi': 'Mek'}
    """
    folded: dict[str, list[str]] = {}
    for each in species:
        folded.setdefault(each.casefold(), []).append(each)
    hits = {}
    for name in names:
        bare = name.casefold()
        hit = folded.get(bare) or (folded.get(bare[:-1]) if inhibitors and bare.endswith("i") else None)
        if hit and len(hit) == 1:
            hits[name] = hit[0]
    return hits


def but_for_more(names: Sequence[str], species: Iterable[str]) -> tuple[str, dict[str, str]]:
    """Names that would be a species without an addition of a database or an antibody; the species may have one too.

    Returns:
        The addition, and the species by name; both empty if there is none.

    Example:
        >>> but_for_more(["ENSG00000146648.19", "x"], ["ENSG00000146648"])
        ('the version behind the dot', {'ENSG00000146648.19': 'ENSG00000146648'})
    """
    species = list(species)
    best: tuple[str, dict[str, str]] = ("", {})
    for what, pattern in _ADDITIONS:
        bare = {pattern.sub("", each): each for each in species} | {each: each for each in species}
        hits = {}
        for name in names:
            short = pattern.sub("", name)
            hit = bare.get(short) or bare.get(pattern.sub("", name.removesuffix("i")))
            # One of the two must have the addition.
            if hit is not None and (short != name or pattern.search(name.removesuffix("i")) or pattern.search(hit)):
                hits[name] = hit
        if len(hits) > len(best[1]):
            best = what, hits
    return best


def advice(
    lost_in: Sequence[str],
    lost_out: Sequence[str],
    species: Sequence[str],
    responses: Responses | StreamedResponses,
    separator: str,
    cut: Sequence[str],
) -> list[str]:
    """What to do about treatments and readouts that are no species, the most likely first.

    ``separator`` and ``cut`` are the results of :func:`find_separator` for the treatments.
    """
    known = set(species)
    hints: list[str] = []
    explained = set(cut)
    if cut:
        how = (
            f"pass {asked(f'separator={separator!r}', f'--separator {shell(separator)}')}"
            if responses.labels
            else "give each a column of its own"
        )
        hints.append(f"{counted(len(cut), 'treatment')} ({listed(cut, 3)}) join species by {separator!r}: {how}")
    hits = {column: len(known & set(names)) for column, names in responses.other_names.items()}
    column = max(hits, key=lambda name: hits[name], default="")
    if column and hits[column] and lost_out:
        option = asked(f"var_names={column!r}", f"--var-names {shell(column)}")
        hints.append(
            f"column {column!r} of 'var' holds {counted(hits[column], 'species', 'species')} of the network: pass "
            f"{option}"
        )
    case = but_for_case(lost_in, species) | but_for_case(lost_out, species, inhibitors=False)
    if case:
        hints.append(
            f"{counted(len(case), 'name')} would match if upper and lower case were one ({_in_species(case)}): "
            f"pass {asked('ignore_case=True', '--ignore-case')}"
        )
        explained |= set(case)
    what, more = but_for_more([name for name in (*lost_in, *lost_out) if name not in explained], species)
    if more:
        hints.append(
            f"{counted(len(more), 'name')} would match without {what} ({_in_species(more)}): write the names of both "
            "files alike"
        )
    inhibitors = [name for name in lost_out if name.endswith("i") and name[:-1] in known]
    if inhibitors:
        sides = asked("treatments and readouts (inputs and outputs)", "--inputs and --outputs")
        hints.append(f"{listed(inhibitors, 3)} among the readouts would be inhibitors; are {sides} swapped?")
    rest = [name for name in lost_in if name not in explained]
    unknown = [name for name in rest if name.casefold() in UNKNOWN]
    if unknown:
        how = "leave that column, and the samples it marks, out of the file"
        if responses.categories:
            flags = " ".join(f"--exclude-label {shell(name)}" for name in unknown[:3])
            how = f"pass {asked(f'exclude={unknown[:3]}', flags)} to leave these samples out"
        hints.append(f"{listed(unknown, 3)} may say that nobody knows what was done: {how}")
    controls = [name for name in rest if _CONTROL.fullmatch(name) and name not in unknown]
    if controls:
        how = "leave that column out of the file: a control is a row of zeros"
        if responses.categories:
            flags = " ".join(f"--control {shell(name)}" for name in controls[:3])
            how = f"pass {asked(f'control={controls[:3]}', flags)} if nothing was done there"
        hints.append(f"{listed(controls, 3)} may be a control: {how}")
    dates = spreadsheet_dates([*lost_in, *lost_out])
    if dates:
        hints.append(f"a spreadsheet made dates of genes: {probably(dates, 3)}; import the column as text")
    ours, theirs = kind_of(lost_out or lost_in), kind_of(species)
    if not hints and ours != theirs:
        hints.append(
            f"the {'readouts' if lost_out else 'treatments'} that are missing are {ours or 'names'} and the species "
            f"are {theirs or 'names'}: {TRANSLATE} (mygene, biomaRt or a table of the database)"
        )
    return hints


def _in_species(names: Mapping[str, str]) -> str:
    """The first of the names, each with its species."""
    return joined([f"{name!r} is {hit!r} there" for name, hit in names.items()], 3)
