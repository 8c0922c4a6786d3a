"""The three kinds of edges, by the words that tables and options use."""

from __future__ import annotations

from collections.abc import Sequence

from gsnn.base.errors import DataError, unknown_option
from gsnn.graph.checks import EdgeType

INPUT_EDGES, FUNCTION_EDGES, OUTPUT_EDGES = "input->function", "function->function", "function->output"

# From where a signal enters to where it is read.
KINDS: tuple[str, ...] = (INPUT_EDGES, FUNCTION_EDGES, OUTPUT_EDGES)

_SHORT = dict(zip(("input", "function", "output"), KINDS, strict=True))


def edge_type(kind: str) -> EdgeType:
    """The edge type of a kind.

    Example:
        >>> edge_type("input->function")
        ('input', 'to', 'function')
    """
    source, target = kind.split("->")
    return (source, "to", target)


def kind_of(edge: EdgeType) -> str:
    """The kind of an edge type.

    Example:
        >>> [kind_of(edge) for edge in EDGE_TYPES]
        ['function->function', 'input->function', 'function->output']
    """
    return f"{edge[0]}->{edge[2]}"


def resolve_kinds(kinds: str | Sequence[str]) -> tuple[str, ...]:
    """Kinds from what a user writes: ``input``, ``function``, ``output``, the whole names, or ``all``.

    Args:
        kinds: A text, also with commas, or several.

    Returns:
        The kinds, each once, from where a signal enters to where it is read.

    Raises:
        DataError: If there is none, or no kind of that name.

    Example:
        >>> resolve_kinds("output,input")
        ('input->function', 'function->output')
    """
    texts = [kinds] if isinstance(kinds, str) else kinds
    given = [part.strip() for text in texts for part in text.split(",") if part.strip()]
    if not given:
        raise DataError(f"give at least one kind of edges: {', '.join(_SHORT)}, or all")
    for name in given:
        if name not in (*_SHORT, *KINDS, "all"):
            raise DataError(str(unknown_option("kind", name, (*_SHORT, "all"))))
    wanted = set(KINDS) if "all" in given else {_SHORT.get(name, name) for name in given}
    return tuple(kind for kind in KINDS if kind in wanted)
