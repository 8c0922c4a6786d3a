"""Time and peak memory of training and inference on networks of real size, each phase in a process of its own.

    python benchmarks/scale.py                       # both networks, all phases
    python benchmarks/scale.py --networks l1000 --phases train magnitude
    python benchmarks/scale.py --quick               # a twentieth of the size, to see that it runs

Networks: ``l1000``, the 2,059 proteins and 12,127 edges of the l1000 drug network with 588 conditions of 512 drugs
(found in $GSNN_DATA, by default beside the repository; left out where they are missing), and ``synthetic``, a power-law
graph of 10,000 functions and 100,000 edges. Responses come from a teacher: a GSNN on the same graph with other weights,
seeded, standardised. Peak memory is the high-water mark of the process (VmHWM); what PyTorch and the data take of it
stands beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from graphs import power_law_graph
from gsnn.data import Standardiser
from gsnn.edges import FunctionEdgeInferer, GradientEdgeInferer, MagnitudeEdgeInferer, alias_groups
from gsnn.graph import Graph
from gsnn.nn import GSNN
from gsnn.nn.losses import masked_mse

TOP = 10_000
CHANNELS = 8
GRADIENT_SAMPLES = 500


@dataclass(frozen=True)
class Problem:
    """A network with samples, and how large a model it gets."""

    graph: Graph
    x: Tensor
    y: Tensor
    layers: int
    norm: str
    batch: int
    epochs: int

    def model(self, seed: int = 0) -> GSNN:
        """A model of the network."""
        torch.manual_seed(seed)
        return GSNN.from_graph(self.graph, channels=CHANNELS, layers=self.layers, norm=self.norm)

    def batches(self, size: int = 256) -> Iterator[tuple[Tensor, Tensor]]:
        """Samples for inference."""
        yield from zip(self.x.split(size), self.y.split(size), strict=True)


def data_folder() -> Path:
    """Where published data are."""
    return Path(os.environ.get("GSNN_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")) / "l1000_drug_pkn"


def taught(graph: Graph, x: Tensor, **options: object) -> Tensor:
    """Standardised responses of a teacher with other weights than any model here."""
    torch.manual_seed(1234)
    teacher = GSNN.from_graph(graph, channels=4, layers=int(options["layers"]), norm="none").eval()
    with torch.no_grad():
        y = torch.cat([teacher(part) for part in x.split(256)]).numpy().astype(np.float64)
        y += 0.05 * y.std(0) * np.random.default_rng(0).standard_normal(y.shape)
    return torch.as_tensor(Standardiser.fit(y).transform(y), dtype=torch.float32)


def l1000() -> Problem:
    """Drugs act on their targets; transcription factors are read."""
    folder = data_folder()
    edges = pd.read_csv(folder / "l1000_lvl3_withsignor-Model.tsv", sep="\t", usecols=["source", "target"])
    edges = edges.drop_duplicates()
    nodes = pd.read_csv(folder / "l1000_lvl3_withsignor-Annotation.tsv", sep="\t")
    drugs = pd.read_csv(folder / "L1000_lvl3_A375-drugs_targets.tsv", sep="\t", index_col=0)
    conditions = pd.read_csv(folder / "L1000_lvl3_A375-conditions_drugs.tsv", sep="\t", index_col=0)
    functions = sorted(set(edges["source"]) | set(edges["target"]))
    known = set(functions)
    names = list(conditions.columns)
    at, to = np.nonzero(drugs.loc[names].to_numpy() > 0)
    acts = [(names[a], str(drugs.columns[t])) for a, t in zip(at, to, strict=True) if drugs.columns[t] in known]
    read = [code for code in nodes.loc[nodes["TF"].astype(str) == "True", "code"] if code in known]
    graph = Graph.from_edges(
        [*acts, *zip(edges["source"], edges["target"], strict=True), *((code, f"{code}.out") for code in read)],
        input_nodes=names,
        function_nodes=functions,
        output_nodes=[f"{code}.out" for code in read],
    )
    x = torch.as_tensor(conditions.to_numpy(), dtype=torch.float32)
    return Problem(graph, x, taught(graph, x, layers=10), layers=10, norm="groupbatch", batch=64, epochs=5)


def synthetic(n: int = 10_000, edges: int = 100_000, samples: int = 2_000) -> Problem:
    """A power-law graph with a tenth as many inputs and outputs."""
    graph = Graph(*power_law_graph(n, edges))
    x = torch.rand(samples, graph.I, generator=torch.Generator().manual_seed(0))
    return Problem(graph, x, taught(graph, x, layers=6), layers=6, norm="none", batch=64, epochs=1)


def problem(network: str, quick: bool, samples: int | None) -> Problem:
    """A network by name; a small one in its place for a quick look."""
    given = synthetic(500, 5_000, 200) if quick else l1000() if network == "l1000" else synthetic()
    return replace(given, x=given.x[:samples], y=given.y[:samples])


def timed(call: Callable[[], object]) -> tuple[object, float]:
    """Result and seconds."""
    start = time.perf_counter()
    result = call()
    return result, time.perf_counter() - start


def train(given: Problem, weights: Path) -> dict[str, float]:
    """A few epochs; the weights are left for the other phases."""
    model = given.model()
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    losses, steps = [], []
    for epoch in range(given.epochs):
        order = torch.randperm(len(given.x), generator=torch.Generator().manual_seed(epoch))
        total = 0.0
        for rows in order.split(given.batch):
            if len(rows) < given.batch and given.norm == "groupbatch":
                continue
            start = time.perf_counter()
            optimiser.zero_grad()
            loss = masked_mse(model(given.x[rows]), given.y[rows])
            loss.backward()
            optimiser.step()
            steps.append(time.perf_counter() - start)
            total += float(loss) * len(rows)
        losses.append(total / len(given.x))
    torch.save(model.state_dict(), weights)
    return {"step_ms": 1e3 * float(np.median(steps)), "seconds": sum(steps), "loss": losses[0], "loss_end": losses[-1]}


def trained(given: Problem, weights: Path) -> GSNN:
    """The model that ``train`` left, or a fresh one."""
    model = given.model()
    if weights.exists():
        model.load_state_dict(torch.load(weights, weights_only=True))
    return model


def magnitude(given: Problem, weights: Path, score: str = "corr") -> dict[str, float]:
    """Correlations of magnitudes: statistics of all samples, then the best edges with q-values."""
    inferer = MagnitudeEdgeInferer(trained(given, weights), given.graph)
    n, seen = timed(lambda: inferer.fit(given.batches(), verbose=False))
    table, ranked = timed(lambda: inferer.top_edges(TOP, layer_agg="mean0", score=score))
    return {"samples": n, "fit_s": seen, "top_s": ranked, "seconds": seen + ranked, "rows": len(table)}


def gradient(given: Problem, weights: Path, score: str) -> dict[str, float]:
    """First-order scores."""
    inferer = GradientEdgeInferer(trained(given, weights), given.graph, keep_post=score == "explained")
    n, seen = timed(lambda: inferer.fit(given.batches(), verbose=False))
    table, ranked = timed(lambda: inferer.top_edges(TOP, score=score))
    return {"samples": n, "fit_s": seen, "top_s": ranked, "seconds": seen + ranked, "rows": len(table)}


def ranks(given: Problem, weights: Path) -> dict[str, float]:
    """Pooled rank correlation."""
    known = given.graph.edge_index_dict["function", "to", "function"]
    inferer = FunctionEdgeInferer(trained(given, weights), None, known)
    _, seen = timed(lambda: inferer.fit(given.x, given.y))
    table, ranked = timed(lambda: inferer.top_edges(TOP))
    observations = (given.layers - 1) * len(given.x)
    return {"samples": observations, "fit_s": seen, "top_s": ranked, "seconds": seen + ranked, "rows": len(table)}


def aliases(given: Problem, weights: Path) -> dict[str, float]:
    """Alias groups by hops."""
    groups, seconds = timed(lambda: alias_groups(given.graph, "hops", given.layers))
    return {"samples": 0, "seconds": seconds, "groups": groups.n_groups}


PHASES: dict[str, Callable[[Problem, Path], dict[str, float]]] = {
    "train": train,
    "magnitude": magnitude,
    "magnitude-partial": lambda given, weights: magnitude(given, weights, "partial"),
    "gradient-normalised": lambda given, weights: gradient(given, weights, "normalised"),
    "gradient-regressed": lambda given, weights: gradient(given, weights, "regressed"),
    "gradient-explained": lambda given, weights: gradient(given, weights, "explained"),
    "ranks": ranks,
    "aliases": aliases,
}


def peak_gb() -> float:
    """High-water mark of this process, GB."""
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e9


def one(network: str, phase: str, quick: bool, samples: int | None, weights: Path) -> dict[str, float]:
    """What one phase took."""
    if network == "synthetic" and phase.startswith("gradient"):
        # Its cost has C^2 = 64 times as many multiply-adds a sample.
        samples = samples or GRADIENT_SAMPLES
    given = problem(network, quick, samples)
    before, cpu = peak_gb(), time.process_time()
    found = PHASES[phase](given, weights)
    return found | {"cpu_s": time.process_time() - cpu, "before_gb": before, "peak_gb": peak_gb()}


def main() -> None:
    """Run the phases and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=("l1000", "synthetic"), default=["l1000", "synthetic"])
    parser.add_argument("--phases", nargs="+", choices=tuple(PHASES), default=list(PHASES))
    parser.add_argument("--quick", action="store_true", help="one small network in place of either")
    parser.add_argument("--samples", type=int, help="at most so many samples; first-order scores of synthetic: 500")
    parser.add_argument("--one", nargs=3, metavar=("NETWORK", "PHASE", "WEIGHTS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        network, phase, weights = options.one
        print(json.dumps(one(network, phase, options.quick, options.samples, Path(weights))))
        return
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}\n")
    print("| network | phase | samples | s | CPU s | peak GB | |\n|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for network in options.networks:
            if network == "l1000" and not options.quick and not data_folder().exists():
                print(f"left out: no data in {data_folder()}", file=sys.stderr)
                continue
            for phase in options.phases:
                command = [sys.executable, __file__, "--one", network, phase, str(Path(folder) / f"{network}.pt")]
                command += ["--quick"] if options.quick else []
                command += ["--samples", str(options.samples)] if options.samples else []
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode:
                    print(f"| {network} | {phase} | | | | | {done.stderr.strip().splitlines()[-1:]} |", flush=True)
                    continue
                found = json.loads(done.stdout.splitlines()[-1])
                head = [f"{int(found.pop('samples', 0)) or ''}"]
                head += [f"{found.pop('seconds'):.3g}", f"{found.pop('cpu_s'):.3g}", f"{found.pop('peak_gb'):.2f}"]
                rest = ", ".join(f"{key} {value:.4g}" for key, value in found.items())
                print(f"| {network} | {phase} | {' | '.join(head)} | {rest} |", flush=True)


if __name__ == "__main__":
    main()
