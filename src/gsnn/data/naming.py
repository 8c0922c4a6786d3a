"""Propose a map of names to correct by hand, and warn about doses."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from gsnn.base.wording import asked
from gsnn.data.hints import but_for_case, but_for_more
from gsnn.data.matching import close_species, resolve
from gsnn.io import NameMap, Network, Responses
from gsnn.io.name_map import COLUMNS, EFFECTS, Scale
from gsnn.io.text import counted, joined

WIDEST = 10.0  # factor between the doses of a treatment above which another scale is offered
LARGEST = 5.0  # a dose beyond which training suffers: inputs are taken as they are
_SITE = re.compile(r"(?:[_-]p?|p)([STY]\d+)(?:[_/-]?p?[STY]?\d+)*$")
# Names in antibodies and drugs that differ from the symbol of the gene; for a family its first member.
_CALLED = dict(
    pair.split("=")
    for pair in (
        "MEK=MAP2K1 MEK1=MAP2K1 MEK2=MAP2K2 ERK=MAPK1 ERK1=MAPK3 ERK2=MAPK1 MAPK=MAPK1 P38=MAPK14 JNK=MAPK8 JNK1=MAPK8 "
        "PI3K=PIK3CA PI3KP85=PIK3R1 PDK1=PDPK1 4EBP1=EIF4EBP1 S6=RPS6 P70S6K=RPS6KB1 S6K=RPS6KB1 P90RSK=RPS6KA1 "
        "RSK=RPS6KA1 P53=TP53 P21=CDKN1A P27=CDKN1B P16=CDKN2A RB=RB1 BCATENIN=CTNNB1 CYCLINB1=CCNB1 CYCLIND1=CCND1 "
        "CYCLINE1=CCNE1 CHK1=CHEK1 CHK2=CHEK2 BIM=BCL2L11 BCLXL=BCL2L1 ERA=ESR1 ERALPHA=ESR1 PR=PGR HER2=ERBB2 "
        "HER3=ERBB3 CRAF=RAF1 ACC=ACACA ACC1=ACACA AMPK=PRKAA1 PKC=PRKCA PKCA=PRKCA PKA=PRKACA GSK3=GSK3B GSK=GSK3B "
        "CMET=MET CKIT=KIT CMYC=MYC CJUN=JUN CFOS=FOS NFKB=RELA P65=RELA IKBA=NFKBIA HSP27=HSPB1 FAK=PTK2 STAT5=STAT5A "
        "YBI=YBX1 YB1=YBX1 CASPASE3=CASP3 CASPASE8=CASP8 CASPASE9=CASP9"
    ).split()
)
_GUESS, _NOTHING = "a guess: check it", "no species is near: fill in or delete"


def too_wide(doses: npt.NDArray[np.floating]) -> bool:
    """Whether the doses of a treatment need another scale: they span more than a factor of 10, or exceed 5.

    Example:
        >>> too_wide(np.array([0.0, 0.1, 2.0])), too_wide(np.array([0.0, 60.0])), too_wide(np.array([0.0, 1.0]))
        (True, True, False)
    """
    applied = np.abs(doses[np.isfinite(doses) & (doses != 0)])
    return bool(len(applied)) and bool(applied.max() > WIDEST * applied.min() or applied.max() > LARGEST)


def dose_notes(names: Sequence[str], doses: npt.NDArray[np.floating]) -> list[str]:
    """A warning about doses that span too much, or are too large, for training; at most one sentence.

    Args:
        names: I treatments.
        doses: (M, I) as the model gets them.

    Example:
        >>> print(dose_notes(["TR:a", "TR:b"], np.array([[0.0, 60.0], [1.0, 120.0]]))[0][:68])
        1 treatment (TR:b 60 to 120) has doses that span more than a factor
    """
    wide = [i for i in range(len(names)) if too_wide(doses[:, i])]
    if not wide:
        return []
    shown = []
    for i in wide:
        applied = np.abs(doses[:, i][doses[:, i] != 0])
        shown.append(f"{names[i]} {applied.min():g} to {applied.max():g}")
    return [
        f"{counted(len(wide), 'treatment')} ({joined(shown, 4)}) {'have' if len(wide) > 1 else 'has'} doses that "
        f"span more than a factor of {WIDEST:g} or go beyond {LARGEST:g}: a log or square-root scale is offered, in "
        f"the column scale of a map of names ({asked('names=', '--map; gsnn check --write-map FILE writes one')})"
    ]


def proposed_map(
    network: Network, responses: Responses, names: NameMap | None = None, ignore_case: bool = False
) -> str:
    """A map of names for data as the text of a CSV file, with guesses to correct by hand.

    For a label that is neither a species nor in ``names``, the nearest species is guessed, without its site, and its
    ``note`` says so. If the doses of a treatment span too much, all treatments get a log scale.

    Args:
        network: The prior network.
        responses: Treatments and readouts.
        names: A map to begin with.
        ignore_case: As for :func:`gsnn.data.build_data`.

    Returns:
        The text, a row for each label and species.

    Example:
        >>> import pandas as pd
        >>> network = Network.from_edges([("AKT1", "JUN"), ("EGF", "AKT1")])
        >>> treatments = pd.DataFrame({"EGF": [0.0, 50.0, 100.0]})
        >>> responses = Responses(treatments, pd.DataFrame({"AKT_pS473": [1.0, 2, 3], "JUN": [1.0, 2, 3]}))
        >>> print(proposed_map(network, responses), end="")
        label,species,effect,site,scale,note
        EGF,EGF,activates,,log:50,
        AKT_pS473,AKT1,measures,S473,,a guess: check it
        JUN,JUN,measures,,,
    """
    names = names or NameMap()
    targets, measured = resolve(network, responses, names, ignore_case)
    words = {sign: effect for effect, sign in EFFECTS.items()}
    rows: list[tuple[str, ...]] = []
    # One scale for all, or the treatments would not be comparable.
    wide = any(too_wide(responses.treatments[name].to_numpy(dtype=float)) for name in targets)
    for name in targets:
        doses = responses.treatments[name].to_numpy(dtype=float)
        scale = names.scales.get(name, Scale("log").of(doses) if wide else Scale())
        shown = "" if scale.kind == "none" else str(scale)
        for species, sign in targets[name]:
            rows.append((name, species, words[sign], "", shown, ""))
        if not targets[name]:
            guess = _guess(name, network.species)
            rows.append((name, guess, "inhibits", "", shown, _GUESS if guess else _NOTHING))
    for name in measured:
        site = names.sites.get(name) or (match.group(1) if (match := _SITE.search(name)) else "")
        for species in measured[name]:
            rows.append((name, species, "measures", "" if name == species else site, "", ""))
        if not measured[name]:
            guess = _guess(name, network.species)
            rows.append((name, guess, "measures", site, "", _GUESS if guess else _NOTHING))
    text: str = pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(index=False, lineterminator="\n")
    return text


def _guess(name: str, species: Sequence[str]) -> str:
    """The species that a label most likely means; empty if none is near."""
    for hits in (but_for_case([name], species), but_for_more([name], species)[1]):
        if hits:
            return hits[name]
    bare = re.sub(r"[^A-Za-z0-9]", "", _SITE.sub("", name)).upper()
    by_upper, tried = {each.upper(): each for each in species}, [bare, bare[1:]]  # aMEK may be an antibody against MEK
    for word in tried:
        if _CALLED.get(word, word) in by_upper:
            return by_upper[_CALLED.get(word, word)]
    for word in tried:
        family = sorted((each for each in species if len(word) > 2 and each.upper().startswith(word)), key=len)
        near = family[:1] or [each for each in close_species(word, species) if each.upper()[:2] == word[:2]]
        if near:
            return near[0]
    return ""
