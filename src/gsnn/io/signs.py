"""The signs that words for interactions stand for: +1, -1 or 0 (unknown)."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_ACTIVATING = frozenset(
    """1 + +1 -> --> => > activates activate activated activation activating activator active agonist
    stimulates stimulate stimulated stimulation stimulating stimulator stimulatory induces induce induction inducer
    positive pos up upregulates upregulation increases increase promotes promotion enhances enhancement
    positively_regulates positive_regulation""".split()
)
_INHIBITING = frozenset(
    """-1 - \u2212 \u22121 -| --| |- =| \u22a3 inhibits inhibit inhibited inhibition inhibiting inhibitor inhibitory
    antagonist represses repress repressed repression repressing repressor suppresses suppression suppressor blocks
    blocking negative neg down downregulates downregulation decreases decrease
    negatively_regulates negative_regulation""".split()
)
_NEUTRAL = frozenset(
    """0 ? . +- -+ +/- -/+ pp pd pr rc cc unknown undefined unspecified none na nan both dual mixed ambiguous
    interacts interaction interacts_with form_complex binds binding regulates regulation undirected
    binds_to associates_with reacts_with neighbor_of in_complex_with used_to_produce chemical_affects
    catalysis_precedes consumption_controlled_by controls_state_change_of controls_phosphorylation_of
    controls_expression_of controls_transport_of controls_transport_of_chemical controls_production_of
    interacts-with binds-to associates-with reacts-with neighbor-of in-complex-with used-to-produce chemical-affects
    catalysis-precedes consumption-controlled-by controls-state-change-of controls-phosphorylation-of
    controls-expression-of controls-transport-of controls-transport-of-chemical controls-production-of""".split()
)
# Relations of several words, in lines whose fields are separated by blanks.
_PHRASE = re.compile(
    r"(positively|negatively) (regulates|regulated|influences|affects|controls|correlates)( with)?"
    r"|(positive|negative) (regulation|regulator|effect|influence)( (of|on))?"
    r"|(up|down)-?regulates? (activity|quantity( by (expression|stabilization|destabilization|repression))?)"
    r"|(up|down) regulates?|form complex|forms? complex with|in complex with|controls [a-z]+( [a-z]+)? of"
    r"|(directly|indirectly|weakly|strongly) [a-z]+s"
    r"|[a-z]+s (with|to|by|of|on|upon|from|in|for|via)|part of|has effect on|is a"
    r"|(is |was )?[a-z]+ed by",
    re.IGNORECASE,
)
_LONGEST_PHRASE = 5
_PASSIVE = re.compile(r"(.*[\s_-])?[a-z]+(ed|n)[\s_-]by", re.IGNORECASE)
_DEGREE = re.compile(r"(in)?directly_|weakly_|strongly_")
_TRUE = frozenset(["true", "t", "yes", "y", "+", "x", "directed"])
_FALSE = frozenset(["", "false", "f", "no", "n", "na", "nan", "-", "none", "undirected"])


def sign_of(word: str) -> int | None:
    """The sign a relation word stands for.

    Args:
        word: A sign (``1``, ``-1``, ``+``), a weight (``-0.3``) or a word (``activates``, ``down-regulates``).

    Returns:
        +1, -1, 0 for a word that means an unknown sign or both, None for an unknown word.

    Example:
        >>> [sign_of(w) for w in ("1", "-| ", "Up-regulates activity", "pp", "-0.5", "frobs")]
        [1, -1, 1, 0, -1, None]
    """
    word = word.strip().casefold()
    if len(word) > 2 and word[0] == "(" and word[-1] == ")":
        word = word[1:-1].strip()
    if not word or word in _NEUTRAL:
        return 0
    if word in _ACTIVATING:
        return 1
    if word in _INHIBITING:
        return -1
    try:
        value = float(word)
    except ValueError:
        pass
    else:
        return 0 if math.isnan(value) else int(np.sign(value))
    # `write_edges` puts "proposed-" before the relation of a proposal.
    joined = word.removeprefix("proposed-").replace("-", "").replace(" ", "_")
    joined = _DEGREE.sub("", joined, count=1) if _DEGREE.match(joined) else joined
    if joined in _NEUTRAL:
        return 0
    # Databases qualify the direction: "up-regulates quantity by expression", "down-regulates activity".
    if joined in _ACTIVATING or joined.startswith("upregulate"):
        return 1
    if joined in _INHIBITING or joined.startswith("downregulate"):
        return -1
    return None


def words_of_relation(fields: Sequence[str]) -> int:
    """The number of fields after the first that form one relation ("interacts with").

    Args:
        fields: A line cut at its blanks, the source first.

    Returns:
        Their number; 1 if the relation is one word, or too few fields would be left.

    Example:
        >>> words_of_relation(["a", "interacts", "with", "b"]), words_of_relation(["a", "activates", "b", "c"])
        (2, 1)
    """
    for n in range(min(_LONGEST_PHRASE, len(fields) - 2), 1, -1):
        words = fields[1 : 1 + n]
        # A name in capitals ("activates IN") is not part of a relation in lower case.
        if _PHRASE.fullmatch(" ".join(words)) and (words[0].isupper() or not any(w.isupper() for w in words[1:])):
            return n
    return 1


def is_passive(relation: str) -> bool:
    """Whether a relation means that its second species acts on its first.

    Example:
        >>> is_passive("activated by"), is_passive("is-inhibited-by"), is_passive("activates")
        (True, True, False)
    """
    return sign_of(relation) is None and _PASSIVE.fullmatch(relation) is not None


def signs_of(words: Sequence[str]) -> tuple[NDArray[np.int8], Counter[str]]:
    """The signs of many words (0 for an unknown word), and how often each unknown word occurs."""
    meaning = {word: sign_of(word) for word in set(words)}
    signs = np.fromiter((meaning[w] or 0 for w in words), dtype=np.int8, count=len(words))
    unknown = {w for w, s in meaning.items() if s is None}
    return signs, Counter(w for w in words if w in unknown) if unknown else Counter()


def flag_of(cell: str) -> bool | None:
    """Whether a cell of a stimulation or inhibition column says yes; None if it says neither yes nor no.

    Example:
        >>> flag_of("1"), flag_of("FALSE"), flag_of(""), flag_of("maybe")
        (True, False, False, None)
    """
    cell = cell.strip().casefold()
    if cell in _TRUE:
        return True
    if cell in _FALSE:
        return False
    try:
        return float(cell) != 0
    except ValueError:
        return None
