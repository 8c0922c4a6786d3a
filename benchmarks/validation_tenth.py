"""What the validation tenth is worth: best weights, early stopping, or a tenth more to train on.

    python benchmarks/validation_tenth.py           # 3 data sets, 10 seeds, 5 arms: a quarter of an hour on one core
    python benchmarks/validation_tenth.py --quick   # one seed, few epochs: does it run?
    python benchmarks/validation_tenth.py --table   # of what stands in validation_tenth.csv

Every seed draws its own 70/10/20 split by condition, the same for all arms, and all arms start from the same weights;
all figures are of the test conditions, which no arm sees. ``now``: the last weights, the validation part watched and
not used. ``best``: the weights of the epoch with the lowest validation loss. ``stop``: training ends after 20 epochs
without a better one, last weights. ``stop best``: likewise, best weights. ``joined``: the validation part is trained
on. Ridge stands beside, fitted on the training part and on both.

Readouts are divided by their standard deviation outside the test part: R2 is 1 - total SSE / total SST over all
readouts, r Pearson's over all values around the readouts' own means, so that a constant reaches nothing. Differences
are paired by seed; the intervals are Student's over seeds. The splits of ten seeds overlap, so they are intervals for
these data and this procedure, not for other data of the kind.

The models of several seeds are trained as one model of as many copies of the graph, with nothing in common but the
steps of the optimiser; for a single seed that is ``gsnn.training.fit`` to the last digit shown. One training without
a stop shows four arms: the order of the samples and the dropout of an epoch follow from the seed and its number alone,
so a training that stops is the beginning of one that does not. Finished arms stand in ``validation_tenth.csv`` and are
not done again.

The demos come with the package ``caspo``; melanoma needs ``melanoma_cellbox`` in the folder named by GSNN_DATA and is
left out without it.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import nn
from torch.nn.utils import parametrize

from gsnn.base.files import atomic_path
from gsnn.data import PerturbationData, Standardiser, build_data
from gsnn.datasets import load_extliver, load_liverdream
from gsnn.graph import Graph
from gsnn.io import Responses, read_network
from gsnn.nn import GSNN
from gsnn.nn.losses import masked_mse
from gsnn.training import TrainConfig
from gsnn.training.baselines import RidgeBaseline, pooled_r2
from gsnn.training.loop import build_model
from gsnn.training.order import NOISE, Batches, derived_seed
from gsnn.training.plain import seed_generators

RESULTS = Path(__file__).with_name("validation_tenth.csv")
DATA = Path(os.environ.get("GSNN_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
SEEDS = range(10)
PATIENCE = 20
KINDS = ("input", "function", "output")
KEYS = ["data", "seed", "arm", "epochs"]
# The arms that one training without the validation part shows, then the one with it.
WATCHED, JOINED = ("now", "best", "stop", "stop best"), "joined"


class ForEach(nn.Module):
    """A parametrisation: one residual weight for each copy of a graph, spread over its edges.

    Args:
        copy: int64 (E,), the copy each edge belongs to.
    """

    def __init__(self, copy: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("copy", copy)

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """(K,) -> (E, 1)."""
        return weight[self.copy].unsqueeze(1)


def side_by_side(graph: Graph, copies: int) -> Graph:
    """K copies of a graph without an edge between them; nodes of a kind stand copy by copy."""
    names = {kind: [f"{k}|{n}" for k in range(copies) for n in graph.node_names_dict[kind]] for kind in KINDS}
    sizes = {kind: len(graph.node_names_dict[kind]) for kind in KINDS}
    edges = {}
    for (source, to, target), index in graph.edge_index_dict.items():
        step = torch.tensor([[sizes[source]], [sizes[target]]])
        edges[source, to, target] = torch.cat([torch.as_tensor(index) + k * step for k in range(copies)], dim=1)
    return Graph(edges, names)


def many_models(graph: Graph, copies: int, config: TrainConfig) -> GSNN:
    """K models as one: of K copies of the graph, each with weights, statistics and residual weights of its own."""
    model = build_model(lambda: GSNN.from_graph(side_by_side(graph, copies), **config.model_options()), config.seed)
    source = model.edge_index[0]
    inputs = source - model.N
    copy = torch.where(source < model.N, source // graph.N, inputs // graph.I)
    for block in model.blocks:
        block.residual_weight = nn.Parameter(torch.ones(copies))
        parametrize.register_parametrization(block, "residual_weight", ForEach(copy), unsafe=True)
    return model


def train_together(
    model: GSNN, parts: list[tuple[np.ndarray, np.ndarray]], watched: np.ndarray, config: TrainConfig, seeds: list[int]
) -> Iterator[np.ndarray]:
    """Train K models at once, as ``gsnn.training.train_model`` trains one but for the noise that is drawn.

    Args:
        model: What :func:`many_models` gave.
        parts: For each of them x (M, I) and y (M, O).
        watched: (K, M', I), to be predicted after every epoch.
        config: The settings.
        seeds: K, for the order of the samples.

    Yields:
        After every epoch the predictions (K, M', O).
    """
    copies, outputs = len(parts), parts[0][1].shape[1]
    orders = [
        Batches(*map(torch.as_tensor, part), config.batch_size, seed=seed)
        for part, seed in zip(parts, seeds, strict=True)
    ]
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    beside = torch.as_tensor(watched).transpose(0, 1).flatten(1)
    for epoch in range(config.epochs):
        for order in orders:
            order.epoch = epoch
        seed_generators(derived_seed(config.seed, NOISE, epoch), torch.device("cpu"))
        model.train()
        for batches in zip(*orders, strict=True):
            x, y = (torch.cat(values, dim=1) for values in zip(*batches, strict=True))
            optimizer.zero_grad()
            (masked_mse(model(x), y) * copies).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            yield model(beside).view(-1, copies, outputs).transpose(0, 1).double().numpy()


def melanoma(folder: Path) -> PerturbationData:
    """Melanoma cells under 12 drugs: each drug inhibits its target by its strength, each mapped antibody is a readout.

    Args:
        folder: Of the data set.
    """
    nodes = (folder / "node_Index.csv").read_text().split()
    strengths = pd.read_csv(folder / "pert.csv", header=None).set_axis(nodes, axis="columns").abs()
    levels = pd.read_csv(folder / "expr.csv", header=None).set_axis(nodes, axis="columns")
    labels = pd.read_csv(folder / "map.csv")
    drugs = labels[labels["effect"] == "inhibits"]
    antibodies = labels[labels["effect"] == "measures"]
    responses = Responses(
        strengths[drugs["label"]].set_axis([f"{name}i" for name in drugs["species"]], axis="columns"),
        levels[antibodies["label"]].set_axis(list(antibodies["species"]), axis="columns"),
    )
    return build_data(read_network(folder / "network.csv"), responses, on_unmatched="drop")


def sources() -> dict[str, Callable[[], PerturbationData]]:
    """The data sets that are here, by name."""
    found: dict[str, Callable[[], PerturbationData]] = {"liverdream": load_liverdream, "extliver": load_extliver}
    folder = DATA / "melanoma_cellbox"
    if folder.is_dir():
        found["melanoma"] = lambda: melanoma(folder)
    else:
        print(f"no melanoma data at {folder}; set GSNN_DATA to the folder that holds it", file=sys.stderr)
    return found


def figures(y: np.ndarray, prediction: np.ndarray, scale: np.ndarray) -> dict[str, float]:
    """R2 and r of test conditions.

    Args:
        y: (M, O) in the units of the data, NaN is missing.
        prediction: (M, O).
        scale: (O,) divides both.
    """
    y, prediction = y / scale, prediction / scale
    centred = y - np.nanmean(y, axis=0)
    around = prediction - np.nanmean(np.where(np.isnan(y), np.nan, prediction), axis=0)
    seen = ~np.isnan(y)
    return {"r2": pooled_r2(y, prediction), "r": float(np.corrcoef(centred[seen], around[seen])[0, 1])}


def measured(data: PerturbationData) -> PerturbationData:
    """The data, refused if a readout is constant or never measured, so that all can be divided by their deviation."""
    if not (np.nanstd(data.y, axis=0) > 0).all():
        raise ValueError("a readout does not vary; leave it out")
    return data


def run(data: PerturbationData, seeds: list[int], joined: bool, epochs: int) -> Iterator[dict[str, object]]:
    """A training for each seed, and the figures of every arm that they show, with ridge on the same samples.

    The parts of all seeds must have as many samples.
    """
    config = TrainConfig(seed=seeds[0], epochs=epochs)
    x, y = data.x, data.y.astype(np.float64)
    splits = [data.split(seed=seed, test=config.test, validation=config.validation) for seed in seeds]
    rests = [np.union1d(split.train, split.validation) for split in splits]
    rows = rests if joined else [split.train for split in splits]
    standardisers = [Standardiser.fit(data.y[part]) for part in rows]
    standard = [standardiser.transform(data.y).astype(np.float32) for standardiser in standardisers]
    parts = [(x[part], target[part]) for part, target in zip(rows, standard, strict=True)]
    watched = np.stack([x[np.concatenate([split.validation, split.test])] for split in splits])
    start = time.perf_counter()
    model = many_models(data.graph, len(seeds), config)
    predictions = np.stack(list(train_together(model, parts, watched, config, seeds)))
    seconds = (time.perf_counter() - start) / len(seeds)
    for k, (seed, split) in enumerate(zip(seeds, splits, strict=True)):
        test, n_watched = split.test, len(split.validation)
        losses = np.array([mean_square(found[k, :n_watched], standard[k][split.validation]) for found in predictions])
        scale = np.nanstd(y[rests[k]], axis=0)
        scale = np.where(scale > 0, scale, 1.0)
        ridge = figures(y[test], RidgeBaseline.fit(x[rows[k]], y[rows[k]]).predict(x[test]), scale)
        for arm, epoch in ({JOINED: epochs} if joined else epochs_kept(losses)).items():
            found = standardisers[k].inverse_transform(predictions[epoch - 1, k, n_watched:])
            yield {
                "data": "",
                "seed": seed,
                "arm": arm,
                "epochs": epochs,
                **figures(y[test], found, scale),
                **{f"ridge_{name}": value for name, value in ridge.items()},
                "kept_epoch": epoch,
                "n_train": len(rows[k]),
                "n_test": len(test),
                "seconds": round(seconds, 1),
                "date": date.today().isoformat(),
            }


def mean_square(prediction: np.ndarray, y: np.ndarray) -> float:
    """Over the observed values."""
    return float(np.nanmean((prediction - y) ** 2))


def epochs_kept(losses: np.ndarray) -> dict[str, int]:
    """The epoch (from 1) whose weights each arm has, from the validation losses of a training without a stop."""
    best, waited, stopped = 0, 0, len(losses)
    for epoch in range(1, len(losses)):
        best, waited = (epoch, 0) if losses[epoch] < losses[best] else (best, waited + 1)
        if waited == PATIENCE:
            stopped = epoch + 1
            break
    return {
        "now": len(losses),
        "best": int(np.argmin(losses)) + 1,
        "stop": stopped,
        "stop best": int(np.argmin(losses[:stopped])) + 1,
    }


def read(path: Path) -> pd.DataFrame:
    """What has been done."""
    return pd.read_csv(path) if path.is_file() else pd.DataFrame(columns=KEYS)


def study(path: Path, seeds: range, epochs: int, names: list[str]) -> None:
    """Do the trainings whose arms are not in the file yet, as many seeds at once as have parts of one size."""
    available = {name: measured(make()) for name, make in sources().items() if name in names}
    for (name, data), joined in itertools.product(available.items(), (False, True)):
        arm = JOINED if joined else WATCHED[0]
        done = set(read(path)[KEYS].itertuples(index=False, name=None))
        groups: dict[tuple[int, ...], list[int]] = {}
        for seed in seeds:
            if (name, seed, arm, epochs) not in done:
                split = data.split(seed=seed, test=TrainConfig.test, validation=TrainConfig.validation)
                groups.setdefault((len(split.train), len(split.validation), len(split.test)), []).append(seed)
        for group in groups.values():
            rows = pd.DataFrame(list(run(data, group, joined, epochs))).assign(data=name)
            with atomic_path(path) as target:
                before = read(path)
                (rows if before.empty else pd.concat([before, rows])).to_csv(target, index=False)
            seconds = rows["seconds"].sum() / rows["arm"].nunique()
            print(f"{name}, {arm}, seeds {group}: {seconds:.0f} s", file=sys.stderr)


def interval(differences: np.ndarray, level: float = 0.95) -> tuple[float, float, float]:
    """Mean of paired differences and Student's interval; NaN ends with fewer than two."""
    n, mean = len(differences), float(np.mean(differences))
    if n < 2:
        return mean, float("nan"), float("nan")
    half = float(stats.t.ppf((1 + level) / 2, n - 1) * np.std(differences, ddof=1) / np.sqrt(n))
    return mean, mean - half, mean + half


def table(rows: pd.DataFrame) -> str:
    """Markdown: a row per data set and arm with figures, and paired differences from ``now``."""
    lines = [
        "| data | arm | seeds | R2 | R2 - now (95 %) | r | r - now (95 %) | ridge R2 / r | kept epoch (median) |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, of_data in rows.groupby("data", sort=False):
        by_arm = {arm: part.set_index("seed") for arm, part in of_data.groupby("arm", sort=False)}
        for arm, part in by_arm.items():
            cells = []
            for figure in ("r2", "r"):
                cells.append(f"{part[figure].mean():.3f}")
                if arm == "now" or "now" not in by_arm:
                    cells.append("")
                else:
                    difference = (part[figure] - by_arm["now"][figure]).dropna().to_numpy()
                    cells.append("{:+.3f} ({:+.3f} to {:+.3f})".format(*interval(difference)))
            ridge = f"{part['ridge_r2'].mean():.3f} / {part['ridge_r'].mean():.3f}"
            kept = f"{part['kept_epoch'].median():.0f}"
            lines.append(f"| {name} | {arm} | {len(part)} | {' | '.join(cells)} | {ridge} | {kept} |")
    return "\n".join(lines)


def main() -> None:
    """Parse the command line, train, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed, two epochs, demos only, written nowhere kept")
    parser.add_argument("--table", action="store_true", help="print the table of what has been done")
    parser.add_argument("--data", nargs="+", default=["liverdream", "extliver", "melanoma"])
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    epochs, seeds, path = TrainConfig.epochs, SEEDS, arguments.out
    if arguments.quick:
        epochs, seeds, path = 2, range(1), path.with_suffix(".quick.csv")
        path.unlink(missing_ok=True)
    if not arguments.table:
        study(path, seeds, epochs, arguments.data)
    print(table(read(path)))
    if arguments.quick:
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
