"""Suspect names: dates that a spreadsheet made of genes, invisible characters, words and numbers of a file."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from gsnn.io.text import counted, joined, listed

# Words of headers and relations that are not genes.
FILE_WORDS = frozenset(
    """source target src dst from to interacts interaction interactions relation relations relationship sign effect
    weight score confidence mor edge edges node nodes node1 node2 gene1 gene2 protein1 protein2 source_name target_name
    source_id target_id entitya entityb regulator type mode with activates inhibits activation inhibition pp pd
    nan na n/a null none nil unknown undefined #n/a #name? #ref! #value!""".split()
)
_COLUMN = re.compile(r"(v|x|col|column|field|node|gene|protein|species|entity|participant|molecule)[_. ]?(\d|[ab])")
_MONTH = r"jan|feb|mar|apr|may|jun|jul|aug|sep|sept|oct|nov|dec|mrz|mär|mai|okt|dez"
_DATE = re.compile(
    rf"(?P<day>\d{{1,2}})[-./ ]{{1,2}}(?P<month>{_MONTH})([-./ ]\d{{2,4}})?"
    rf"|(?P<month2>{_MONTH})[-./ ](?P<day2>\d{{1,4}})"
    r"|(?P<year>\d{4})-(?P<mm>\d{2})-(?P<dd>\d{2})( 00:00:00)?|(?P<d3>\d{1,2})/(?P<m3>\d{1,2})/\d{2,4}",
    re.IGNORECASE,
)
_NUMBER_OF_MONTH = {"mar": 3, "mrz": 3, "mär": 3, "sep": 9, "sept": 9, "oct": 10, "okt": 10, "dec": 12, "dez": 12,
                    "nov": 11, "feb": 2, "apr": 4}  # fmt: skip
_GENES = {2: ("FEB",), 3: ("MARCH", "MARC"), 4: ("APR",), 9: ("SEPT",), 10: ("OCT",), 11: ("NOV",), 12: ("DEC",)}


def is_number(word: str) -> bool:
    """Whether a word reads as a number.

    Example:
        >>> [is_number(w) for w in ("1950", "0.60", "-1", "1e5", "EGF", "nan", "1_0")]
        [True, True, True, True, False, False, False]
    """
    return parses_as_number(word) and float(word) == float(word) and "_" not in word


def parses_as_number(word: str) -> bool:
    """Whether Python reads a word as a number, be it infinite, NaN or written with underscores.

    Example:
        >>> [parses_as_number(w) for w in ("1e5", "nan", "1_0", "EGF", "")]
        [True, True, True, False, False]
    """
    try:
        float(word)
    except ValueError:
        return False
    return True


def is_file_word(word: str) -> bool:
    """Whether a word belongs to headers or relations (``Source``, ``V1``) and is not a name.

    Example:
        >>> is_file_word("Target"), is_file_word("V1"), is_file_word("EGFR")
        (True, True, False)
    """
    folded = word.casefold()
    return folded in FILE_WORDS or _COLUMN.fullmatch(folded) is not None


def spreadsheet_dates(names: Iterable[str]) -> dict[str, str]:
    """The dates among names, which a spreadsheet made of genes, with the genes that they may have been (or "").

    Example:
        >>> spreadsheet_dates(["EGF", "1-Mar", "7-Sep"])
        {'1-Mar': 'MARCH1 or MARC1', '7-Sep': 'SEPT7'}
    """
    dates = {}
    for name in names:
        match = _DATE.fullmatch(name)
        if match is None:
            continue
        word = match["month"] or match["month2"]
        if word:
            month = _NUMBER_OF_MONTH.get(word.casefold(), 0)
            day = int(match["day"] or match["day2"])
        else:
            month, day = (int(match["mm"]), int(match["dd"])) if match["year"] else (int(match["m3"]), int(match["d3"]))
        dates[name] = " or ".join(f"{gene}{day}" for gene in _GENES.get(month, ()))
    return dates


def probably(dates: dict[str, str], most: int) -> str:
    """The first dates of :func:`spreadsheet_dates`, each with its genes."""
    return joined([f"'{name}'" + (f" (probably {gene})" if gene else "") for name, gene in dates.items()], most)


def hidden_characters(names: Iterable[str]) -> list[str]:
    r"""Names with invisible characters: of no width, unusual blanks, or blanks at an end.

    Example:
        >>> hidden_characters(["EGF", "\u200bEGF", "IL\xa06"])
        ['\u200bEGF', 'IL\xa06']
    """
    return [
        name
        for name in names
        if name != name.strip() or (not name.isascii() and any(_hidden(character) for character in name))
    ]


def _hidden(character: str) -> bool:
    return character != " " and unicodedata.category(character) in {"Cf", "Zs", "Cc"}


def visible(name: str) -> str:
    """A name without invisible characters."""
    return "".join(character for character in name if not _hidden(character)).strip()


def written(name: str) -> str:
    """A name with invisible characters written as ``<U+200B>``."""
    return "".join(f"<U+{ord(c):04X}>" if _hidden(c) else c for c in name)


def doubtful(species: list[str]) -> list[str]:
    """Warnings about names that are probably not those of their author: dates, and invisible characters."""
    notes = []
    dates = spreadsheet_dates(species)
    if dates:
        notes.append(
            f"{counted(len(dates), 'name')} that a spreadsheet made of genes: {probably(dates, 5)}; two genes "
            "may have become one: take them from the original and import the column as text"
        )
    hidden = hidden_characters(species)
    if hidden:
        known = set(species)
        twice = [name for name in map(visible, hidden) if name in known]
        also = f"; without them there are {listed(twice)} too, which are other species as it is" if twice else ""
        notes.append(
            f"{counted(len(hidden), 'name')} with characters that cannot be seen: "
            f"{listed(map(written, hidden))}{also}; remove them"
        )
    return notes


def strange(species: Iterable[str], elsewhere: Iterable[str] = ()) -> list[str]:
    """Signs that a network was read wrongly: species that are numbers, or words of file headers.

    Identifiers may be numbers (Entrez). If the data have one of them too, only fractions are reported.

    Args:
        species: The names in the network.
        elsewhere: The names of treatments and readouts.

    Returns:
        At most one sentence for numbers and one for words.

    Example:
        >>> strange(["EGF", "0.6", "target"])[0]
        "1 species of the network is a number that the data do not have: '0.6'; was a column of numbers read as names?"
        >>> strange(["1950", "1956"], ["1950i"])
        []
    """
    species, known = list(species), set(map(str, elsewhere))
    known |= {name[:-1] for name in known if name.endswith("i")}
    notes = []
    numbers = [name for name in species if is_number(name)]
    if known & set(numbers):
        numbers = [name for name in numbers if not re.fullmatch(r"[+-]?\d+", name) and name not in known]
    if numbers:
        are = "is a number" if len(numbers) == 1 else "are numbers"
        notes.append(
            f"{counted(len(numbers), 'species', 'species')} of the network {are} that the data do not have: "
            f"{listed(numbers)}; was a column of numbers read as names?"
        )
    # SRC is a gene; src is a word of files.
    words = [name for name in species if name not in known and name != "SRC" and is_file_word(name)]
    if words:
        are = "is a word" if len(words) == 1 else "are words"
        notes.append(
            f"{counted(len(words), 'species', 'species')} of the network {are} of files, not a name: {listed(words)}; "
            "was a header or a relation read as an edge?"
        )
    return notes
