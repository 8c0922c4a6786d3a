"""One training step with a norm and dropout, and one capture, against the step without; all in turn, in one process.

The default of ``gsnn train`` is ``norm="groupbatch"`` with dropout 0.1, that of ``GSNN()`` is ``norm="layer"``. The
plain reference is the batch-first gather-scatter formulation of ``model_step.py`` with the same group norm between its
maps; outputs and gradients are compared before anything is timed (dropout 0, in training mode).

    python benchmarks/norm_step.py --threads 1            # three sizes, some minutes
    python benchmarks/norm_step.py --threads 1 --quick    # two sizes, few rounds
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gsnn.edges.capture import captures
from gsnn.nn import GSNN, keep_freed_memory

sys.path.insert(0, str(Path(__file__).resolve().parent))
from graphs import power_law_graph
from model_step import Case, ReferenceGSNN, batch_of, relative, seconds
from model_step import Training as PlainTraining

CASES = [Case(50, 144), Case(1000, 10_600), Case(3000, 47_700)]
SETTINGS = [("none", 0.0), ("none", 0.2), ("groupbatch", 0.0), ("groupbatch", 0.1), ("layer", 0.0), ("batch", 0.0)]
SETTINGS += [("rms", 0.0), ("softmax", 0.0)]


class Training(PlainTraining):
    """With the optimiser of ``gsnn train`` for both: AdamW as one operation."""

    def __init__(self, model: nn.Module, x: Tensor, y: Tensor) -> None:
        super().__init__(model, x, y)
        self.optimiser = torch.optim.AdamW(model.parameters(), fused=True)


def build(case: Case, norm: str, dropout: float) -> GSNN:
    """The model of a case."""
    edges, names = power_law_graph(case.n_functions, case.n_edges)
    torch.manual_seed(0)
    model = GSNN(edges, names, case.channels, case.layers, share_layers=False, norm=norm, dropout=dropout)
    if model.E != case.n_edges:
        raise RuntimeError(f"the graph of {case} has {model.E} edges")
    return model


class GroupBatchReference(ReferenceGSNN):
    """The plain formulation with a group batch norm, statistics of the batch over batch and channels of a function."""

    def __init__(self, model: GSNN, batch: int, dropout: float) -> None:
        super().__init__(model, batch)
        self.n_functions, self.dropout = model.N, dropout
        self.gamma = nn.ParameterList(nn.Parameter(block.norm.gamma.detach().clone()) for block in model.blocks)
        self.beta = nn.ParameterList(nn.Parameter(block.norm.beta.detach().clone()) for block in model.blocks)

    def forward(self, x: Tensor) -> Tensor:
        """(B, I) -> (B, O)."""
        state = F.pad(x[:, self.input_source], self.pad)
        for layer in range(self.n_layers):
            weight_in, bias_in, weight_out, bias_out, residual = self.weights[5 * layer : 5 * layer + 5]
            z = self.lin_in(state, weight_in, bias_in).view(len(x), self.n_functions, -1)
            mean, var = z.mean((0, 2), keepdim=True), z.var((0, 2), keepdim=True, correction=0)
            scale = (var + 1e-5).rsqrt() * self.gamma[layer][None, :, None]
            h = F.elu((z - mean) * scale + self.beta[layer][None, :, None]).flatten(1)
            h = F.dropout(h, self.dropout, self.training)
            state = self.lin_out(h, weight_out, bias_out) + torch.relu(residual) * state
        out = x.new_zeros(len(x), self.n_outputs)
        return out.index_add(1, self.output_target, state[:, self.output_edges]) / self.scale.to(x.dtype)


def compare(case: Case) -> str:
    """Outputs and gradients of a step of both, single precision.

    Raises:
        RuntimeError: if they differ by more than 1e-3 of the largest value.
    """
    model = build(case, "groupbatch", 0.0)
    x, y = batch_of(case, model)
    ours, reference = Training(model, x, y), Training(GroupBatchReference(model, case.batch, 0.0), x, y)
    outputs = relative(ours.step(), reference.step())
    mine = [block.norm.gamma.grad for block in model.blocks] + [block.lin_in.weight.grad for block in model.blocks]
    others = [g.grad for g in reference.model.gamma] + [w.grad for w in list(reference.model.weights)[::5]]
    gradients = max(relative(a, b) for a, b in zip(mine, others, strict=True))
    if max(outputs, gradients) > 1e-3:
        raise RuntimeError(f"ours and the reference differ at {case.label()}: {outputs:.1e}, {gradients:.1e}")
    return f"{case.label()}: outputs {outputs:.1e}, gradients {gradients:.1e}"


def measure(case: Case, budget: float) -> list[str]:
    """Rows of the table of a case."""
    runs: dict[str, Callable[[], object]] = {}
    for norm, dropout in SETTINGS:
        model = build(case, norm, dropout)
        runs[f"{norm}, {dropout}"] = Training(model, *batch_of(case, model)).step
    model = build(case, "groupbatch", 0.1)
    x, y = batch_of(case, model)
    runs["capture of both taps, groupbatch"] = lambda: captures(model, x, y, loss_reduction="mean")
    plain = build(case, "none", 0.0)
    runs["capture of both taps, none"] = lambda: captures(plain, x, y, loss_reduction="mean")
    slow = {"reference, groupbatch, 0.1": Training(GroupBatchReference(model, case.batch, 0.1), x, y).step}
    once = {name: min(seconds(run) for _ in range(3)) for name, run in (runs | slow).items()}
    rounds = max(5, min(40, int(budget / sum(once.values()))))
    times: dict[str, list[float]] = {name: [] for name in once}
    for turn in range(rounds):
        for name, run in (runs | slow).items():
            if name in slow and turn % 4:
                continue
            if once[name] < 1.0:
                run()  # warms the caches that the others have filled
            times[name].append(seconds(run))
    ms = {name: 1e3 * statistics.median(values) for name, values in times.items()}
    base, default = ms["none, 0.0"], ms["groupbatch, 0.1"]
    rows = []
    for name, value in ms.items():
        against = "-" if name not in slow else f"{value / default:.1f}x of groupbatch, 0.1"
        if name.startswith("capture"):
            against = f"{value / (base if name.endswith('none') else default):.2f}x of its step"
        rows.append(f"| {case.label()} | {name} | {value:.2f} | {value / base:.2f} | {against} |")
    return rows


def main() -> None:
    """Print the report as markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--keep-freed", action="store_true", help="call gsnn.nn.keep_freed_memory first (for both)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    kept = options.keep_freed and keep_freed_memory()
    print(
        f"PyTorch {torch.__version__}, {options.threads} threads, load {os.getloadavg()[0]:.1f} before, "
        f"freed memory {'kept' if kept else 'handed back'}\n"
    )
    cases = CASES[:2] if options.quick else CASES
    for case in cases[:2]:
        print(f"- {compare(case)}")
    print("\n| N / E / C / B | what | ms | of norm-free | against |\n|---|---|---|---|---|")
    for case in cases:
        for row in measure(case, 5.0 if options.quick else 60.0):
            print(row, flush=True)


if __name__ == "__main__":
    main()
