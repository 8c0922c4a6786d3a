"""Draw the pictures of the page on concepts.

    python docs/figures/concepts.py     # writes docs/_static/concept-*.svg, about 2 s

They are drawings, not results: nothing is trained or measured. Ink is dark on a transparent ground; the style sheet of
the site turns the lightness around where the theme is dark.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch

OUT = Path(__file__).resolve().parents[1] / "_static"
INK, GREY, FOUND, CREDIT = "#202124", "#80868b", "#c2410c", "#1f6f8b"
SHAPE = {"input": ("s", 30), "function": ("o", 35), "output": ("D", 30)}  # marker and its size in points
Place = tuple[float, float]


def node(ax: plt.Axes, place: Place, label: str, kind: str = "function", colour: str = INK) -> None:
    """A node with its name in it."""
    marker, size = SHAPE[kind]
    ax.plot(*place, marker, ms=size, mfc="white", mec=colour, mew=1.4, zorder=3)
    ax.text(*place, label, ha="center", va="center", fontsize=9.5, color=INK, zorder=4)


def arrow(ax: plt.Axes, start: Place, end: Place, colour: str = GREY, shrink: float = 19, **style: object) -> None:
    """An edge."""
    props = {"arrowstyle": "-|>", "shrinkA": shrink, "shrinkB": shrink, "color": colour, "lw": 1.4, **style}
    ax.annotate("", end, start, arrowprops={"mutation_scale": 12, **props})


def panel(width: float, height: float, columns: int = 1) -> tuple[plt.Figure, list[plt.Axes]]:
    """A figure of bare axes in data units of an inch."""
    figure, axes = plt.subplots(1, columns, figsize=(width * columns, height), squeeze=False, layout="constrained")
    for ax in axes[0]:
        ax.set_axis_off()
        ax.set_xlim(0, width)
        ax.set_ylim(0, height)
    return figure, list(axes[0])


def save(figure: plt.Figure, name: str) -> None:
    """Write it without a date, so that the same picture gives the same file."""
    figure.savefig(OUT / f"concept-{name}.svg", metadata={"Date": None}, transparent=True)
    plt.close(figure)


def draw_graph() -> None:
    """Three kinds of node, three kinds of edge."""
    figure, (ax,) = panel(7.2, 2.7)
    place = {
        "drug": (0.6, 1.9),
        "EGF": (0.6, 0.7),
        "RAF": (2.6, 1.9),
        "EGFR": (2.6, 0.7),
        "ERK": (4.4, 1.9),
        "AKT": (4.4, 0.7),
        "p-ERK": (6.4, 1.9),
        "p-AKT": (6.4, 0.7),
    }
    for start, end in (
        ("drug", "RAF"),
        ("EGF", "EGFR"),
        ("EGFR", "RAF"),
        ("RAF", "ERK"),
        ("EGFR", "AKT"),
        ("ERK", "p-ERK"),
        ("AKT", "p-AKT"),
    ):
        arrow(ax, place[start], place[end])
    arrow(ax, place["AKT"], place["ERK"], FOUND, linestyle=(0, (4, 3)))
    ax.text(4.55, 1.3, "missing?", color=FOUND, fontsize=10, va="center")
    for name, at in place.items():
        node(ax, at, name.replace("p-", "p-\n"), "input" if at[0] < 1 else "output" if at[0] > 6 else "function")
    for x, title in ((0.6, "inputs"), (3.5, "function nodes"), (6.4, "outputs")):
        ax.text(x, 2.55, title, ha="center", fontsize=10.5, weight="bold", color=INK)
    for x, note in ((0.6, "what was done"), (3.5, "proteins, genes: not seen"), (6.4, "what was measured")):
        ax.text(x, 0.12, note, ha="center", fontsize=9.5, color=INK)
    save(figure, "graph")


def draw_blocks() -> None:
    """Activations go forward, gradients backward; where both meet, an edge may be missing."""
    figure, (ax,) = panel(7.2, 3.3)
    for x, title in ((1.7, "block n − 1"), (5.3, "block n")):
        box = FancyBboxPatch(
            (x - 1.0, 0.45), 2.0, 2.3, boxstyle="round,pad=0.05,rounding_size=0.12", fc="none", ec=GREY
        )
        ax.add_patch(box)
        ax.text(x, 3.0, title, ha="center", fontsize=10.5, weight="bold", color=INK)
    left, right = {"i": (1.7, 2.2), "k": (1.7, 1.0)}, {"i": (5.3, 2.2), "j": (5.3, 1.0)}
    arrow(ax, left["k"], right["j"])
    ax.text(3.5, 0.78, "known edge", ha="center", fontsize=9.5, color=INK)
    arrow(ax, left["i"], right["j"], FOUND, linestyle=(0, (4, 3)))
    ax.text(3.62, 1.78, "not in the model", ha="center", fontsize=9.5, color=FOUND, rotation=-18)
    arrow(ax, left["i"], right["i"])
    for name, at in (*left.items(), *right.items()):
        node(ax, at, name)
    arrow(ax, (0.05, 2.2), (1.35, 2.2), INK, shrink=0, lw=2)
    arrow(ax, (7.15, 1.0), (5.65, 1.0), CREDIT, shrink=0, lw=2)
    ax.text(0.0, 2.52, "signal →", fontsize=9.5, color=INK)
    ax.text(7.2, 0.68, "← error", fontsize=9.5, color=CREDIT, ha="right")
    ax.text(1.7, 0.12, "activation of i: what i does", ha="center", fontsize=9.5, color=INK)
    ax.text(5.3, 0.12, "gradient at j: what j gets wrong", ha="center", fontsize=9.5, color=CREDIT)
    save(figure, "blocks")


def draw_aliases() -> None:
    """Two candidates that no data of this design can tell apart."""
    figure, axes = panel(3.5, 2.6, columns=2)
    place = {"EGF": (0.4, 1.9), "a": (1.4, 1.9), "b": (2.4, 1.9), "TNF": (0.4, 0.6), "c": (1.4, 0.6), "y": (2.8, 0.6)}
    for ax, start in zip(axes, ("a", "b"), strict=True):
        for known in (("EGF", "a"), ("a", "b"), ("TNF", "c"), ("c", "y")):
            arrow(ax, place[known[0]], place[known[1]])
        arrow(ax, place[start], place["c"], FOUND, linestyle=(0, (4, 3)))
        for name, at in place.items():
            node(ax, at, name, "input" if name.isupper() else "output" if name == "y" else "function")
        ax.text(1.65, 2.45, f"is it {start} → c?", ha="center", fontsize=10.5, weight="bold", color=INK)
    save(figure, "aliases")


def main() -> None:
    """Draw all of them."""
    plt.switch_backend("svg")
    plt.rcParams["svg.hashsalt"] = "gsnn"
    draw_graph()
    draw_blocks()
    draw_aliases()


if __name__ == "__main__":
    main()
