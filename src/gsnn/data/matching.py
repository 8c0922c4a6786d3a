"""Match treatments and readouts with the species of a prior network, and build the graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from gsnn.base.errors import DataError, check_option, closest
from gsnn.base.wording import asked, shell
from gsnn.data.hints import TRANSLATE, accession, advice, but_for_case, find_separator, kind_of
from gsnn.graph import Graph
from gsnn.io import NameMap, Network, Responses
from gsnn.io.name_map import map_notes
from gsnn.io.names import hidden_characters, written
from gsnn.io.stream import StreamedResponses
from gsnn.io.table import check_unique
from gsnn.io.text import counted, joined, listed

_MAX_LISTED = 8  # names in a message; gsnn check and its map have all of them
_FEW = 3  # up to so many names, several species are suggested for each
_COUNTED = 5  # samples from which a column of distinct numbers is no accident
_MAKE_RESPONSES = "read_responses reads files, and Responses(treatments, readouts) takes two tables"


AnyResponses = Responses | StreamedResponses
Targets = list[tuple[str, int]]


@dataclass(frozen=True, eq=False)
class Match:
    """The columns of responses that match a network.

    Attributes:
        treatments: Positions of the treatments that are kept.
        readouts: Positions of the readouts that are kept.
        inputs: Names of the inputs made of the treatments.
        outputs: Names of the outputs made of the readouts.
        warnings: What a user should know so far.
        dropped: Positions of the treatments that are dropped, with the samples to which they were applied.
    """

    treatments: list[int]
    readouts: list[int]
    inputs: list[str]
    outputs: list[str]
    warnings: list[str]
    dropped: list[int]
    _network: Network
    _targets: list[Targets]
    _measured: list[list[str]]

    def graph(self, warnings: list[str]) -> Graph:
        """The network with these inputs and outputs; adds to ``warnings`` if self-edges were left out."""
        edges, species = self._network.edges, self._network.species
        index = {name: i for i, name in enumerate(species)}
        pairs = np.stack([edges[end].map(index).to_numpy(np.int64) for end in ("source", "target")])
        keep = pairs[0] != pairs[1]
        if not keep.all():
            warnings.append("self-edges of the prior network left out: the model gives every function one")
        driven = [(i, index[name], sign) for i, targets in enumerate(self._targets) for name, sign in targets]
        measured = [(index[name], i) for i, names in enumerate(self._measured) for name in names]
        source, target, sign = np.array(driven, dtype=np.int64).reshape(-1, 3).T
        return Graph(
            {
                ("function", "to", "function"): pairs[:, keep],
                ("input", "to", "function"): np.stack([source, target]),
                ("function", "to", "output"): np.array(measured, dtype=np.int64).reshape(-1, 2).T,
            },
            {"input": self.inputs, "function": species, "output": self.outputs},
            edge_sign_dict={
                ("function", "to", "function"): edges["sign"].to_numpy(dtype=np.int8)[keep],
                ("input", "to", "function"): sign.astype(np.int8),
                ("function", "to", "output"): np.ones(len(measured), dtype=np.int8),
            },
        )


def match(
    network: Network,
    responses: AnyResponses,
    on_unmatched: str,
    *,
    ignore_case: bool = False,
    names: NameMap | None = None,
) -> Match:
    """Find the species of every treatment and readout; see :func:`gsnn.data.build_data` for the arguments.

    Raises:
        DataError: If they do not match.
    """
    check_option("on_unmatched", on_unmatched, ["error", "drop"])
    treatments, readouts = _column_names(responses)
    if not isinstance(network, Network):
        raise TypeError(
            f"network must be gsnn.io.Network, got {type(network).__name__}; read_network reads a file and "
            "Network.from_edges takes edges"
        )
    names = names or NameMap()
    targets, measured = resolve(network, responses, names, ignore_case)
    lost_in = [name for name in treatments if not targets[name]]
    lost_out = [name for name in readouts if not measured[name]]
    warnings = [*network.warnings, *responses.warnings, *map_notes(names, treatments, readouts)]
    absent = _absent_species(names, _Species(network.species, ignore_case), treatments, readouts)
    if lost_in or lost_out:
        shape = len(treatments), len(readouts)
        warnings.append(_unmatched(network, responses, shape, lost_in, lost_out, on_unmatched == "drop", absent))
    elif absent:
        warnings.append(absent)
    kept_in = [i for i, name in enumerate(treatments) if targets[name]]
    kept_out = [i for i, name in enumerate(readouts) if measured[name]]
    # Dropped columns may have the same name.
    check_unique([treatments[i] for i in kept_in], responses.name, "treatment")
    check_unique([readouts[i] for i in kept_out], responses.name, "readout")
    # A label of the map names its node; otherwise the species does, not the column: "mek12i:Inhibitors" is mek12's.
    inputs, outputs = [], []
    for name in (treatments[i] for i in kept_in):
        target, sign = targets[name][0]
        inputs.append("TR:" + (name if name in names.treatments else target + "i" * (sign < 0)))
    for name in (readouts[i] for i in kept_out):
        outputs.append("DV:" + (name if name in names.readouts else measured[name][0]))
    _check_node_names(inputs, outputs, network)
    return Match(
        kept_in,
        kept_out,
        inputs,
        outputs,
        warnings,
        [i for i, name in enumerate(treatments) if not targets[name]],
        network,
        [targets[treatments[i]] for i in kept_in],
        [measured[readouts[i]] for i in kept_out],
    )


def _column_names(responses: AnyResponses) -> tuple[list[str], list[str]]:
    """The names of the treatments and of the readouts."""
    if isinstance(responses, StreamedResponses):
        return list(responses.treatments), list(responses.readouts)
    if not isinstance(responses, Responses):
        raise TypeError(f"responses must be gsnn.io.Responses, got {type(responses).__name__}; {_MAKE_RESPONSES}")
    return list(map(str, responses.treatments.columns)), list(map(str, responses.readouts.columns))


def resolve(
    network: Network, responses: AnyResponses, names: NameMap | None = None, ignore_case: bool = False
) -> tuple[dict[str, Targets], dict[str, list[str]]]:
    """The species of every treatment, with -1 or 1, and of every readout; empty where there is none."""
    species, names = _Species(network.species, ignore_case), names or NameMap()
    treatments, readouts = _column_names(responses)
    return (
        {name: _targets_of(name, responses.kinds.get(name), species, names) for name in treatments},
        {name: _measured_by(name, species, names) for name in readouts},
    )


def unmatched(
    network: Network, responses: Responses, ignore_case: bool = False, names: NameMap | None = None
) -> tuple[list[str], list[str]]:
    """Treatments and readouts that are neither species nor labels of the map."""
    targets, read = resolve(network, responses, names, ignore_case)
    return [name for name, hits in targets.items() if not hits], [name for name, hits in read.items() if not hits]


def _targets_of(name: str, kind: str | None, species: _Species, names: NameMap) -> list[tuple[str, int]]:
    """The species on which a treatment acts, with -1 or 1, by the map or by its name."""
    if name in names.treatments:
        return [(species[target], sign) for target, sign in names.treatments[name] if target in species]
    hit = find_target(name, kind, species)
    return [] if hit is None else [hit]


def _measured_by(name: str, species: _Species, names: NameMap) -> list[str]:
    """The species that a readout measures, by the map or by its name."""
    own = names.readouts[name] if name in names.readouts else [name]
    return [species[each] for each in own if each in species]


def _absent_species(names: NameMap, species: _Species, treatments: Sequence[str], readouts: Sequence[str]) -> str:
    """A warning about species of the map that the network does not have; empty if it has all."""
    pairs = [(label, target) for label in treatments for target, _ in names.treatments.get(label, ())]
    pairs += [(label, target) for label in readouts for target in names.readouts.get(label, ())]
    shown = [f"{target!r} (of {label!r})" for label, target in pairs if target not in species]
    return f"the map names species that the network does not have: {joined(shown, 8)}" if shown else ""


class _Species:
    """Species by name; with ``ignore_case`` also by a name that differs in case only, unless several do."""

    def __init__(self, names: Iterable[str], ignore_case: bool) -> None:
        self.ignore_case = ignore_case
        self._names = set(names)
        times = Counter(map(str.casefold, self._names if ignore_case else ()))
        self._folded = {name.casefold(): name for name in self._names if times[name.casefold()] == 1}

    def __contains__(self, name: str) -> bool:
        return name in self._names or name.casefold() in self._folded

    def __getitem__(self, name: str) -> str:
        return name if name in self._names else self._folded[name.casefold()]


def find_target(name: str, kind: str | None, species: _Species) -> tuple[str, int] | None:
    """The species on which a treatment acts, with -1 or 1; None if there is none."""
    if kind == "inhibitor":
        # The reader added an i, although the name may have had one.
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
    """The input of a graph for a treatment, by the rules of :func:`gsnn.data.build_data` or by its own name.

    Args:
        name: The treatment, as named by :func:`gsnn.io.read_treatments`.
        kind: Its kind, as in :class:`gsnn.io.Responses`.
        graph: The graph.
        ignore_case: Whether to ignore case for a name that is not exactly a species.

    Example:
        >>> graph = Graph.from_edges(
        ...     [("TR:mek", "mek"), ("TR:meki", "mek"), ("mek", "DV:mek")],
        ...     input_nodes=["TR:mek", "TR:meki"], function_nodes=["mek"], output_nodes=["DV:mek"]
        ... )
        >>> find_input("meki", None, graph), find_input("mek", "inhibitor", graph), find_input("raf", None, graph)
        ('TR:meki', 'TR:meki', None)
    """
    target = find_target(name, kind, _Species(graph.functions, ignore_case))
    options = [name, f"TR:{name}"] if kind is None else []
    if target is not None:
        options.append("TR:" + target[0] + "i" * (target[1] < 0))
    return next((option for option in options if option in graph.inputs), None)


def count_dropped(n: int, dropped: Sequence[str]) -> str:
    """A warning about samples that are left out with dropped treatments."""
    dropped = list(dict.fromkeys(dropped))
    which = "a treatment that is no species was" if len(dropped) == 1 else "one that is no species was"
    return f"{counted(n, 'sample')} left out, since {which} applied there: {listed(dropped)}"


def _unmatched(
    network: Network,
    responses: AnyResponses,
    shape: tuple[int, int],
    lost_in: list[str],
    lost_out: list[str],
    drop: bool,
    absent: str,
) -> str:
    """The warning about dropped treatments and readouts that are no species, or a DataError if they may not be."""
    where = _name_of(network)
    sides = ((lost_in, shape[0], "treatment", "TR"), (lost_out, shape[1], "readout", "DV"))
    nothing_left = shape == (len(lost_in), len(lost_out))
    species = set(network.species)
    separator, cut = find_separator(lost_in, lambda part: part in species or part.removesuffix("i") in species)
    hints = advice(lost_in, lost_out, network.species, responses, separator, cut)
    if nothing_left:
        transposed = _transposed(responses, [*lost_in, *lost_out], network.species)
        hints = [transposed] if transposed else hints
    useless = _useless_column(responses, lost_in)
    if useless:
        if drop and "identifiers" in useless:  # all samples would be dropped with it
            raise DataError(f"{responses.name}: {useless}")
        hints.insert(0, useless)
    if absent:
        hints.insert(0, absent)
    elsewhere = network.named_otherwise([*lost_in, *lost_out])
    if elsewhere:
        hints = [elsewhere, *(hint for hint in hints if TRANSLATE not in hint)]
    parts = [
        f"{len(names)} of {counted(total, kind)} ({_with_hints(names, network.species, set(cut))})"
        for names, total, kind, _ in sides
        if names
    ]
    if nothing_left:
        its = f"its species are {listed(network.species)}"
        ways = [*hints, *parts, its] if hints else [*parts, its, "check the names"]
        raise DataError(f"{responses.name} shares no identifier with {where}: {'; '.join(ways)}")
    if drop and cut and responses.labels:
        # These treatments are known; dropping them would lose most samples or call them something else.
        raise DataError(
            f"{responses.name}: {counted(len(cut), 'treatment')} ({listed(cut, 3)}) join species by {separator!r}, so "
            f"they are not dropped: pass {asked(f'separator={separator!r}', f'--separator {shell(separator)}')}"
        )
    for names, total, kind, prefix in sides:
        if drop and names and len(names) == total:
            ways = [f"nothing would be left ({prefix}:)", *hints]
            raise DataError(f"no {kind} of {responses.name} is a species of {where}; {'; '.join(ways)}")
    if drop:
        return "; ".join([f"not in the network and left out: {'; '.join(parts)}", *hints])
    option = asked("on_unmatched='drop'", "--drop-unmatched")
    leave = f"pass {option} to leave them out" + (
        ", and with the treatments the samples they were applied to" if lost_in else ""
    )
    table = asked("names= (gsnn.data.naming.proposed_map writes", "--map (gsnn check --write-map FILE writes")
    way = (
        f"correct the names, or say what they stand for in a table for {table} one to correct), add the species to the "
        f"network, or {leave}"
    )
    ways = [*hints, *parts, f"otherwise {way}"] if hints else [*parts, way]
    raise DataError(f"{responses.name} names species that {where} does not have: {'; '.join(ways)}")


def _name_of(network: Network) -> str:
    return "the network" if network.path is None else str(network.path)


def _transposed(responses: AnyResponses, columns: list[str], species: Sequence[str]) -> str:
    """A hint if the rows of the tables are species and the columns are not; empty otherwise.

    Samples may be named after their treatments, so most rows must be species, and the columns no identifiers of
    databases.
    """
    if not isinstance(responses, Responses):
        return ""
    rows, known = list(dict.fromkeys(map(str, responses.treatments.index))), set(species)
    words = [row for row in rows if row in known or row.removesuffix("i") in known]
    numbers = sorted({int(name) for name in columns if name.isdecimal()})
    ids = numbers and numbers[-1] - numbers[0] >= 2 * len(numbers)  # Entrez, not numbers of samples
    if 2 * len(words) < len(rows) or all(map(str.isdigit, words)) or ids:
        return ""
    if kind_of([name for name in columns if not name.isdecimal()]):
        return ""
    if but_for_case(columns, species) or find_separator(columns, known.__contains__)[1]:
        return ""  # the columns are species too, written in another way
    return f"the tables look transposed: their row names are species ({listed(words, 3)}); samples must be the rows"


def _useless_column(responses: AnyResponses, lost: Sequence[str]) -> str:
    """A hint at a column that is no treatment: identifiers, or equal in every sample; empty if there is none."""
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


def _with_hints(names: list[str], species: list[str], cut: set[str]) -> str:
    """Names with the closest species, except for those that a separator has cut."""
    shown = []
    for name in names[:_MAX_LISTED]:
        likely = [] if name in cut else close_species(name, species, 3 if len(names) <= _FEW else 1)
        hidden = f" - written {written(name)}, with characters that are not seen" if hidden_characters([name]) else ""
        shown.append(f"'{name}'" + hidden + (f" - closest: {listed(likely)}" if likely else ""))
    more = len(names) - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more else "")


def close_species(name: str, species: Sequence[str], n: int = 3) -> list[str]:
    """Species that a misspelt name may mean; none for accessions, whose similarity means nothing."""
    if accession(name):
        return []
    # A misspelt inhibitor may be close to its species only without the i.
    for word in dict.fromkeys((name, name.removesuffix("i"))):
        near = [each for each in closest(word, species, n) if not accession(each)]
        if near:
            return near
    return []


def _check_node_names(inputs: list[str], outputs: list[str], network: Network) -> None:
    species = set(network.species)
    clash = [name for name in (*inputs, *outputs) if name in species]
    if clash:
        raise DataError(
            f"{_name_of(network)} has species named like the inputs or outputs made for the data: {listed(clash)}; "
            "rename them"
        )
    twice = [name for name, n in Counter(inputs).items() if n > 1]
    if twice:
        raise DataError(f"two treatment columns become the same input: {listed(twice)}; keep one of each")
