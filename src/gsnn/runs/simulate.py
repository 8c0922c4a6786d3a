"""A simulated problem as files: a prior network with edges missing, responses, and the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gsnn.base.csv_file import csv_text
from gsnn.base.errors import DataError, RunError, as_data_error, check_option, unknown_option
from gsnn.base.files import write_json, write_text
from gsnn.graph import resolve_kinds
from gsnn.graph.checks import Edge
from gsnn.graph.kinds import FUNCTION_EDGES, INPUT_EDGES, OUTPUT_EDGES

if TYPE_CHECKING:
    import networkx as nx


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


@dataclass(frozen=True)
class Simulated:
    """A simulated problem that was written.

    Attributes:
        folder: The folder.
        settings: The settings it was made with, JSON-able.
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
        seed: Fixes all that is random.
        force: Replace the files of an earlier simulation.

    Returns:
        The settings, counts and files.

    Raises:
        DataError: If an option is wrong.
        RunError: If the folder holds other files, or these without ``force``.
    """
    folder = Path(folder)
    settings = _settings(setting, kind, n, samples, noise, hide, seed)
    kinds = resolve_kinds(hide_kinds)
    if kinds != (FUNCTION_EDGES,):
        settings |= {"hide": hide, "hide_kinds": list(kinds)}
    _check_folder(folder, force)
    with as_data_error():
        (edges, inputs, outputs, functions), hidden, x, y = _draw(settings)
    folder.mkdir(parents=True, exist_ok=True)
    header = ["source", "target", "sign"]
    names = {*functions}
    texts = {
        "full.csv": csv_text(header, edges),
        "truth.csv": csv_text(
            [*header, "role", "kind"],
            [(s, t, sign, hidden[s, t], _kind(s, t, names)) for s, t, sign in edges if (s, t) in hidden],
        ),
        "network.sif": _sif([edge for edge in edges if edge[:2] not in hidden], functions),
        "responses.csv": csv_text(
            [*(f"TR:{name}" for name in inputs), *(f"DV:{name}" for name in outputs)],
            ([f"{value:.6g}" for value in row] for row in np.hstack([x, y]).tolist()),
        ),
        "gsnn.toml": _config_text(settings),
    }
    for name, text in texts.items():
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
    from gsnn.simulation.random_graphs import RANDOM_KINDS

    if setting is not None:
        if setting.upper() not in SETTINGS:
            raise DataError(str(unknown_option("setting", setting, SETTINGS)))
        if kind not in (None, CONVERGING):
            raise DataError(f"setting {setting} is of the {CONVERGING} graph; leave kind out")
    kind = kind or CONVERGING
    check_option("kind", kind, (CONVERGING, *RANDOM_KINDS), DataError)
    if not 0 < hide < 1:
        raise DataError(f"hide must be a share between 0 and 1, got {hide}")
    if setting:
        defaults = SETTINGS[setting.upper()]
    else:
        defaults = {"n": 12 if kind == CONVERGING else 40, "noise": 0.15, "samples": 1000, "train": {}}
    options = {"n": n, "samples": samples, "noise": noise}
    sizes = {name: defaults[name] if value is None else value for name, value in options.items()}
    if sizes["samples"] < 10:
        raise DataError(f"samples must be at least 10, got {sizes['samples']}")
    if seed < 0:
        raise DataError(f"seed must be 0 or more, got {seed}")
    return {
        "setting": setting and setting.upper(),
        "kind": kind,
        **sizes,
        **({} if kind == CONVERGING else {"hide": hide}),
        "seed": seed,
        "train": _TRAIN | defaults["train"],
    }


def _check_folder(folder: Path, force: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file; choose another folder")
    old = sorted(name for name in FILES if (folder / name).exists())
    if old and not force:
        raise RunError(f"{folder} holds {', '.join(old)}; choose another folder, or --force to replace them")


def _draw(settings: dict[str, Any]) -> tuple[Any, dict[Edge, str], Any, Any]:
    """The full network (signed edges, inputs, outputs, functions, named as in the files), hidden edges, X and Y."""
    from gsnn.discovery.hiding import mask_edges
    from gsnn.graph import Graph
    from gsnn.simulation import convergence_graph, random_graph, simulate, simulate_sde
    from gsnn.simulation.benchmark import held_out_roles

    kind, rng = settings["kind"], np.random.default_rng(settings["seed"])
    if kind == CONVERGING:
        G, inputs, functions, outputs, edges = convergence_graph(settings["n"])
        hidden = dict(held_out_roles(settings["n"]))
    else:
        G, inputs, functions, outputs, edges = random_graph(kind, settings["n"], rng)
        graph = Graph.from_networkx(G, inputs, functions, outputs)
        # An edge that cuts its source off from the inputs or its target off from the outputs could never be found.
        hidden = dict.fromkeys(mask_edges(graph, settings["hide"], rng).testable, "hidden")
    if FUNCTION_EDGES not in settings.get("hide_kinds", (FUNCTION_EDGES,)):
        hidden = {}
    # In the files a treatment has the name of the function it acts on, a readout that of the function it reads.
    treated = [next(iter(G.successors(name))) for name in inputs]
    read = [next(iter(G.predecessors(name))) for name in outputs]
    labels = {name: f"TR:{function}" for name, function in zip(inputs, treated, strict=True)}
    labels |= {name: f"DV:{function}" for name, function in zip(outputs, read, strict=True)}
    extra = _second_ends(G, inputs, functions, outputs, settings, rng)
    make = simulate_sde if kind == "cyclic" else simulate
    x, _, y, _ = make(G, settings["samples"], 0, inputs, outputs, noise_scale=settings["noise"], seed=rng)
    signed = [(s, t, int(G.edges[s, t].get("sign", 1))) for s, t in edges]
    for s, t in extra:
        edge = labels.get(s, s), labels.get(t, t)
        signed.append((*edge, int(G.edges[s, t]["sign"])))
        hidden[edge] = "hidden"
    return (signed, treated, read, functions), hidden, x, y


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
    """Add edges from inputs and to outputs to the full network, with random signs; returns them."""
    added: list[Edge] = []
    for kind in settings.get("hide_kinds", ()):
        if kind == FUNCTION_EDGES:
            continue
        sources, targets, ends = (inputs, functions, inputs) if kind == INPUT_EDGES else (functions, outputs, outputs)
        pairs = [(s, t) for s in sources for t in targets if not G.has_edge(s, t)]
        n = max(1, round(settings["hide"] * len(ends)))
        chosen = [pairs[i] for i in rng.choice(len(pairs), size=min(n, len(pairs)), replace=False)]
        G.add_edges_from((s, t, {"sign": int(rng.choice([-1, 1]))}) for s, t in chosen)
        added += chosen
    return added


def _sif(edges: Sequence[tuple[str, str, int]], functions: Sequence[str]) -> str:
    joined = {name for edge in edges for name in edge[:2]}
    lines = [f"{s}\t{sign}\t{t}" for s, t, sign in edges]
    return "".join(f"{line}\n" for line in [*lines, *(name for name in functions if name not in joined)])


def _config_text(settings: dict[str, Any]) -> str:
    import tomli_w

    graph = f"setting {settings['setting']}" if settings["setting"] else f"a {settings['kind']} graph"
    lines = [
        f"# Simulated data: {graph}, seed {settings['seed']}. Begin with: gsnn train --config gsnn.toml",
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
