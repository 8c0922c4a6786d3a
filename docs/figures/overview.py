"""Draw the picture of the README: a benchmark network, what was hidden from the model, and what it found.

    python docs/figures/overview.py     # writes docs/_static/overview.svg, about 20 s

Everything in it is computed: data are simulated on the full graph, a GSNN is trained on the partial one, and the best
candidates of the magnitude inferer, one per target, are drawn.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import torch

from gsnn.edges import MagnitudeEdgeInferer

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "benchmarks"))
from settings import Setting, build, loader, problem, train  # noqa: E402 - found through the line above

N = 7
GREY, FOUND, WRONG, MISSED = "#9aa0a6", "#d9541e", "#e8a87c", "#1f6f8b"


def positions() -> dict[str, tuple[float, float]]:
    """Inputs, two tiers, sink and outputs from left to right."""
    place = {f"in{k}": (0.0, -k) for k in range(N)} | {f"f{k}": (1.4, -k) for k in range(N)}
    place |= {f"f{N + k}": (3.1, -k - 0.5) for k in range(N - 1)}
    place[f"f{2 * N - 1}"] = (4.8, -(N - 1) / 2)
    return place


def main() -> None:
    """Train, infer, draw."""
    torch.set_num_threads(1)
    plt.switch_backend("svg")
    plt.rcParams["svg.hashsalt"] = "gsnn"  # the same picture gives the same file
    setting = Setting(n=N, noise=0.15, norm="groupbatch", lr=3e-3, epochs=20)
    data = problem(setting, seed=0)
    model = build(setting, data.graph, seed=0)
    for _ in train(model, data, setting, seed=0):
        pass
    inferer = MagnitudeEdgeInferer(model, data.graph)
    inferer.fit(loader(data, setting, shuffle=False), verbose=False)
    best = inferer.top_edges(len(data.held), per_target=1, layer_agg="mean0")
    proposed = list(zip(best["src_func"], best["dst_func"], strict=True))
    hidden, place = set(data.held), positions()

    figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    for ax, title in zip(axes, ("prior network (dashed: hidden from it)", "proposed by the model"), strict=True):
        ax.set_title(title, fontsize=11)
        ax.set_axis_off()

        def arrow(pair: tuple[str, str], ax: plt.Axes = ax, **style: object) -> None:
            ax.annotate(
                "",
                place[pair[1]],
                place[pair[0]],
                arrowprops={"arrowstyle": "-|>", "shrinkA": 7, "shrinkB": 7, "mutation_scale": 9, **style},
            )

        for k in range(N):
            arrow((f"in{k}", f"f{k}"), color=GREY, lw=0.9)
        for pair in data.kept:
            arrow(pair, color=GREY, lw=0.9)
        if ax is axes[0]:
            for pair in hidden:
                arrow(pair, color=MISSED, lw=1.1, linestyle=(0, (4, 3)))
        else:
            for pair in proposed:
                arrow(pair, color=FOUND if pair in hidden else WRONG, lw=1.8 if pair in hidden else 1.2)
        for name, (px, py) in place.items():
            shape = "s" if name.startswith("in") else "o"
            ax.plot(px, py, shape, ms=9, mfc="white", mec="#3c4043", mew=1.1)
    hits = sum(pair in hidden for pair in proposed)
    axes[1].set_title(f"proposed by the model: {hits} of {len(proposed)} are true (dark)", fontsize=11)
    out = HERE.parent / "_static" / "overview.svg"
    figure.savefig(out, metadata={"Date": None}, facecolor="white")
    print(f"{out.name}: {hits} of {len(proposed)} proposed edges are hidden true ones")


if __name__ == "__main__":
    main()
