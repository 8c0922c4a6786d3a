"""A simulated problem as files: a prior network with edges missing, responses, and the truth."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsnn.base.errors import DataError, RunError, unknown_option
from gsnn.base.files import write_json, write_text
from gsnn.graph import resolve_kinds
from gsnn.graph.checks import Edge
from gsnn.graph.kinds import FUNCTION_EDGES, INPUT_EDGES, OUTPUT_EDGES

if TYPE_CHECKING:
    import networkx as nx
    import numpy as np


# The converging benchmark in its three settings: tiers, noise, samples, and how it is trained.
SETTINGS: dict[str, dict[str, Any]] = {
    "A": {"n": 25, "noise": 0.15, "samples": 2500, "train": {"dropout": 0.2, "lr": 1e-4, "norm": "none"}},
    "B": {"n": 12, "noise": 0.15, "samples": 2500, "train": {"dropout": 0.0, "lr": 1e-3, "norm": "groupbatch"}},
    "C": {
        "n": 25,
        "noise": 0.25,
        "samples": 1500,
        "train": {"dropout": 0.2, "lr": 1e-3, "norm": "none", "epochs": 50, "batch-size": 128, "channels": 10},
    },
}
_TRAIN = {"epochs": 30, "layers": 6, "channels": 8, "batch-size": 64, "weight-decay": 0.0}
CONVERGING = "converging"
FILES = ("network.sif", "responses.csv", "truth.csv", "full.csv", "simulation.json", "gsnn.toml")


def kinds() -> tuple[str, ...]:
    """Graphs to choose from."""
    from gsnn.simulation.random_graphs import RANDOM_KINDS

    return (CONVERGING, *RANDOM_KINDS)


@dataclass(frozen=True)
class Simulated:
    """What was written.

    Attributes:
        folder: Where.
        settings: What it was made with, JSON-able.
        counts: Numbers of functions, edges, hidden edges, inputs, outputs and samples.
        files: The files.
    """

    folder: Path
    settings: dict[str, Any]
    counts: dict[str, int]
    files: list[Path]


def simulate_files(
    folder: str | Path,
    *,
    setting: str | None = None,
    kind: str | None = None,
    n: int | None = None,
    samples: int | None = None,
    noise: float | None = None,
    hide: float = 0.2,
    hide_kinds: str | Sequence[str] = "function",
    seed: int = 0,
    force: bool = False,
) -> Simulated:
    """Write a simulated problem: ``network.sif``, ``responses.csv``, ``truth.csv``, ``full.csv``, ``gsnn.toml``.

    The inputs are standard normal, and every other node is the signed sum of its parents with noise (a ``cyclic`` graph
    runs a stochastic differential equation instead). In the converging graph the hidden edges are those of the
    benchmark, with the role ``merge`` or ``sink``; in a random graph a share of its edges is hidden at random, none
    without which an output would be out of reach.

    Args:
        folder: The folder to write to.
        setting: ``A``, ``B`` or ``C``: the converging benchmark as published, with the settings of its training.
        kind: ``converging``, ``layered``, ``dag``, ``scale-free`` or ``cyclic``.
        n: Functions of a random graph; tiers of the converging one.
        samples: Number of samples.
        noise: Standard deviation of the noise.
        hide: Share of the edges of a random graph to hide.
        hide_kinds: Kinds of edges that the network lacks, as :func:`gsnn.graph.resolve_kinds` reads them. Files name a
            treatment and a readout by one species each, so those of other kinds are added to the truth: second targets
            of treatments, second sources of readouts, as many as the share ``hide`` of their number, at least one.
        seed: Fixes everything.
        force: Replace files that stand there.

    Returns:
        What was written.

    Raises:
        DataError: If an option is wrong.
        RunError: If the folder holds other files, or these without ``force``.
    """
    folder = Path(folder)
    settings = _settings(setting, kind, n, samples, noise, hide, seed)
    further = [name for name in resolve_kinds(hide_kinds) if name != FUNCTION_EDGES]
    if further:
        settings |= {"hide": hide, "hide_kinds": list(resolve_kinds(hide_kinds))}
    _check_folder(folder, force)
    try:
        full, hidden, x, y = _draw(settings)
    except ValueError as error:
        raise DataError(str(error)) from error
    edges, inputs, outputs, functions = full
    folder.mkdir(parents=True, exist_ok=True)
    head = ["source", "target", "sign"]
    known_ends = {*functions}
    prior = [(s, t, sign) for s, t, sign in edges if (s, t) not in hidden]
    tables = {
        "full.csv": _csv(head, edges),
        "truth.csv": _csv(
            [*head, "role", "kind"],
            [(s, t, sign, hidden[s, t], _kind(s, t, known_ends)) for s, t, sign in edges if (s, t) in hidden],
        ),
        "network.sif": _sif(prior, functions),
        "responses.csv": _csv(
            [*(f"TR:{name}" for name in inputs), *(f"DV:{name}" for name in outputs)],
            ([f"{value:.6g}" for value in (*a, *b)] for a, b in zip(x.tolist(), y.tolist(), strict=True)),
        ),
        "gsnn.toml": _config_text(settings),
    }
    for name, text in tables.items():
        write_text(folder / name, text)
    counts = {
        "functions": len(functions),
        "edges": len(edges),
        "hidden": len(hidden),
        "inputs": len(inputs),
        "outputs": len(outputs),
        "samples": len(x),
    }
    write_json(folder / "simulation.json", {"settings": settings, "counts": counts})
    return Simulated(folder, settings, counts, [folder / name for name in FILES])


def _settings(
    setting: str | None,
    kind: str | None,
    n: int | None,
    samples: int | None,
    noise: float | None,
    hide: float,
    seed: int,
) -> dict[str, Any]:
    if setting is not None:
        if setting.upper() not in SETTINGS:
            raise DataError(str(unknown_option("setting", setting, SETTINGS)))
        if kind not in (None, CONVERGING):
            raise DataError(f"setting {setting} is of the {CONVERGING} graph; leave kind out")
    kind = kind or CONVERGING
    if kind not in kinds():
        raise DataError(str(unknown_option("kind", kind, kinds())))
    if not 0 < hide < 1:
        raise DataError(f"hide must be a share between 0 and 1, got {hide}")
    known = SETTINGS[setting.upper()] if setting else {"n": 12 if kind == CONVERGING else 40, "noise": 0.15,
                                                       "samples": 1000, "train": {}}  # fmt: skip
    chosen = {"n": n, "samples": samples, "noise": noise}
    given = {name: known[name] if value is None else value for name, value in chosen.items()}
    if given["samples"] < 10:
        raise DataError(f"samples must be at least 10, got {given['samples']}")
    if seed < 0:
        raise DataError(f"seed must be 0 or more, got {seed}")
    share = {} if kind == CONVERGING else {"hide": hide}
    return {"setting": setting and setting.upper(), "kind": kind, **given, **share, "seed": seed,
            "train": _TRAIN | known["train"]}  # fmt: skip


def _check_folder(folder: Path, force: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file; choose another folder")
    there = sorted(entry.name for entry in folder.iterdir()) if folder.exists() else []
    mine = [name for name in there if name in FILES]
    if mine and not force:
        raise RunError(f"{folder} holds {', '.join(mine)}; choose another folder, or --force to replace them")


def _draw(settings: dict[str, Any]) -> tuple[Any, dict[Edge, str], Any, Any]:
    """The full network (signed edges, inputs, outputs, functions, named as in the files), what is hidden, X and Y."""
    import numpy as np

    from gsnn.simulation import convergence_graph, random_graph, simulate, simulate_sde
    from gsnn.simulation.benchmark import held_out_roles

    kind, rng = settings["kind"], np.random.default_rng(settings["seed"])
    if kind == CONVERGING:
        G, inputs, functions, outputs, edges = convergence_graph(settings["n"])
        hidden = dict(held_out_roles(settings["n"]))
    else:
        G, inputs, functions, outputs, edges = random_graph(kind, settings["n"], rng)
        hidden = dict.fromkeys(_hide(G, inputs, functions, outputs, settings["hide"], rng), "hidden")
    if FUNCTION_EDGES not in settings.get("hide_kinds", (FUNCTION_EDGES,)):
        hidden = {}
    # In the files a treatment and a readout have the name of the function they act on and read.
    acted = [next(iter(G.successors(name))) for name in inputs]
    read = [next(iter(G.predecessors(name))) for name in outputs]
    extra = _second_ends(G, inputs, functions, outputs, settings, rng)
    make = simulate_sde if kind == "cyclic" else simulate
    common = (G, settings["samples"], 0, inputs, outputs)
    x, _, y, _ = make(*common, noise_scale=settings["noise"], seed=rng)
    signed = [(s, t, int(G.edges[s, t].get("sign", 1))) for s, t in edges]
    named = {
        **{name: f"TR:{function}" for name, function in zip(inputs, acted, strict=True)},
        **{name: f"DV:{function}" for name, function in zip(outputs, read, strict=True)},
    }
    for s, t in extra:
        edge = named.get(s, s), named.get(t, t)
        signed.append((*edge, int(G.edges[s, t]["sign"])))
        hidden[edge] = "hidden"
    return (signed, acted, read, functions), hidden, x, y


def _kind(source: str, target: str, functions: set[str]) -> str:
    return INPUT_EDGES if source not in functions else FUNCTION_EDGES if target in functions else OUTPUT_EDGES


def _second_ends(
    G: nx.DiGraph,
    inputs: Sequence[str],
    functions: Sequence[str],
    outputs: Sequence[str],
    settings: dict[str, Any],
    rng: np.random.Generator,
) -> list[Edge]:
    """Edges from inputs and to outputs that are added to the full network, with random signs."""
    added: list[Edge] = []
    for kind in settings.get("hide_kinds", ()):
        if kind == FUNCTION_EDGES:
            continue
        pairs = (
            [(s, t) for s in inputs for t in functions if not G.has_edge(s, t)]
            if kind == INPUT_EDGES
            else [(s, t) for s in functions for t in outputs if not G.has_edge(s, t)]
        )
        n = max(1, round(settings["hide"] * len(inputs if kind == INPUT_EDGES else outputs)))
        chosen = [pairs[i] for i in rng.choice(len(pairs), size=min(n, len(pairs)), replace=False)]
        G.add_edges_from((s, t, {"sign": int(rng.choice([-1, 1]))}) for s, t in chosen)
        added += chosen
    return added


def _hide(
    G: nx.DiGraph,
    inputs: Sequence[str],
    functions: Sequence[str],
    outputs: Sequence[str],
    share: float,
    rng: np.random.Generator,
) -> list[Edge]:
    from gsnn.discovery.hiding import mask_edges
    from gsnn.graph import Graph

    graph = Graph.from_networkx(G, inputs, functions, outputs)
    # An edge whose loss leaves its source without signal or its target without reader could never be found.
    return list(mask_edges(graph, share, rng).testable)


def _sif(edges: Sequence[tuple[str, str, int]], functions: Sequence[str]) -> str:
    joined = {name for edge in edges for name in edge[:2]}
    lines = [f"{s}\t{sign}\t{t}" for s, t, sign in edges]
    return "".join(f"{line}\n" for line in [*lines, *(name for name in functions if name not in joined)])


def _csv(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return buffer.getvalue()


def _config_text(settings: dict[str, Any]) -> str:
    import tomli_w

    what = f"setting {settings['setting']}" if settings["setting"] else f"a {settings['kind']} graph"
    lines = [
        f"# Simulated data: {what}, seed {settings['seed']}. Begin with: gsnn train --config gsnn.toml",
        'run = "run"',
        "",
        "[data]",
        'graph = "network.sif"',
        'data = "responses.csv"',
        "",
        "[train]",
        tomli_w.dumps(settings["train"]),
        "[evaluate]",
        'truth = "truth.csv"',
    ]
    return "\n".join(lines) + "\n"
