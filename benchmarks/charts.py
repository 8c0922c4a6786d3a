"""What the charts of the benchmarks share: the style, and files that are the same bits each time they are drawn."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from matplotlib.figure import Figure

from gsnn.base.files import atomic_path


def pyplot(name: str) -> ModuleType:
    """Matplotlib's pyplot, without a screen, in the style of the charts; ``name`` fixes the ids in an SVG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    svg = {"svg.hashsalt": name, "svg.fonttype": "none"}
    plt.rcParams.update({**svg, "font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    return plt


def save(figure: Figure, out: Path) -> None:
    """Write a figure in one step, in the format of the extension, an SVG without its date."""
    with atomic_path(out) as new:
        figure.savefig(new, format=out.suffix[1:], metadata={"Date": None} if out.suffix == ".svg" else None)
