"""How many samples, readouts and knock-outs does it take to find missing edges?

    python benchmarks/planning.py                      # all cells, about a minute each on one core
    python benchmarks/planning.py --table
    python benchmarks/planning.py --chart docs/_static/planning.svg

Teachers on published topologies (:mod:`teachers`), a tenth of their edges hidden. From a base of 500 samples, noise of
.3 of a readout's standard deviation, the transcription factors read and nothing knocked out, one thing is changed at a
time; then samples once more where every function is read and half of the samples have two knock-outs. A cell is one
training and every method on it, as in :mod:`combined`; finished cells stand in ``planning.csv`` and are not done again.
Nothing was chosen on these problems.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from cells import Rows, arguments, work
from charts import pyplot, save
from combined import REPORT_MORE, cell
from teachers import REPORT, Problem, realistic

RESULTS = Path(__file__).with_name("planning.csv")
KEY = ["family", "problem"]
PROBLEMS = (*REPORT, *REPORT_MORE)
METHODS = ("learned", "combined", "explained", "learned structure", "random")
TOPOLOGY = ["learned structure", "structure", "degree product", "common neighbours"]
FIGURES = {"auc": "AUC", "mrr": "MRR", "precision_at_k": "P@K", "auc_structure": "AUC, alike in structure"}


@dataclass(frozen=True)
class Design:
    """What is measured.

    Attributes:
        samples: How many.
        noise: In standard deviations of a readout.
        read: Share of the functions that are read; None: the transcription factors.
        knocked: Share of the samples with two knock-outs.
        by_evidence: Whether the edges with the fewest references are missing, not any.
    """

    samples: int = 500
    noise: float = 0.3
    read: float | None = None
    knocked: float = 0.0
    by_evidence: bool = False

    @property
    def name(self) -> str:
        """As it stands in the file."""
        readouts = "TFs" if self.read is None else f"{self.read:.0%}"
        missing = ", the least cited missing" if self.by_evidence else ""
        return (
            f"{self.samples} samples, noise {self.noise:g}, {readouts} read, knock-outs in {self.knocked:.0%}{missing}"
        )


BASE = Design()
PANELS: dict[str, list[tuple[str, Design]]] = {
    "Samples": [(str(n), Design(samples=n)) for n in (100, 250, 500, 1000, 4000)],
    "Noise (SDs of a readout)": [(f"{noise:g}", Design(noise=noise)) for noise in (0.0, 0.1, 0.3, 1.0)],
    "Functions read": [
        ("TFs only", BASE),
        *((f"{share:.0%}", Design(read=share)) for share in (0.25, 0.5, 1.0)),
    ],
    "Samples with knock-outs": [(f"{share:.0%}", Design(knocked=share)) for share in (0.0, 0.2, 0.5)],
    "Samples, all read, half with knock-outs": [
        (str(n), Design(samples=n, read=1.0, knocked=0.5)) for n in (100, 250, 500, 1000)
    ],
    "Missing edges": [("any", BASE), ("least cited", Design(by_evidence=True))],
}


def cells(n: int) -> Iterator[tuple[Design, str, int]]:
    """Designs and the first n problems: all designs of one problem before the next."""
    designs = list(dict.fromkeys(design for panel in PANELS.values() for _, design in panel))
    for name, seed in PROBLEMS[:n]:
        for design in designs:
            yield design, name, seed


def planned(design: Design, name: str, seed: int) -> tuple[tuple[str, str], Callable[[], Rows]]:
    """Family and problem as they stand in the file, and what gives the rows."""

    def make() -> Problem:
        return realistic(
            name,
            seed,
            n_train=design.samples,
            noise=design.noise,
            n_test=100,
            read=design.read,
            knocked=design.knocked,
            by_evidence=design.by_evidence,
        )

    label, problem = f"teacher, {design.name}", f"{name} #{seed}"
    return (label, problem), partial(cell, label, problem, seed, make)


def finished(path: Path) -> pd.DataFrame:
    """The rows of problems of which every design is done, so that designs are compared on the same problems."""
    done, designs = pd.read_csv(path), {f"teacher, {design.name}" for panel in PANELS.values() for _, design in panel}
    whole = done[done["family"].isin(designs)].groupby("problem")["family"].nunique() == len(designs)
    return done[done["problem"].isin(whole.index[whole])]


def gains(done: pd.DataFrame, design: Design, metric: str) -> np.ndarray:
    """``learned`` less the best ranking by topology, a value for each problem."""
    wide = done[done["family"] == f"teacher, {design.name}"].pivot_table(
        index="problem", columns="method", values=metric
    )
    if wide.empty:
        return np.zeros(0)
    return (wide["learned"] - wide[TOPOLOGY].max(axis=1)).to_numpy()


def table(path: Path) -> str:
    """Means over the problems, and what the data add to topology with a 95 % interval, as markdown."""
    done = finished(path)
    lines = []
    for panel, designs in PANELS.items():
        lines += ["", f"| {panel} | n | {' | '.join(METHODS)} | learned less topology: MRR | P@K |"]
        lines.append("|---|---|" + "---|" * (len(METHODS) + 2))
        for label, design in designs:
            rows = done[done["family"] == f"teacher, {design.name}"]
            if rows.empty:
                continue
            mean = rows.groupby("method").mean(numeric_only=True)
            texts = [" / ".join(f"{mean[metric].get(each, np.nan):.2f}" for metric in FIGURES) for each in METHODS]
            for metric in ("mrr", "precision_at_k"):
                gain = gains(done, design, metric)
                half = 1.96 * gain.std(ddof=1) / np.sqrt(len(gain)) if len(gain) > 1 else float("nan")
                texts.append(f"{gain.mean():+.3f} ± {half:.3f}")
            lines.append(f"| {label} | {rows['problem'].nunique()} | {' | '.join(texts)} |")
    return "\n".join([f"Each cell: {' / '.join(FIGURES.values())}", *lines])


def chart(path: Path, out: Path) -> None:
    """A panel for each thing that is changed: MRR, and the share of the first K that is missing (K edges are hidden).

    Bands are a standard error over the problems.
    """
    done = finished(path)
    shown = {"learned": "#1b6ca8", "explained": "#7fb069", "learned structure": "#888888", "random": "#cccccc"}
    plt = pyplot("planning")
    rows = {
        "mrr": "mean of 1 / rank\nwithin the target (MRR)",
        "precision_at_k": "share of the first K\nthat is missing",
    }
    figure, axes = plt.subplots(2, len(PANELS), figsize=(15, 5), sharex="col", sharey="row", constrained_layout=True)
    for line, (metric, name) in zip(axes, rows.items(), strict=True):
        for axis, designs in zip(line, PANELS.values(), strict=True):
            for method, colour in shown.items():
                values = [
                    done.loc[(done["family"] == f"teacher, {design.name}") & (done["method"] == method), metric]
                    for _, design in designs
                ]
                mean = np.array([each.mean() for each in values])
                half = np.array([each.std(ddof=1) / np.sqrt(max(len(each), 1)) for each in values])
                at = np.arange(len(designs))
                axis.plot(at, mean, color=colour, marker="o", markersize=3, label=method)
                axis.fill_between(at, mean - half, mean + half, color=colour, alpha=0.15, linewidth=0)
            axis.set_xticks(at, [label for label, _ in designs])
            axis.set_xlim(-0.3, len(designs) - 0.7)
        line[0].set_ylabel(name)
        line[0].set_ylim(0, None)
    for axis, panel in zip(axes[-1], PANELS, strict=True):
        axis.set_xlabel(panel.replace(", ", ",\n", 1))
    axes[0, -1].legend(frameon=False, fontsize=8, loc="upper right")
    save(figure, out)


def main() -> None:
    """Do the cells that are not in the file, then print the table."""
    parser = arguments(__doc__, RESULTS)
    parser.add_argument("--problems", type=int, default=len(PROBLEMS), help="the first so many")
    parser.add_argument("--chart", type=Path, help="draw what stands in the file")
    given = parser.parse_args()
    if given.chart:
        chart(given.results, given.chart)
        return
    if not given.table:
        shown = ["method", "auc", "mrr", "precision_at_k", "cpu_s"]
        work(given.results, KEY, (planned(*each) for each in cells(given.problems)), shown)
    print(table(given.results))


if __name__ == "__main__":
    main()
