"""Do the intervals of members hold what they say, and do their ranks find more hidden edges?

    python benchmarks/members.py coverage [--problems dag,nonlinear,extliver,liverdream] [--keep FOLDER]
    python benchmarks/members.py ranks [--keep FOLDER]
    python benchmarks/members.py coverage --quick      # does it run at all: one problem, 2 members, 3 epochs

``coverage``: every condition is left out once, in outer folds; a model and five members are trained on the others, and
the intervals are calibrated on what was out of the bag there. Counted is how many of the responses that were left out
lie in their 90 % interval. ``ranks``: hidden edges found by one model, and by the average of the ranks of five members,
both by ``gradient-explained``.
With ``--keep`` what is trained is kept, so that a stopped command goes on.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from gsnn.ask.agreement import average_ranks
from gsnn.ask.ensemble import calibrate
from gsnn.base.workers import arrays_in_processes
from gsnn.data import PerturbationData, Split
from gsnn.data.split import conditions
from gsnn.datasets import load_dataset
from gsnn.discovery import METHODS
from gsnn.edges.pairs import PriorEdges, ScoredPairs
from gsnn.nn.losses import masked_mse
from gsnn.training import TrainConfig, predict, train_model
from gsnn.training.members import train_member
from gsnn.training.prepare import prepare
from recovery_families import random_graph
from teachers import Problem

MEMBERS, LEVEL = 5, 0.9
METHOD = "gradient-explained"
QUICK = {"epochs": 3}
FOLDS = {"dag:1": 4, "nonlinear:2": 4, "extliver": 4, "liverdream": 8}
RANKED = (("dag", 1), ("nonlinear", 1), ("layered", 2), ("scale-free", 2), ("dag", 3), ("nonlinear", 4))

Arrays = dict[str, np.ndarray]


def table(problem: Problem) -> PerturbationData:
    """The samples of a problem as data."""
    x, y = (pd.DataFrame(values) for values in (problem.x_train, problem.y_train))
    graph = problem.graph
    return PerturbationData(graph, x.set_axis(list(graph.inputs), axis=1), y.set_axis(list(graph.outputs), axis=1))


def case(name: str) -> tuple[PerturbationData, TrainConfig]:
    """A demo with its usual settings, or a random family of 40 functions with 60 conditions and noise .3."""
    if ":" not in name:
        return load_dataset(name), TrainConfig()
    family, seed = name.split(":")
    return table(random_graph(family, int(seed), noise=0.3, n_train=60)), TrainConfig(layers=8)


def fold(data: PerturbationData, config: TrainConfig, test: np.ndarray, count: int) -> Arrays:
    """Train on all but some samples; what members and model predict for all of them, standardised."""
    rest = np.setdiff1d(np.arange(len(data)), test)
    made = prepare(data, config, Split(rest, np.zeros(0, np.int64), test, "condition"))
    members = [train_member(made, config, number) for number in range(1, count + 1)]
    train_model(made.model, made.train, None, config)
    times = np.ones((count, len(data)), np.int64)
    times[:, rest] = [member.times for member in members]
    return {
        "members": np.stack([predict(member.model, data.x) for member in members]),
        "early": np.stack([predict(member.early or member.model, data.x) for member in members]),
        "model": predict(made.model, data.x),
        "times": times,
        "y": np.asarray(made.standardiser.transform(data.y), np.float64),
        "test": test,
    }


def outer_folds(name: str, keep: Path, quick: bool = False) -> list[Arrays]:
    """Train each fold, or read what was kept."""
    file = keep / f"coverage-{name.replace(':', '-')}{'-quick' if quick else ''}.npz"
    n = FOLDS[name]
    if not file.is_file():
        data, config = case(name)
        config = replace(config, **QUICK) if quick else config
        condition = conditions(data.x)
        drawn = np.array_split(np.random.default_rng(5).permutation(condition.max() + 1), n)
        count = 2 if quick else MEMBERS
        jobs = [partial(fold, data, config, np.flatnonzero(np.isin(condition, part)), count) for part in drawn]
        done = list(arrays_in_processes(jobs, torch.get_num_threads()))
        np.savez(file, **{f"{k}-{key}": value for k, part in enumerate(done) for key, value in part.items()})
    with np.load(file) as kept:
        return [{key.split("-")[1]: kept[key] for key in kept if key.startswith(f"{k}-")} for k in range(n)]


def coverage(names: list[str], keep: Path, quick: bool = False) -> pd.DataFrame:
    """A row for each problem: share of left-out responses in their interval, its width, and mean squared errors."""
    rows = []
    for name in names:
        inside, width, errors = [], [], []
        for part in outer_folds(name, keep, quick):
            test, rest = part["test"], np.setdiff1d(np.arange(len(part["y"])), part["test"])
            known = calibrate(part["members"][:, rest], part["times"][:, rest], part["y"][rest])
            told, alone, y = part["members"][:, test], part["model"][test], part["y"][test]
            half = known.quantile(LEVEL) * known.raw(told.var(0, ddof=1), len(told))
            centres = told.mean(0), part["early"][:, test].mean(0), alone, (told.mean(0) + alone) / 2
            seen = np.isfinite(y)
            inside.append((np.abs(y - centres[-1]) <= half)[seen])
            width.append(2 * half[seen])
            errors.append(np.stack([(y - centre)[seen] ** 2 for centre in centres]))
        held = np.concatenate(inside)
        by_fold = [part.mean() for part in inside]
        row = {
            "problem": name,
            "values": len(held),
            "inside": held.mean(),
            "fewest": min(by_fold),
            "most": max(by_fold),
        }
        row["width"] = np.concatenate(width).mean()
        labels = ("members", "early weights", "model", "both")
        rows.append(row | dict(zip(labels, np.concatenate(errors, axis=1).mean(1), strict=True)))
    return pd.DataFrame(rows)


def scored(family: str, seed: int, quick: bool = False) -> Arrays:
    """Scores of all pairs by the model and by each member, with early weights."""
    problem = random_graph(family, seed, noise=0.3, n_train=200)
    data = table(problem)
    settings = problem.training | (QUICK if quick else {})
    config, rows, none = TrainConfig(**settings), np.arange(len(data)), np.zeros(0, np.int64)  # type: ignore[arg-type]
    made = prepare(data, config, Split(rows, none, none, "condition"))
    x, y = (torch.as_tensor(part) for part in made.train)
    method = METHODS[METHOD]

    def score(model: torch.nn.Module) -> np.ndarray:
        inferer = method.make(model, data.graph, {"train": None})
        inferer.fit([(x, y)], crit=masked_mse, verbose=False)
        return np.asarray(inferer.score_matrix(**method.options), np.float64)

    members = [train_member(made, config, number) for number in range(1, (2 if quick else MEMBERS) + 1)]
    done = train_model(made.model, made.train, None, config)
    return {
        "single": score(done.reading_model),
        "members": np.stack([score(member.early or member.model) for member in members]),
    }


def ranks(keep: Path, quick: bool = False) -> pd.DataFrame:
    """A row for each problem: hidden edges found by one model, by one member, and by the average of ranks."""
    from recovery_methods import measure

    wanted = RANKED[:1] if quick else RANKED
    files = {(family, seed): keep / f"ranks-{family}-{seed}{'-quick' if quick else ''}.npz" for family, seed in wanted}
    jobs = [key for key, file in files.items() if not file.is_file()]
    trained = arrays_in_processes([partial(scored, *key, quick) for key in jobs], torch.get_num_threads())
    for key, done in zip(jobs, trained, strict=True):
        np.savez(files[key], **done)
    rows = []
    for (family, seed), file in files.items():
        problem = random_graph(family, seed, noise=0.3, n_train=200)
        with np.load(file) as kept:
            single, members = kept["single"], kept["members"]
        prior = PriorEdges(problem.graph)
        ways = {"model": single, "member": members[0]}
        ways["members"] = average_ranks([ScoredPairs(prior, score) for score in members]).score
        ways["mean score"] = (members / np.nanstd(members, axis=(1, 2), keepdims=True)).mean(0)
        for way, score in ways.items():
            found = measure(problem, score)
            rows.append({"problem": problem.name, "way": way, **{key: found[key] for key in ("auc", "aupr", "mrr")}})
    return pd.DataFrame(rows)


def main() -> None:
    """Run one of the two, and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("coverage", "ranks"))
    parser.add_argument("--problems", default=",".join(FOLDS))
    parser.add_argument("--quick", action="store_true", help="to see that it runs: one problem, 2 members, 3 epochs")
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        keep = given.keep or Path(folder)
        keep.mkdir(parents=True, exist_ok=True)
        if given.what == "coverage":
            names = given.problems.split(",")
            print(coverage(names[: 1 if given.quick else None], keep, given.quick).round(3).to_string(index=False))
            return
        found = ranks(keep, given.quick)
        print(found.pivot(index="problem", columns="way", values="mrr").round(3).to_string())
        print(found.groupby("way", sort=False)[["auc", "aupr", "mrr"]].mean().round(3).to_string())


if __name__ == "__main__":
    main()
