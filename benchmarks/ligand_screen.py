"""The ligand screen of macrophages: how well a model on the network fits, beside what knows no network.

Needs the data set ``lembas_ligandscreen`` in the folder named by GSNN_DATA. Prints a table in Markdown: per seed the
correlation r over all held-out values (a fifth of the 103 conditions) of the model, of ridge regression on the ligands
and of the group mean (with or without LPS), and the same baselines with every condition left out once.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from gsnn.data import PerturbationData, build_data
from gsnn.io import read_network, read_responses
from gsnn.runs.train import train_files

DATA = Path(os.environ.get("GSNN_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
NAMES = ("model", "ridge", "group mean", "mean")


def files() -> dict[str, Path]:
    """Network, treatments and readouts, by the names that ``train_files`` has for them."""
    parts = {"graph": "Model", "inputs": "Ligands", "outputs": "TFs"}
    return {role: DATA / "lembas_ligandscreen" / f"ligandScreen-{part}.tsv" for role, part in parts.items()}


def load() -> PerturbationData:
    """The data in memory."""
    named = files()
    responses = read_responses(inputs=named["inputs"], outputs=named["outputs"])
    return build_data(read_network(named["graph"]), responses)


def main() -> None:
    """Train once per seed and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--norm", default="layer")
    arguments = parser.parse_args()
    print(f"{arguments.epochs} epochs, norm {arguments.norm}, else the defaults\n")
    print("| seed | " + " | ".join(f"{name}, r" for name in NAMES) + " | model, R2 | ridge, R2 | seconds |")
    print("|---" * (len(NAMES) + 4) + "|")
    left_out: dict[str, float] = {}
    for seed in arguments.seeds:
        settings = {"epochs": arguments.epochs, "norm": arguments.norm, "seed": seed}
        with tempfile.TemporaryDirectory() as place:
            run, result = train_files(Path(place, "run"), **files(), settings=settings)
            seconds = run.info["training"]["seconds"]
        fit = result.report
        r = [f"{fit.correlation[name]:.3f}" for name in NAMES]
        r2 = [f"{fit.summary['pooled_r2'][name]:.3f}" for name in ("model", "ridge")]
        print(f"| {seed} | " + " | ".join([*r, *r2, f"{seconds:.0f}"]) + " |", flush=True)
        left_out = fit.left_out
    shown = ", ".join(f"{name} {left_out[name]:.3f}" for name in NAMES[1:])
    print(f"\nEvery condition left out once ({left_out['folds']:.0f} folds), r: {shown}")


if __name__ == "__main__":
    main()
