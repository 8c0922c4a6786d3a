"""Edges that come as Python objects: check them and split them into columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from typing import Any

from gsnn.base.edge_columns import SIGNS, find_edge_columns, plain_name
from gsnn.base.errors import DataError

_SHOWN = 5
_FORM = "edges must be (source, target) or (source, target, sign)"


def edge_rows(
    edges: Any,  # noqa: ANN401 - whatever a caller passes
    is_sign: Callable[[Any], bool],
) -> tuple[list[Any], list[Any], list[Any] | None, bool]:
    """Split pairs or triples into sources, targets and signs.

    Triples may have the order of SIF (source, sign, target) if every middle element is a sign and not every last one.

    Args:
        edges: An iterable of pairs and triples, or a data frame whose columns have no names (0, 1, 2) or names that
            :func:`gsnn.base.edge_columns.find_edge_columns` knows.
        is_sign: Whether an element is a sign.

    Returns:
        Sources, targets, signs (None where the edge is a pair, and None in all if every edge is one), and whether the
        order was that of SIF.

    Raises:
        DataError: If an edge is a text, a set, a dictionary, or has another length; or if a triple has no sign where
            one is expected, or either of two elements could be the sign.

    Example:
        >>> edge_rows([("a", 1, "b"), ("b", -1, "c")], lambda element: element in (-1, 0, 1))
        (['a', 'b'], ['b', 'c'], [1, -1], True)
    """
    rows = _rows(edges)
    wrong = [row for row in rows if not _is_row(row)]
    if wrong:
        more = ", ..." if len(wrong) > _SHOWN else ""
        hint = "; a text is no edge: split it" if any(isinstance(row, str) for row in wrong) else ""
        raise DataError(f"{_FORM}, got {', '.join(map(repr, wrong[:_SHOWN]))}{more}{hint}")
    triples = [row for row in rows if len(row) == 3]
    middle = [row for row in triples if is_sign(row[1])]
    last = [row for row in triples if is_sign(row[2])]
    swapped = bool(triples) and len(middle) == len(triples) == len(rows) and len(last) < len(triples)
    if not swapped and len(last) < len(triples):
        row = next(row for row in triples if not is_sign(row[2]))
        hint = "; edges in the order of SIF (source, sign, target) must all be so" if middle else ""
        raise DataError(f"{_FORM}, and a sign is -1, 0 or 1, got {tuple(row)!r}{hint}")
    if triples and len(middle) == len(last) == len(rows):
        raise DataError(
            f"{_FORM}, and in every edge both the second and the third element may be the sign, as in "
            f"{tuple(triples[0])!r}; pass a data frame with the columns source, target and sign"
        )
    order = (0, 2, 1) if swapped else (0, 1, 2)
    signs = [row[order[2]] if len(row) == 3 else None for row in rows] if triples else None
    return [row[0] for row in rows], [row[order[1]] for row in rows], signs, swapped


def _rows(edges: Any) -> list[Any]:  # noqa: ANN401
    if isinstance(edges, str | bytes | Mapping):
        raise DataError(f"{_FORM} in a list, got {type(edges).__name__} {str(edges)[:100]!r}")
    if hasattr(edges, "columns") and hasattr(edges, "itertuples"):
        return _frame_rows(edges)
    if hasattr(edges, "columns"):
        raise DataError(f"{_FORM}, or a pandas DataFrame, got {type(edges).__name__}; pass edges.to_pandas()")
    if hasattr(edges, "is_directed") and hasattr(edges, "edges"):
        raise DataError(f"{_FORM} in a list, got the graph {type(edges).__name__}; pass list(G.edges)")
    if not isinstance(edges, Iterable):
        raise DataError(f"{_FORM} in a list, got {type(edges).__name__}")
    return list(edges)


def _is_row(row: Any) -> bool:  # noqa: ANN401
    return not isinstance(row, str | bytes | Mapping | Set) and hasattr(row, "__len__") and len(row) in (2, 3)


def _frame_rows(frame: Any) -> list[Any]:  # noqa: ANN401 - a pandas data frame
    """The rows of a frame: all columns if their names are 0, 1, 2, otherwise the columns of ends and sign."""
    header = list(frame.columns)
    if header == list(range(len(header))):
        if len(header) not in (2, 3):
            raise DataError(
                f"{_FORM}, got a data frame of {len(header)} columns without names; call them source, target and sign"
            )
        return list(frame.itertuples(index=False, name=None))
    names = [plain_name(str(name)) for name in header]
    ends = find_edge_columns([str(name) for name in header])
    if ends is None:
        raise DataError(
            f"edges has no columns that are known as source and target; it has {', '.join(map(repr, header[:12]))}: "
            "rename them, or if these are the first edge, read the file with header=None"
        )
    sign = next((names.index(name) for name in SIGNS if name in names), None)
    chosen = [frame.iloc[:, j].astype(object).tolist() for j in (*ends, *([] if sign is None else [sign]))]
    return list(zip(*chosen, strict=True))
