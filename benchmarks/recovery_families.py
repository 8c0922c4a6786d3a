"""Families of simulated problems: random graphs, published logical models, the DREAM4 challenge."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import networkx as nx
import numpy as np
import pandas as pd

from gsnn.graph import Graph
from gsnn.simulation import convergence_graph, held_out_edges, simulate, simulate_sde
from gsnn.simulation.linear import Vectorised
from settings import SETTINGS
from teachers import Edge, Problem, build_graph, data_folder, finish

# Published logical models of the package pyboolnet with at least 25 nodes that are no inputs.
LOGICAL = ("grieco_mapk", "klamt_tcr", "zhang_tlgl", "selvaggio_emt", "remy_tumorigenesis")
# Steps of the optimiser: epochs follow from the number of samples.
STEPS = 600
BATCH = 64


def epochs_for(n_samples: int, batch: int = BATCH) -> int:
    """Epochs that make about ``STEPS`` steps."""
    return int(np.clip(round(STEPS * batch / n_samples), 5, 200))


def training_for(n_samples: int) -> dict[str, object]:
    """What small problems train with: a smaller batch, fewer layers."""
    batch = min(BATCH, max(16, n_samples // 4))
    return {"epochs": epochs_for(n_samples, batch), "batch_size": batch, "layers": 8}


def random_edges(kind: str, n: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Function -> function edges of a random graph, about two a node."""
    edges: set[tuple[int, int]] = set()
    width = n // 5  # the first fifth are roots
    if kind == "layered":
        for node in range(width, n):
            layer = (node // width - 1) * width
            edges |= {(int(layer + k), node) for k in rng.choice(width, size=2, replace=False)}
        return sorted(edges)
    weight = np.ones(n)
    for node in range(width, n):
        share = weight[:node] / weight[:node].sum()
        for parent in rng.choice(node, size=min(node, 1 + rng.poisson(1.0)), replace=False, p=share):
            edges.add((int(parent), node))
            if kind == "scale-free":
                weight[parent] += 1
    if kind == "cyclic":
        back = [(b, a) for a, b in sorted(edges) if (b, a) not in edges]
        edges |= {back[k] for k in rng.permutation(len(back))[: len(edges) // 5]}
    return sorted(edges)


def random_graph(
    kind: str,
    seed: int,
    *,
    n: int = 40,
    noise: float = 0.15,
    fraction: float = 0.2,
    n_train: int = 1000,
) -> Problem:
    """A random graph with linear, saturating (``nonlinear``) or cyclic dynamics and a share of its edges hidden.

    Every function without parents has an input of its own; every function without children, and every third other one,
    is read.
    """
    rng = np.random.default_rng(seed)
    edges = random_edges("dag" if kind == "nonlinear" else kind, n, rng)
    names = [f"f{k}" for k in range(n)]
    into = {b for _, b in edges}
    out = {a for a, _ in edges}
    fed = [k for k in range(n) if k not in into or (kind == "cyclic" and k % 5 == 0)]
    read = [k for k in range(n) if k not in out or k % 3 == 2]
    inner = [(names[a], names[b]) for a, b in edges]
    outer = [(f"in{k}", names[k]) for k in fed]
    full = build_graph([f"in{k}" for k in fed], names, [*outer, *inner], [names[k] for k in read])
    network = nx.DiGraph(full.to_networkx())
    signs = {
        edge: int(s) for edge, s in zip(network.edges, np.where(rng.random(network.size()) < 0.75, 1, -1), strict=True)
    }
    common = (network, n_train, 300, list(full.inputs), list(full.outputs))
    if kind == "cyclic":
        x, x_test, y, y_test = simulate_sde(*common, noise_scale=noise, signed_edges=signs, seed=rng)
    else:
        special: dict[str, Callable[..., np.ndarray]] = {}
        if kind == "nonlinear":
            for name in names:
                sign = np.array([signs[parent, name] for parent in network.predecessors(name)])[:, None]
                special[name] = Vectorised(lambda values, sign=sign: np.tanh((sign * np.asarray(values)).sum(0)))
        x, x_test, y, y_test = simulate(
            *common, noise_scale=noise, signed_edges=signs, special_functions=special or None, seed=rng
        )
    return finish(
        f"{kind} #{seed}", full, inner, round(fraction * len(inner)), (x, x_test, y, y_test), rng, training_for(n_train)
    )


def setting(name: str, seed: int, **changes: float) -> Problem:
    """Setting A, B or C of the converging benchmark, with its own hold-out and training."""
    chosen = SETTINGS[name]
    full, inputs, functions, outputs, _ = convergence_graph(chosen.n)
    samples = simulate(full, chosen.n_train, chosen.n_test, inputs, outputs, noise_scale=chosen.noise, seed=seed)
    x, x_test, y, y_test = samples
    held = held_out_edges(chosen.n)
    whole = Graph.from_edges(list(full.edges), input_nodes=inputs, function_nodes=functions, output_nodes=outputs)
    training = {
        "channels": chosen.channels,
        "layers": chosen.layers,
        "norm": chosen.norm,
        "dropout": chosen.dropout,
        "lr": chosen.lr,
        "epochs": chosen.epochs,
        "batch_size": chosen.batch_size,
        "weight_decay": 0.0,
        "one_cycle": False,
    }
    rng = np.random.default_rng(seed)
    return finish(f"{name} #{seed}", whole, held, len(held), (x, x_test, y, y_test), rng, training)


def logical_rules(name: str) -> dict[str, str]:
    """The rules of a published logical model, read from the installed package pyboolnet without importing it.

    Raises:
        FileNotFoundError: If the package is not installed or lacks the model.
    """
    try:
        package = metadata.distribution("pyboolnet")
    except metadata.PackageNotFoundError as error:
        raise FileNotFoundError("pyboolnet is not installed; run: pip install --no-deps pyboolnet") from error
    path = Path(str(package.locate_file(f"pyboolnet/repository/{name}/{name}.bnet")))
    rules = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.split("#")[0].strip()
        target, _, rule = text.partition(",")
        if rule and target.strip() != "targets":
            rules[target.strip()] = rule.strip()
    return rules


_NAME = re.compile(r"[A-Za-z_][\w.\-]*")


def logical(name: str, seed: int, *, n_train: int = 1000, fraction: float = 0.15, flips: float = 0.05) -> Problem:
    """A published logical model under random inputs and knock-outs.

    Each sample sets the model's inputs at random and knocks out two of its nodes; the model is run synchronously from
    a random state, and a node's response is its mean activity over the last half of 40 steps, with noise. Half of the
    nodes can be knocked out, so each has an input besides; half are read, and all that lead nowhere.
    """
    rng = np.random.default_rng(seed)
    rules = logical_rules(name)
    parents = {node: sorted(set(_NAME.findall(rule)) - {node}) for node, rule in rules.items()}
    inputs = [node for node, rule in rules.items() if rule == node]
    functions = [node for node in rules if node not in inputs and parents[node]]
    code = {node: compile(_python(rules[node]), node, "eval") for node in functions}
    every = [node for node in rules if node in inputs or node in functions]
    edges = [(a, b) for b in functions for a in parents[b] if a in set(every)]
    inner = [(a, b) for a, b in edges if a not in inputs]
    leads = {a for a, _ in edges}
    struck = sorted(rng.permutation(functions)[: len(functions) // 2].tolist())
    read = sorted(
        {*rng.permutation(functions)[: len(functions) // 2].tolist(), *(f for f in functions if f not in leads)}
    )
    m = n_train + 300
    level = {node: rng.random(m) < 0.5 for node in inputs}
    out = np.zeros((m, len(struck)), dtype=bool)
    np.put_along_axis(out, rng.random(out.shape).argsort(1)[:, :2], True, axis=1)
    dead = {node: out[:, k] for k, node in enumerate(struck)}
    state = {node: rng.random(m) < 0.5 for node in functions} | level
    constants = {"_true": np.ones(m, dtype=bool), "_false": np.zeros(m, dtype=bool)}
    constants |= {node: np.zeros(m, dtype=bool) for used in parents.values() for node in used if node not in state}
    total = np.zeros((m, len(read)))
    for step in range(40):
        scope = {_safe(node): values for node, values in {**constants, **state}.items()}
        fresh = {node: eval(code[node], {"__builtins__": {}}, scope) for node in functions}
        state = {node: values & ~dead[node] if node in dead else values for node, values in fresh.items()} | level
        if step >= 20:
            total += np.stack([state[node] for node in read], 1) / 20
    y = total + flips * rng.standard_normal(total.shape)
    x = np.concatenate([np.stack([level[n] for n in inputs], 1) if inputs else np.zeros((m, 0)), out], 1).astype(float)
    keys = [*inputs, *(f"ko.{node}" for node in struck)]
    full = build_graph(keys, functions, [*edges, *((f"ko.{node}", node) for node in struck)], read)
    return finish(
        f"{name} #{seed}",
        full,
        inner,
        round(fraction * len(inner)),
        (x[:n_train], x[n_train:], y[:n_train], y[n_train:]),
        rng,
        training_for(n_train),
    )


def _safe(name: str) -> str:
    return "v_" + re.sub(r"\W", "_", name)


def _python(rule: str) -> str:
    """A rule with !, & and | as a Python expression over arrays."""
    text = _NAME.sub(lambda found: _safe(found.group()), rule)
    text = re.sub(r"\b1\b", "_true", re.sub(r"\b0\b", "_false", text))
    return text.replace("!", "~").replace("_true", "v__true").replace("_false", "v__false")


def knockouts(seed: int, *, n: int = 100, n_edges: int = 176, noise: float = 0.1) -> Problem:
    """A generated network in the design of DREAM4: wild type, a knock-out and a knock-down of every gene, once each.

    Regulators are few and uneven, as there; the steady state is that of a saturating network. For tuning.
    """
    rng = np.random.default_rng(seed)
    weight = rng.pareto(1.2, n) * (rng.random(n) < 0.5)
    edges: set[tuple[int, int]] = set()
    while len(edges) < n_edges:
        a, b = int(rng.choice(n, p=weight / weight.sum())), int(rng.integers(n))
        if a != b:
            edges.add((a, b))
    chosen = sorted(edges)
    W = np.zeros((n, n))
    for a, b in chosen:
        W[b, a] = rng.uniform(1.0, 3.0) * (1 if rng.random() < 0.6 else -1)
    bias = rng.uniform(-1.5, 1.0, n)
    x = np.concatenate([np.zeros((1, n)), np.eye(n), 0.5 * np.eye(n)])
    state = np.full((n, len(x)), 0.5)
    for _ in range(300):
        state += 0.3 * ((1 - x.T) / (1 + np.exp(-(W @ state + bias[:, None]))) - state)
    y = (state + noise * state.std() * rng.standard_normal(state.shape)).T
    return _design(f"knock-outs #{seed}", [f"G{k + 1}" for k in range(n)], chosen, x, y, rng)


def dream4(seed: int) -> Problem:
    """The DREAM4 size-100 network 1: 201 steady states, 30 % of its 176 edges hidden.

    Raises:
        FileNotFoundError: If the data set is not there.
    """
    folder = data_folder() / "dream4_size100_net1"
    table = pd.read_csv(folder / "expression.tsv", sep="\t", index_col=0)
    gold = pd.read_csv(folder / "gold_standard.tsv", sep="\t", index_col=0)
    names = list(table.index)
    columns = ["wt", *(f"{name}(-/-)" for name in names), *(f"{name}(+/-)" for name in names)]
    y = table[columns].to_numpy().T
    x = np.concatenate([np.zeros((1, len(names))), np.eye(len(names)), 0.5 * np.eye(len(names))])
    target, source = np.nonzero(gold.loc[names, names].to_numpy())
    edges = sorted(zip(source.tolist(), target.tolist(), strict=True))
    return _design(f"DREAM4 #{seed}", names, edges, x, y, np.random.default_rng(seed))


def _design(
    name: str, names: list[str], edges: list[tuple[int, int]], x: np.ndarray, y: np.ndarray, rng: np.random.Generator
) -> Problem:
    """One input and one output for every gene; 30 % of the edges hidden. There are no samples to spare for a test."""
    inner: list[Edge] = [(names[a], names[b]) for a, b in edges]
    full = build_graph([f"do.{g}" for g in names], names, [*((f"do.{g}", g) for g in names), *inner], names)
    training = {"epochs": 60, "batch_size": 32, "layers": 5, "lr": 3e-3}
    return finish(name, full, inner, round(0.3 * len(inner)), (x, x, y, y), rng, training)
