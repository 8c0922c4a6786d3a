"""Conditions and nodes by the names that a user gives them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gsnn.base.errors import DataError, closest
from gsnn.data import PerturbationData

UNTREATED = "untreated"
_PREFIXES = ("TR:", "DV:")
_LISTED, _SHOWN = 6, 3  # up to so many treatments of a condition are all named, of more only the first few


def name_of(node: str) -> str:
    """The species of an input or output.

    Example:
        >>> name_of("TR:egf"), name_of("erk")
        ('egf', 'erk')
    """
    return node[3:] if node.startswith(_PREFIXES) else node


def applied(values: Iterable[float], inputs: Sequence[str]) -> list[str]:
    """The treatments that a condition applies, each with its dose where that is not 1."""
    return [
        name_of(name) + ("" if value == 1 else f"={value:g}")
        for value, name in zip(values, inputs, strict=True)
        if value
    ]


def condition_name(values: Iterable[float], inputs: Sequence[str]) -> str:
    """The treatments of a condition, joined by plus signs, with doses that are not 1; of more than 6 the first 3.

    Example:
        >>> condition_name([1, 0, 0.5], ["TR:egf", "TR:tnf", "TR:meki"]), condition_name([0], ["TR:egf"])
        ('egf+meki=0.5', 'untreated')
    """
    names = applied(values, inputs)
    if len(names) > _LISTED:
        return "+".join(names[:_SHOWN]) + f"+{len(names) - _SHOWN} more"
    return "+".join(names) or UNTREATED


def condition_names(x: npt.NDArray[np.floating], data: PerturbationData) -> list[str]:
    """Names of conditions (M, I) that :func:`inputs_of` reads; one of many treatments is called by its first row.

    Example:
        >>> import pandas as pd
        >>> from gsnn.data import build_data
        >>> from gsnn.io import Network, Responses
        >>> x = pd.DataFrame({name: [1.0, 2, 3] for name in "abcdefg"})
        >>> network = Network.from_edges([(name, "y") for name in "abcdefg"])
        >>> data = build_data(network, Responses(x, pd.DataFrame({"y": [1.0, 2, 3]})))
        >>> condition_names(data.x[2:], data), inputs_of("row 2", data)[0].item()
        (['row 2'], 3.0)
    """
    # Adding 0 makes -0 equal to 0.
    rows = {row.tobytes(): number for number, row in reversed([*enumerate(data.x + np.float32(0))])}
    names = []
    for values in np.asarray(x, np.float32) + np.float32(0):
        number = rows.get(values.tobytes()) if np.count_nonzero(values) > _LISTED else None
        names.append(condition_name(values, data.graph.inputs) if number is None else f"row {number}")
    return names


@dataclass(frozen=True, eq=False)
class Conditions:
    """Distinct rows of treatments.

    Attributes:
        x: (M, I) float32.
        names: Of each.
    """

    x: npt.NDArray[np.float32]
    names: list[str]

    @classmethod
    def of(cls, x: npt.NDArray[np.floating], data: PerturbationData) -> Conditions:
        """The distinct rows of (M, I), in order of first occurrence."""
        x = np.asarray(x, np.float32) + np.float32(0)
        first = np.sort(np.unique(x, axis=0, return_index=True)[1])
        return cls(x[first], condition_names(x[first], data))


def inputs_of(text: str, data: PerturbationData) -> npt.NDArray[np.float32]:
    """The treatments (I,) of a condition that a user names.

    Args:
        text: ``untreated``; any treatments joined by ``+``, each with ``=dose`` where it is not 1; the name of a row of
            the data; or its number from 0, if no row has that name.
        data: The data.

    Raises:
        DataError: If there is no such treatment or row, with the closest names.

    Example:
        >>> import pandas as pd
        >>> from gsnn.data import build_data
        >>> from gsnn.io import Network, Responses
        >>> x, y = pd.DataFrame({"a": [0.0, 1, 2]}), pd.DataFrame({"b": [1.0, 2, 3]})
        >>> data = build_data(Network.from_edges([("a", "b")]), Responses(x, y))
        >>> inputs_of("a=2", data).tolist(), inputs_of("1", data).tolist()
        ([2.0], [1.0])
    """
    text = text.strip()
    labels = [str(label) for label in data.inputs.index]
    if text in labels:
        return data.x[labels.index(text)]
    values = np.zeros(data.graph.I, np.float32)
    if text == UNTREATED:
        return values
    number = text.removeprefix("row ").strip()
    if number.isdigit():
        if int(number) < len(data):
            return data.x[int(number)]
        raise DataError(f"there is no row {number}: the data have rows 0 to {len(data) - 1}")
    place = {spelled: i for i, name in enumerate(data.graph.inputs) for spelled in (name, name_of(name))}
    for part in text.split("+"):
        name, dose = part.strip(), ""
        if name not in place and "=" in part:  # a name may hold "=", too
            name, _, dose = (piece.strip() for piece in part.rpartition("="))
        if name not in place:
            raise DataError(
                f"no row or treatment is called '{name}'{_hint(name, [name_of(i) for i in data.graph.inputs])}; write "
                f"treatments joined by +, the name or number of a row, or {UNTREATED}"
            )
        try:
            values[place[name]] = float(dose) if dose else 1.0
        except ValueError:
            raise DataError(f"the dose of '{name}' must be a number, got '{dose}'") from None
        if not np.isfinite(values[place[name]]):
            raise DataError(f"the dose of '{name}' must be a finite number, got '{dose}'")
    return values


def numbers_of(names: Sequence[str], known: Sequence[str], what: str) -> list[int]:
    """Numbers of nodes by their names, with or without TR: or DV:, each once.

    Args:
        names: What the user gave.
        known: The nodes there are.
        what: What they are called in the error, such as ``function``.

    Raises:
        DataError: If one is unknown, with the closest names.

    Example:
        >>> numbers_of(["erk", "DV:mek"], ["DV:mek", "DV:erk"], "readout")
        [1, 0]
    """
    place = {spelled: i for i, name in reversed([*enumerate(known)]) for spelled in (name_of(name), name)}
    wrong = [name for name in names if name not in place]
    if wrong:
        hint = _hint(wrong[0], [name_of(name) for name in known])
        more = f" (and {len(wrong) - 1} more are unknown)" if len(wrong) > 1 else ""
        raise DataError(f"the network has no {what} '{wrong[0]}'{hint}{more}")
    return list(dict.fromkeys(place[name] for name in names))


def _hint(name: str, options: Iterable[str]) -> str:
    near = closest(name, options)
    return f" (did you mean {', '.join(repr(option) for option in near)}?)" if near else ""
