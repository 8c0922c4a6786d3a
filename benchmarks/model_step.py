"""Time and memory of one training step of GSNN against a plain gather-scatter reference, with the same weights.

One step is forward, backward and a default Adam. The reference is the usual formulation, batch first: per map one
flattened gather over batch x nonzeros, one multiply, one ``index_add``. Both start from the same weights, and their
outputs, gradients and weights after a step are compared before anything is timed.

Run ``python benchmarks/model_step.py`` (all cases, some minutes, up to about 10 GB for the reference) or ``--quick``.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gsnn.nn import GSNN, keep_freed_memory

sys.path.insert(0, str(Path(__file__).resolve().parent))
from graphs import power_law_graph

STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Case:
    """The size of one measurement; ``n_edges`` counts edges of every type, self-edges included."""

    n_functions: int
    n_edges: int
    channels: int = 8
    batch: int = 64
    layers: int = 6

    def label(self) -> str:
        """N / E / C / B, for the tables."""
        return f"{self.n_functions} / {self.n_edges} / {self.channels} / {self.batch}"

    def reference_bytes(self) -> int:
        """Rough peak of the reference: indices, saved gathers and the temporaries of one backward map."""
        entries = self.batch * self.n_edges * self.channels
        return entries * (4 * 8 + 2 * self.layers * 4 + 4 * 4)


CASES = [
    Case(50, 144),
    Case(1000, 10_600),
    Case(3000, 47_700),
    Case(8000, 100_000),
    Case(3000, 47_700, batch=512),
    Case(3000, 47_700, channels=32),
    Case(8000, 100_000, batch=512),
    Case(8000, 100_000, channels=32),
]
QUICK = [Case(50, 144), Case(1000, 10_600)]


def build_model(case: Case) -> GSNN:
    """The model of a case: unshared layers, no norm, ELU, bias, residual."""
    edges, names = power_law_graph(case.n_functions, case.n_edges)
    torch.manual_seed(0)
    model = GSNN(edges, names, case.channels, case.layers, share_layers=False, norm="none")
    if model.E != case.n_edges:
        raise RuntimeError(f"the graph of {case} has {model.E} edges")
    with torch.no_grad():  # biases off their zero start, so that a lost bias would show
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.uniform_(-0.1, 0.1)
    return model


class ReferenceMap(nn.Module):
    """out[b, row[k]] += values[k] * x[b, column[k]] + bias, by gather, multiply and ``index_add``."""

    gather: Tensor
    scatter: Tensor

    def __init__(self, column: Tensor, row: Tensor, n_columns: int, n_rows: int, batch: int) -> None:
        super().__init__()
        sample = torch.arange(batch).unsqueeze(1)
        self.n_rows, self.batch = n_rows, batch
        self.register_buffer("gather", (sample * n_columns + column).flatten())
        self.register_buffer("scatter", (sample * n_rows + row).flatten())

    def forward(self, x: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        """(B, columns) -> (B, rows)."""
        picked = x.reshape(-1).index_select(0, self.gather)
        terms = (picked.view(self.batch, -1) * values).view(-1)
        out = x.new_zeros(self.batch * self.n_rows).index_add(0, self.scatter, terms)
        return out.view(self.batch, self.n_rows) + bias


class ReferenceGSNN(nn.Module):
    """The plain formulation, with a copy of the weights of a GSNN without norm."""

    def __init__(self, model: GSNN, batch: int) -> None:
        super().__init__()
        first = model.blocks[0]
        edge_in, channel_in = first.lin_in.pattern.positions()
        edge_out, channel_out = first.lin_out.pattern.positions()
        n_channels = first.lin_in.pattern.n_channels
        # The indices are the same in every block and are kept once.
        self.lin_in = ReferenceMap(edge_in, channel_in, model.E, n_channels, batch)
        self.lin_out = ReferenceMap(channel_out, edge_out, n_channels, model.E, batch)
        self.weights = nn.ParameterList(
            nn.Parameter(source.detach().clone()) for block in model.blocks for source in block_parameters(block)
        )
        self.n_layers, self.n_outputs = model.L, model.O
        self.pad = model.layout.input_edges.start, model.E - model.layout.input_edges.stop
        self.input_source, self.output_target = model.input_source, model.output_target
        self.output_edges = model.layout.output_edges
        self.scale = model.output_degree.double().sqrt() * math.sqrt(model.L)

    def forward(self, x: Tensor) -> Tensor:
        """(B, I) -> (B, O)."""
        state = F.pad(x[:, self.input_source], self.pad)
        for layer in range(self.n_layers):
            weight_in, bias_in, weight_out, bias_out, residual = self.weights[5 * layer : 5 * layer + 5]
            hidden = F.elu(self.lin_in(state, weight_in, bias_in))
            state = self.lin_out(hidden, weight_out, bias_out) + torch.relu(residual) * state
        out = x.new_zeros(len(x), self.n_outputs)
        return out.index_add(1, self.output_target, state[:, self.output_edges]) / self.scale.to(x.dtype)


def block_parameters(block: nn.Module) -> list[Tensor]:
    """The five parameters of a block in the order that the reference keeps them."""
    return [block.lin_in.weight, block.lin_in.bias, block.lin_out.weight, block.lin_out.bias, block.residual_weight]


class Training:
    """A model, its default Adam and one fixed batch."""

    def __init__(self, model: nn.Module, x: Tensor, y: Tensor) -> None:
        self.model, self.x, self.y = model, x, y
        self.optimiser = torch.optim.Adam(model.parameters())

    def step(self) -> Tensor:
        """One training step; returns the predictions it started from."""
        self.optimiser.zero_grad()
        out = self.model(self.x)
        ((out - self.y) ** 2).sum().backward()
        self.optimiser.step()
        return out.detach()


def batch_of(case: Case, model: GSNN) -> tuple[Tensor, Tensor]:
    """Seeded inputs (B, I) and targets (B, O)."""
    generator = torch.Generator().manual_seed(1)
    dtype = model.dtype
    x = torch.randn(case.batch, model.I, generator=generator, dtype=dtype)
    return x, torch.randn(case.batch, model.O, generator=generator, dtype=dtype)


def compare(case: Case, dtype: torch.dtype, tolerance: float) -> str:
    """Take one step with both; largest differences of outputs, gradients and new weights, or an error.

    Raises:
        RuntimeError: if a difference is above the tolerance, relative to the largest value of the tensor.
    """
    model = build_model(case).to(dtype)
    x, y = batch_of(case, model)
    ours, reference = Training(model, x, y), Training(ReferenceGSNN(model, case.batch).to(dtype), x, y)
    worst = {"outputs": relative(ours.step(), reference.step()), "gradients": 0.0, "weights": 0.0}
    mine = [tensor for block in model.blocks for tensor in block_parameters(block)]
    for own, other in zip(mine, reference.model.weights, strict=True):
        if own.grad is None or other.grad is None:
            raise RuntimeError("a parameter got no gradient")
        worst["gradients"] = max(worst["gradients"], relative(own.grad, other.grad))
        worst["weights"] = max(worst["weights"], relative(own.detach(), other.detach()))
    text = ", ".join(f"{name} {value:.1e}" for name, value in worst.items())
    # Adam divides a gradient by its own size: one that is nothing but rounding still moves a weight by up to lr.
    if max(worst["outputs"], worst["gradients"]) > tolerance or worst["weights"] > max(10 * tolerance, 1e-9):
        raise RuntimeError(f"ours and the reference differ at {case.label()} in {dtype}: {text}")
    return f"{case.label()} {str(dtype).removeprefix('torch.')}: {text}"


def relative(a: Tensor, b: Tensor) -> float:
    """Largest difference over largest value."""
    return float((a - b).abs().max() / b.abs().max().clamp(min=1e-30))


def seconds(run: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def median_ms(run: Callable[[], object], repeats: int) -> float:
    """Median wall time after two calls that do not count."""
    for _ in range(2):
        run()
    return 1e3 * statistics.median(seconds(run) for _ in range(repeats))


def time_pair(ours: Training, reference: Training | None, budget: float) -> tuple[float, float | None]:
    """Median step times in ms, rounds of both taken in turn so that a busy machine slows both alike."""
    both = [ours] if reference is None else [ours, reference]
    cost = []
    for training in both:
        training.step()
        cost.append(seconds(training.step))
    rounds = max(3, min(25, int(budget / (10 * cost[0] + 2 * sum(cost[1:])))))
    times: list[list[float]] = [[] for _ in both]
    for _ in range(rounds):
        for training, record, runs, once in zip(both, times, (8, 1), cost, strict=False):
            if once < 1.0:
                training.step()  # warms the caches that the other has filled
            record.extend(seconds(training.step) for _ in range(runs))
    medians = [1e3 * statistics.median(record) for record in times]
    return medians[0], medians[1] if len(medians) > 1 else None


def peak_mb(case: Case, kind: str) -> float:
    """Peak resident memory, MB, that model, optimiser and three steps add to a process that has imported torch."""
    command = [sys.executable, __file__, "--memory-of", kind, "--case", json.dumps(asdict(case))]
    command += ["--threads", str(torch.get_num_threads())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return math.nan
    return float(done.stdout.split()[-1])


def measure_memory(case: Case, kind: str) -> float:
    """The body of the process that :func:`peak_mb` starts."""
    tiny = Case(50, 144)
    for size in (tiny, case):
        model = build_model(size)
        x, y = batch_of(size, model)
        training = Training(model if kind == "ours" else ReferenceGSNN(model, size.batch), x, y)
        if size is tiny:
            training.step()  # thread pools and code that is generated at first use are no part of the model
            del training, model
            gc.collect()
            trim()
            before = status_mb("VmRSS")
            reset_peak()
        else:
            for _ in range(3):
                training.step()
    return status_mb("VmHWM") - before


def trim() -> None:
    """Hand freed memory back to the system, so that it is not counted as used."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except OSError:
        return


def reset_peak() -> None:
    """Set the peak of this process to what it holds now (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


def status_mb(key: str) -> float:
    """One entry of the process status, MB."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) / 1024


def available_bytes() -> int:
    """Memory that can be had without swapping."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


@dataclass(frozen=True)
class Machine:
    """What this machine attains: GFLOP/s of a large product, GB/s of a large triad."""

    gflops: float
    gbytes: float


def measure_machine() -> Machine:
    """Best of several: a 2048^3 ``mm``, and a + s * b -> c over arrays of 128 MB (three times 128 MB moved)."""
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    c = torch.empty(2048, 2048)
    product = min(seconds(lambda: torch.mm(a, b, out=c)) for _ in range(8))
    u, v, w = (torch.ones(32 * 2**20) for _ in range(3))
    triad = min(seconds(lambda: torch.add(u, v, alpha=2.0, out=w)) for _ in range(8))
    return Machine(2 * 2048**3 / product / 1e9, 3 * u.numel() * 4 / triad / 1e9)


def work(case: Case, model: GSNN) -> tuple[float, float]:
    """GFLOP and compulsory GB of a step.

    Products: six per block (two maps, each forward, towards its input and towards its weights), two operations per
    nonzero and sample. Traffic if every tensor were moved once per product that needs it and nothing were fused across
    the products: per block the edge state five times forward and backward, the channels five times, weights and their
    gradients, then Adam (gradient, weight and two moments read, the last three written).
    """
    block = model.blocks[0]
    nonzeros = block.lin_in.weight.numel() + block.lin_out.weight.numel()
    n_channels = block.lin_in.pattern.n_channels
    weights = sum(parameter.numel() for parameter in model.parameters())
    flop = case.layers * 6 * nonzeros * case.batch
    edge_passes, channel_passes = 2 + 5, 2 + 5
    moved = case.layers * case.batch * (edge_passes * case.n_edges + channel_passes * n_channels)
    return flop / 1e9, 4 * (moved + weights * (3 + 7)) / 1e9


def step_table(cases: list[Case], machine: Machine, budget: float) -> Iterator[str]:
    """The main table, a row as soon as it is measured."""
    yield (
        "| N / E / C / B | ours ms | reference ms | ratio | ours MB | reference MB | memory | GFLOP/s (of mm) "
        "| GB/s (of triad) |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    for case in cases:
        model = build_model(case)
        x, y = batch_of(case, model)
        fits = case.reference_bytes() < 0.7 * available_bytes() and case.batch * case.channels * case.n_edges < 6e7
        reference = Training(ReferenceGSNN(model, case.batch), x, y) if fits else None
        own, other = time_pair(Training(model, x, y), reference, budget)
        gflop, gbyte = work(case, model)
        del model, reference
        gc.collect()
        memory = peak_mb(case, "ours")
        memory_other = peak_mb(case, "reference") if fits else math.nan
        yield " | ".join(
            [
                f"| {case.label()}",
                f"{own:.2f}",
                "-" if other is None else f"{other:.1f}",
                "-" if other is None else f"{other / own:.1f}x",
                f"{memory:.0f}",
                "-" if math.isnan(memory_other) else f"{memory_other:.0f}",
                "-" if math.isnan(memory_other) else f"1/{memory_other / max(memory, 1e-9):.1f}",
                f"{gflop / own * 1e3:.0f} ({gflop / own * 1e3 / machine.gflops:.0%})",
                f"{gbyte / own * 1e3:.0f} ({gbyte / own * 1e3 / machine.gbytes:.0%}) |",
            ]
        )


def profile_table(case: Case, top: int = 12) -> Iterator[str]:
    """Where the time of a step goes: operators by their own time, and Adam as a whole."""
    model = build_model(case)
    training = Training(model, *batch_of(case, model))
    whole = median_ms(training.step, 10)
    adam = median_ms(training.optimiser.step, 10)
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities) as profiler:
        for _ in range(5):
            training.step()
    events = sorted(profiler.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    yield f"{case.label()}: {whole:.2f} ms a step, Adam {adam:.2f} ms ({adam / whole:.0%})"
    yield ""
    yield "| operator | share of own time | calls per step |"
    yield "|---|---|---|"
    for event in events[:top]:
        yield f"| `{event.key}` | {event.self_cpu_time_total / total:.1%} | {event.count / 5:g} |"


def growth_table(cases: list[Case], repeats: int) -> Iterator[str]:
    """Cost per edge and sample along a series of cases: constant where growth is linear."""
    yield "| N / E / C / B | ms | ns per edge, sample and layer |"
    yield "|---|---|---|"
    for case in cases:
        model = build_model(case)
        own = median_ms(Training(model, *batch_of(case, model)).step, repeats)
        yield f"| {case.label()} | {own:.2f} | {own * 1e6 / (case.n_edges * case.batch * case.layers):.2f} |"


def heading(text: str) -> None:
    """Start a part of the report."""
    print(f"\n### {text}\n", flush=True)


def show(lines: Iterator[str]) -> None:
    """Print lines as they come."""
    for line in lines:
        print(line, flush=True)


def main() -> None:
    """Print the report as markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two small cases and short tables")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--keep-freed", action="store_true", help="call gsnn.nn.keep_freed_memory first (for both)")
    parser.add_argument("--memory-of", choices=["ours", "reference"], help=argparse.SUPPRESS)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.memory_of:
        print(measure_memory(Case(**json.loads(options.case)), options.memory_of))
        return
    quick = options.quick
    kept = options.keep_freed and keep_freed_memory()
    print(
        f"PyTorch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, {options.threads} threads, "
        f"load {os.getloadavg()[0]:.1f} before, freed memory {'kept' if kept else 'handed back'}"
    )
    heading("Same result")
    for case in QUICK[: 1 if quick else 2]:
        print(f"- {compare(case, torch.float64, 1e-10)}")
        print(f"- {compare(case, torch.float32, 1e-4)}")
    machine = measure_machine()
    heading("Step")
    show(step_table(QUICK if quick else CASES, machine, budget=4.0 if quick else 25.0))
    print(f"\nRoofline: mm {machine.gflops:.0f} GFLOP/s, triad {machine.gbytes:.0f} GB/s.")
    heading("Profile")
    for case in QUICK[-1:] if quick else [CASES[0], CASES[2]]:
        show(profile_table(case))
        print()
    heading("Growth")
    sizes = [1, 2, 4] if quick else [1, 2, 4, 8, 16]
    repeats = 5 if quick else 9
    show(growth_table([Case(500 * k, 6_000 * k) for k in sizes], repeats))
    print()
    base = 1000 if quick else 3000
    batches = [16, 64, 256] if quick else [16, 32, 64, 128, 256, 512]
    show(growth_table([Case(base, 16 * base, batch=batch) for batch in batches], repeats))


if __name__ == "__main__":
    main()
