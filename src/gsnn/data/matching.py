"""Which treatments and readouts are which species of a prior network, and the graph that follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd

from gsnn.base.errors import DataError, closest, unknown_option
from gsnn.base.wording import asked, shell
from gsnn.data.hints import TRANSLATE, accession, advice, but_for_case, find_separator, kind_of
from gsnn.graph import Graph
from gsnn.io import NameMap, Network, Responses
from gsnn.io.name_map import map_notes
from gsnn.io.names import hidden_characters, written
from gsnn.io.table import check_unique
from gsnn.io.text import counted, listed

_MAX_LISTED = 8  # names that are told; gsnn check and its map have them all
_FEW = 3  # names for each of which several species are suggested
_COUNTED = 5  # samples from which a column with another number in each is no accident
_MAKE_RESPONSES = "read_responses reads files, and Responses(treatments, readouts) takes two tables"


class Named(Protocol):
    """What :func:`match` needs to know of responses."""

    @property
    def name(self) -> str:
        """How messages call them."""

    @property
    def kinds(self) -> dict[str, str]:
        """As in :class:`gsnn.io.Responses`."""

    @property
    def warnings(self) -> list[str]:
        """What a user should know."""

    @property
    def other_names(self) -> dict[str, list[str]]:
        """As in :class:`gsnn.io.Responses`."""

    @property
    def labels(self) -> bool:
        """As in :class:`gsnn.io.Responses`."""

    @property
    def categories(self) -> bool:
        """As in :class:`gsnn.io.Responses`."""


@dataclass(frozen=True, eq=False)
class Match:
    """Which columns of responses go where on a network.

    Attributes:
        treatments: Positions of the treatments that are kept.
        readouts: Likewise.
        inputs: Names of the inputs made of them.
        outputs: Names of the outputs made of them.
        warnings: What a user should know so far.
        dropped: Positions of the treatments that are dropped, and with them the samples they were applied to.
    """

    treatments: list[int]
    readouts: list[int]
    inputs: list[str]
    outputs: list[str]
    warnings: list[str]
    dropped: list[int]
    _network: Network
    _targets: list[list[tuple[str, int]]]
    _read: list[list[str]]

    def graph(self, warnings: list[str]) -> Graph:
        """The network with these inputs and outputs; adds to ``warnings`` what was done to it."""
        index = {name: i for i, name in enumerate(self._network.species)}
        return _graph(self._network, index, self.inputs, self._targets, self.outputs, self._read, warnings)


def match(
    network: Network,
    responses: Named,
    on_unmatched: str,
    treatments: Sequence[str] | None = None,
    readouts: Sequence[str] | None = None,
    *,
    ignore_case: bool = False,
    names: NameMap | None = None,
) -> Match:
    """Find the species of every treatment and readout; see :func:`gsnn.data.build_data`.

    Args:
        network: The prior network.
        responses: Where they are from; if the names below are not given, :class:`gsnn.io.Responses`.
        on_unmatched: ``"error"`` or ``"drop"``.
        treatments: Their names.
        readouts: Their names.
        ignore_case: Whether upper and lower case are one where a name is no species as it stands.
        names: What labels stand for; one that it does not have is looked up as a species.

    Returns:
        Which columns to take.

    Raises:
        DataError: If they do not match.
    """
    if on_unmatched not in ("error", "drop"):
        raise unknown_option("on_unmatched", on_unmatched, ["error", "drop"])
    if isinstance(responses, Responses):
        treatments, readouts = list(responses.treatments.columns), list(responses.readouts.columns)
    elif treatments is None or readouts is None:
        raise TypeError(f"responses must be gsnn.io.Responses, got {type(responses).__name__}; {_MAKE_RESPONSES}")
    if not isinstance(network, Network):
        raise TypeError(f"network must be gsnn.io.Network, got {type(network).__name__}; read_network reads a file and "
                        "Network.from_edges takes edges")  # fmt: skip
    treatments, readouts = list(treatments or ()), list(readouts or ())
    index = {name: i for i, name in enumerate(network.species)}
    species_of = _Species(index, ignore_case)
    names = names or NameMap()
    resolved = {name: _targets_of(name, responses.kinds.get(name), species_of, names) for name in treatments}
    measured = {name: _measured_by(name, species_of, names) for name in readouts}
    lost_in = [name for name in treatments if not resolved[name]]
    lost_out = [name for name in readouts if not measured[name]]
    warnings = [*network.warnings, *responses.warnings, *map_notes(names, treatments, readouts)]
    absent = _absent_species(names, species_of, treatments, readouts)
    if lost_in or lost_out:
        shapes = len(treatments), len(readouts)
        _unmatched(network, responses, shapes, lost_in, lost_out, on_unmatched == "drop", warnings, absent)
    elif absent:
        warnings.append(absent)
    places = [i for i, name in enumerate(treatments) if resolved[name]]
    found = [resolved[treatments[i]] for i in places]
    kept = [i for i, name in enumerate(readouts) if measured[name]]
    read = [measured[readouts[i]] for i in kept]
    # Those that are dropped may stand as often as they like.
    check_unique([treatments[i] for i in places], responses.name, "treatment")
    check_unique([readouts[i] for i in kept], responses.name, "readout")
    # A label of the map names its node. Else the species, not the column, names an inhibitor's input:
    # "mek12i:Inhibitors" is mek12's all the same.
    inputs, outputs = [], []
    for i, hits in zip(places, found, strict=True):
        target, sign = hits[0]
        label = treatments[i] if treatments[i] in names.treatments else target + "i" * (sign < 0)
        inputs.append("TR:" + label)
    for i, species in zip(kept, read, strict=True):
        outputs.append("DV:" + (readouts[i] if readouts[i] in names.readouts else species[0]))
    _check_node_names(inputs, outputs, index, network)
    dropped = [i for i, name in enumerate(treatments) if not resolved[name]]
    return Match(places, kept, inputs, outputs, warnings, dropped, network, found, read)


def resolve(
    network: Network, responses: Responses, names: NameMap | None = None, ignore_case: bool = False
) -> tuple[dict[str, list[tuple[str, int]]], dict[str, list[str]]]:
    """The species of every treatment, with -1 or 1, and of every readout; empty where there is none."""
    species = _Species({name: i for i, name in enumerate(network.species)}, ignore_case)
    names = names or NameMap()
    treatments, readouts = (list(map(str, table.columns)) for table in (responses.treatments, responses.readouts))
    return (
        {name: _targets_of(name, responses.kinds.get(name), species, names) for name in treatments},
        {name: _measured_by(name, species, names) for name in readouts},
    )


def unmatched(
    network: Network, responses: Responses, ignore_case: bool = False, names: NameMap | None = None
) -> tuple[list[str], list[str]]:
    """Treatments and readouts that are no species, and that the map does not know."""
    targets, read = resolve(network, responses, names, ignore_case)
    return [name for name, hits in targets.items() if not hits], [name for name, hits in read.items() if not hits]


def _targets_of(name: str, kind: str | None, species: _Species, names: NameMap) -> list[tuple[str, int]]:
    """The species a treatment acts on, and how; by the map, or by its own name."""
    if name in names.treatments:
        return [(species[target], sign) for target, sign in names.treatments[name] if target in species]
    hit = find_target(name, kind, species)
    return [] if hit is None else [hit]


def _measured_by(name: str, species: _Species, names: NameMap) -> list[str]:
    """The species a readout measures; by the map, or by its own name."""
    own = names.readouts[name] if name in names.readouts else [name]
    return [species[each] for each in own if each in species]


def _absent_species(names: NameMap, species: _Species, treatments: Sequence[str], readouts: Sequence[str]) -> str:
    """What to say of species that the map names and the network does not have; empty if it has all."""
    lost = [(label, target) for label in treatments for target, _ in names.treatments.get(label, ())]
    lost += [(label, target) for label in readouts for target in names.readouts.get(label, ())]
    shown = [f"{target!r} (of {label!r})" for label, target in lost if target not in species]
    if not shown:
        return ""
    more = f" and {len(shown) - 8} more" if len(shown) > 8 else ""
    return f"the map names species that the network does not have: {', '.join(shown[:8])}{more}"


class _Species:
    """The species by name; with ``ignore_case`` also by a name that differs in case, if only one does so."""

    def __init__(self, index: dict[str, int], ignore_case: bool) -> None:
        self.ignore_case = ignore_case
        self._index, self._folded = index, dict[str, str | None]()
        for name in index if ignore_case else ():
            fold = name.casefold()
            self._folded[fold] = None if fold in self._folded else name

    def __contains__(self, name: str) -> bool:
        return name in self._index or self._folded.get(name.casefold()) is not None

    def __getitem__(self, name: str) -> str:
        return name if name in self._index else str(self._folded[name.casefold()])


def find_target(name: str, kind: str | None, species: _Species) -> tuple[str, int] | None:
    """The species a treatment acts on, and how."""
    if kind == "inhibitor":
        # The reader added an i; the file may have had one already.
        bare = name.removesuffix("i")
        options = [bare, bare[:-1] if bare.endswith(("i", "I")) else bare]
        return next(((species[option], -1) for option in options if option in species), None)
    if name in species:
        return species[name], 1
    last = "iI" if species.ignore_case else "i"
    if kind is None and name.endswith(tuple(last)) and name[:-1] in species:
        return species[name[:-1]], -1
    return None


def find_input(name: str, kind: str | None, graph: Graph, ignore_case: bool = False) -> str | None:
    """The input of a graph that a treatment is, by the rules of :func:`gsnn.data.build_data` or by its own name.

    Args:
        name: The treatment, as :func:`gsnn.io.read_treatments` calls it.
        kind: What its file says of it, as in :class:`gsnn.io.Responses`.
        graph: The graph.
        ignore_case: Whether upper and lower case are one where a name is no species as it stands.

    Returns:
        The name of the input; None if there is none.

    Example:
        >>> graph = Graph.from_edges(
        ...     [("TR:mek", "mek"), ("TR:meki", "mek"), ("mek", "DV:mek")],
        ...     input_nodes=["TR:mek", "TR:meki"], function_nodes=["mek"], output_nodes=["DV:mek"]
        ... )
        >>> find_input("meki", None, graph), find_input("mek", "inhibitor", graph), find_input("raf", None, graph)
        ('TR:meki', 'TR:meki', None)
    """
    found = find_target(name, kind, _Species({each: i for i, each in enumerate(graph.functions)}, ignore_case))
    options = [name, f"TR:{name}"] if kind is None else []
    if found is not None:
        options.append("TR:" + (found[0] + "i" if found[1] < 0 else found[0]))
    return next((option for option in options if option in graph.inputs), None)


def count_dropped(n: int, dropped: Sequence[str]) -> str:
    """What to tell of samples that leave with their treatments."""
    dropped = list(dict.fromkeys(dropped))
    which = "a treatment that is no species was" if len(dropped) == 1 else "one that is no species was"
    return f"{counted(n, 'sample')} left out, since {which} applied there: {listed(dropped)}"


def _graph(
    network: Network,
    index: dict[str, int],
    inputs: list[str],
    targets: list[list[tuple[str, int]]],
    outputs: list[str],
    readouts: list[list[str]],
    warnings: list[str],
) -> Graph:
    species = pd.Index(network.species, dtype=object)
    ends = [species.get_indexer(pd.Index(network.edges[end], dtype=object)) for end in ("source", "target")]
    pairs = np.stack(ends).astype(np.int64)
    keep = pairs[0] != pairs[1]
    if not keep.all():
        warnings.append("self-edges of the prior network left out: the model gives every function one")
    return Graph(
        {
            ("function", "to", "function"): pairs[:, keep],
            ("input", "to", "function"): np.array(
                [[i, index[target]] for i, hits in enumerate(targets) for target, _ in hits], dtype=np.int64
            )
            .reshape(-1, 2)
            .T,
            ("function", "to", "output"): np.array(
                [[index[name], i] for i, names in enumerate(readouts) for name in names], dtype=np.int64
            )
            .reshape(-1, 2)
            .T,
        },
        {"input": inputs, "function": network.species, "output": outputs},
        edge_sign_dict={
            ("function", "to", "function"): network.edges["sign"].to_numpy(dtype=np.int8)[keep],
            ("input", "to", "function"): np.array([sign for hits in targets for _, sign in hits], dtype=np.int8),
            ("function", "to", "output"): np.ones(sum(map(len, readouts)), dtype=np.int8),
        },
    )


def _unmatched(
    network: Network,
    responses: Named,
    columns: tuple[int, int],
    lost_in: list[str],
    lost_out: list[str],
    drop: bool,
    warnings: list[str],
    absent: str = "",
) -> None:
    """Refuse identifiers that are no species, or note that they are dropped."""
    all_in, all_out = columns
    where = "the network" if network.path is None else str(network.path)
    lost = ((lost_in, all_in, "treatment", "TR"), (lost_out, all_out, "readout", "DV"))
    there = set(network.species)
    separator, cut = find_separator(lost_in, lambda part: part in there or part.removesuffix("i") in there)
    found = advice(
        *(lost_in, lost_out, network.species, responses.other_names, responses.labels, responses.categories),
        joined=(separator, cut),
    )
    if len(lost_in) == all_in and len(lost_out) == all_out:
        turned = _transposed(responses, [*lost_in, *lost_out], network.species)
        found = [turned] if turned else found
    counters = _counters(responses, lost_in)
    if counters:
        if drop and "identifiers" in counters:  # with it all samples would leave
            raise DataError(f"{responses.name}: {counters}")
        found.insert(0, counters)
    if absent:
        found.insert(0, absent)
    elsewhere = network.named_otherwise([*lost_in, *lost_out])
    if elsewhere:
        found = [elsewhere, *(each for each in found if TRANSLATE not in each)]
    joined = set(cut)
    parts = [
        f"{len(names)} of {counted(total, kind)} ({_with_hints(names, network.species, joined)})"
        for names, total, kind, _ in lost
        if names
    ]
    if len(lost_in) == all_in and len(lost_out) == all_out:
        its = f"its species are {listed(network.species)}"
        ways = [*found, *parts, its] if found else [*parts, its, "check the names"]
        raise DataError(f"{responses.name} shares no identifier with {where}: {'; '.join(ways)}")
    if drop and cut and responses.labels:
        # What was done is known, and dropping it would lose most samples or call them something else.
        raise DataError(
            f"{responses.name}: {counted(len(cut), 'treatment')} ({listed(cut, 3)}) join species by {separator!r}, so "
            f"they are not dropped: pass {asked(f'separator={separator!r}', f'--separator {shell(separator)}')}"
        )
    for names, total, kind, prefix in lost:
        if drop and names and len(names) == total:
            hints = "".join(f"; {hint}" for hint in found)
            raise DataError(
                f"no {kind} of {responses.name} is a species of {where}; nothing would be left ({prefix}:){hints}"
            )
    if drop:
        warnings.append("; ".join([f"not in the network and left out: {'; '.join(parts)}", *found]))
        return
    option = asked("on_unmatched='drop'", "--drop-unmatched")
    leave = f"pass {option} to leave them out" + (
        ", and with the treatments the samples they were applied to" if lost_in else ""
    )
    table = asked("names= (gsnn.data.naming.proposed_map writes", "--map (gsnn check --write-map FILE writes")
    way = (
        f"correct the names, or say what they stand for in a table for {table} one to correct), add the species to the "
        f"network, or {leave}"
    )
    ways = [*found, *parts, f"otherwise {way}"] if found else [*parts, way]
    raise DataError(f"{responses.name} names species that {where} does not have: {'; '.join(ways)}")


def _transposed(responses: Named, columns: list[str], species: Sequence[str]) -> str:
    """Whether the rows of a table are species and its columns are not; empty if they are not.

    Samples may be called after what was done to them, so most rows must be species, and the columns nothing that
    databases use.
    """
    if not isinstance(responses, Responses):
        return ""
    rows, there = list(dict.fromkeys(map(str, responses.treatments.index))), set(species)
    words = [row for row in rows if row in there or row.removesuffix("i") in there]
    numbers = sorted({int(name) for name in columns if name.isdecimal()})
    ids = numbers and numbers[-1] - numbers[0] >= 2 * len(numbers)  # Entrez, not samples that are numbered
    if 2 * len(words) < len(rows) or all(map(str.isdigit, words)) or ids:
        return ""
    if kind_of([name for name in columns if not name.isdecimal()]):
        return ""
    if but_for_case(columns, species) or find_separator(columns, there.__contains__)[1]:
        return ""  # these are species too, written otherwise
    return f"the tables look transposed: their row names are species ({listed(words, 3)}); samples must be the rows"


def _counters(responses: Named, lost: Sequence[str]) -> str:
    """What to say of a column that is no treatment: identifiers, or the same in every sample; empty if none is."""
    if not isinstance(responses, Responses) or len(responses.treatments) < _COUNTED:
        return ""
    for name in lost:
        column = responses.treatments[name]
        if isinstance(column, pd.Series) and column.nunique(dropna=False) == 1 and column.iloc[0]:
            return f"treatment {name!r} is the same in every sample, so that it tells nothing: leave that column out"
        if isinstance(column, pd.Series) and column.is_unique and pd.api.types.is_numeric_dtype(column.dtype):
            values = column.to_numpy(dtype=float)
            if np.isfinite(values).all() and (values == np.round(values)).all():
                return (
                    f"column {name!r} has another number in every sample, as identifiers have: if it is one, put it "
                    "first and call it 'sample', in both tables if there are two"
                )
    return ""


def _with_hints(names: list[str], species: list[str], joined: set[str]) -> str:
    shown = []
    for name in names[:_MAX_LISTED]:
        likely = [] if name in joined else close_species(name, species, 3 if len(names) <= _FEW else 1)
        hidden = f" - written {written(name)}, with characters that are not seen" if hidden_characters([name]) else ""
        shown.append(f"'{name}'" + hidden + (f" - closest: {listed(likely)}" if likely else ""))
    more = len(names) - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more else "")


def close_species(name: str, species: Sequence[str], n: int = 3) -> list[str]:
    """Species that a misspelt name may mean; none between accessions, where the distance means nothing."""
    if accession(name):
        return []
    near = [each for each in closest(name, species, n) if not accession(each)]
    # An inhibitor that is misspelt is as near to its species as the name without the i.
    return near or ([] if not name.endswith("i") else [e for e in closest(name[:-1], species, n) if not accession(e)])


def _check_node_names(inputs: list[str], outputs: list[str], index: dict[str, int], network: Network) -> None:
    clash = [name for name in (*inputs, *outputs) if name in index]
    if clash:
        where = "the network" if network.path is None else str(network.path)
        raise DataError(
            f"{where} has species named like the inputs or outputs made for the data: {listed(clash)}; rename them"
        )
    seen: set[str] = set()
    twice = [name for name in inputs if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
    if twice:
        raise DataError(f"two treatment columns become the same input: {listed(twice)}; keep one of each")


def odd_columns(constant: list[str], empty: list[str], flat: list[str]) -> list[str]:
    """What to tell of inputs that never change, and of outputs never measured or that never change."""
    notes = (
        (constant, "input", "the same in every sample, so that nothing can be learnt about it"),
        (empty, "output", "never measured"),
        (flat, "output", "the same wherever it was measured"),
    )
    return [f"{counted(len(names), kind)} {what}: {listed(names)}" for names, kind, what in notes if names]
