"""Melanoma cells under drugs (Korkut et al., eLife 4, 2015), from the files of CellBox (MIT), as gsnn reads them.

The folder holds CellBox's ``expr.csv``, ``expr_index.txt``, ``pert.csv`` and ``node_Index.csv``, a ``network.csv`` of
edges between proteins (source, target, effect) and a ``map.csv`` of labels (label, species, effect). None of it is
part of this package.

    python benchmarks/melanoma.py FOLDER -o melanoma   # network.csv, inputs.csv, outputs.csv, names.csv
    python benchmarks/melanoma.py FOLDER --doses       # what ridge regression makes of doses written in several ways
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from gsnn.io.name_map import Scale
from gsnn.training.baselines import RidgeBaseline, pooled_r2

DRUGS = 12  # the last columns of pert.csv
FOLDS = 5


@dataclass(frozen=True, eq=False)
class Melanoma:
    """What the folder holds.

    Attributes:
        doses: (89, 12) micromolar, a column a drug, 0 where it was not given.
        readouts: (89, O) log2 responses of the antibodies whose protein the network has.
        network: Columns source, target, effect.
        names: Columns label, species, effect.
    """

    doses: pd.DataFrame
    readouts: pd.DataFrame
    network: pd.DataFrame
    names: pd.DataFrame


def read(folder: Path) -> Melanoma:
    """Read the files; the codes of drugs (``901|1.5,PLX|60``) are resolved by the conditions with one drug."""
    nodes = [line.strip() for line in (folder / "node_Index.csv").read_text().splitlines() if line.strip()]
    given = pd.read_csv(folder / "pert.csv", header=None).to_numpy()[:, -DRUGS:] != 0
    labels = [line.split()[0] for line in (folder / "expr_index.txt").read_text().splitlines() if line.strip()]
    conditions = [dict(part.split("|") for part in label.split(",")) for label in labels]
    drug_of = {
        next(iter(parts)): nodes[-DRUGS + int(np.flatnonzero(row)[0])]
        for parts, row in zip(conditions, given, strict=True)
        if len(parts) == 1
    }
    rows = [{drug_of[code]: float(dose) for code, dose in parts.items()} for parts in conditions]
    samples = pd.Index([f"c{i}" for i in range(len(rows))], name="sample")
    doses = pd.DataFrame(rows, samples, columns=nodes[-DRUGS:]).fillna(0.0)
    network, names = pd.read_csv(folder / "network.csv"), pd.read_csv(folder / "map.csv")
    species = {*network["source"], *network["target"]}
    antibodies = names[(names["effect"] == "measures") & names["species"].isin(species)]["label"].tolist()
    values = pd.read_csv(folder / "expr.csv", header=None).to_numpy()
    readouts = pd.DataFrame(values[:, [nodes.index(name) for name in antibodies]], samples, columns=antibodies)
    kept = names["label"].isin([*doses.columns, *antibodies])
    return Melanoma(doses, readouts, network, names[kept])


def ways(doses: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[np.float64]]:
    """The doses (M, I) as they may be written: one for a whole combination, or one for each component on a scale."""
    on = (doses != 0).astype(float)
    found = {
        "the larger dose for both components": on * doses.max(axis=1, keepdims=True),
        "the sum of doses for both components": on * doses.sum(axis=1, keepdims=True),
        "a dose for each component, micromolar": doses,
    }
    for kind in ("log", "sqrt"):
        columns = [Scale(kind).of(column).apply(column) for column in doses.T]
        found[f"a dose for each component, {kind}"] = np.stack(columns, axis=1)
    return found


def ridge_r2(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], seed: int = 0) -> float:
    """Pooled R2 of ridge regression on conditions that were left out, in 5 folds; readouts standardised by the rest."""
    fold = np.random.default_rng(seed).permutation(len(x)) % FOLDS
    found = []
    for k in range(FOLDS):
        out = fold == k
        mean, scale = y[~out].mean(0), y[~out].std(0)
        predicted = RidgeBaseline.fit(x[~out], (y[~out] - mean) / scale).predict(x[out])
        found.append(pooled_r2((y[out] - mean) / scale, predicted))
    return float(np.mean(found))


def main() -> None:
    """Write the files, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--out", type=Path)
    parser.add_argument("--doses", action="store_true")
    given = parser.parse_args()
    data = read(given.folder)
    if given.doses:
        x, y = data.doses.to_numpy(), data.readouts.to_numpy()
        print("| doses | R2 of ridge |\n|---|---|")
        for name, written in ways(x).items():
            print(f"| {name} | {np.mean([ridge_r2(written, y, seed) for seed in range(5)]):.3f} |")
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        data.network.to_csv(given.out / "network.csv", index=False)
        data.doses.to_csv(given.out / "inputs.csv")
        data.readouts.to_csv(given.out / "outputs.csv")
        scale = np.where(data.names["effect"] == "measures", "", "log")
        data.names.assign(scale=scale).to_csv(given.out / "names.csv", index=False)


if __name__ == "__main__":
    main()
