"""Tables of features that the scorer learns from: one file for each problem, made once.

    python benchmarks/learned/tables.py FOLDER [--part 0/2] [--quick]

Problems are made in turn over the families, so that a part of them is a fair one; a stopped run goes on where it was.
Of every fifth problem of a family all pairs are kept, to be ranked; of the others the hidden edges and up to 3,000
other pairs, half of them among those that ``combined`` ranks in its first twentieth, with weights that undo the choice.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gsnn.base.files import atomic_path
from gsnn.discovery.learned import AnsweredPairs, LearnedEdgeInferer, Scorer
from gsnn.discovery.learned.learn import N_OTHERS
from gsnn.training.early import SHARE
from learned.problems import COUNTS, problem
from recovery_methods import batches, settings_of, train_watched
from teachers import Problem

RANKED_EVERY = 5
# Features are asked for, no scores.
NOBODY = Scorer("", [], np.zeros((0, 0)))


def everything(quick: bool = False) -> Iterator[tuple[str, int]]:
    """Family and number of each problem; each family at its own pace."""
    counts = dict.fromkeys(COUNTS, 1) if quick else COUNTS
    found = [((k + 0.5) / count, family, k) for family, count in counts.items() for k in range(count)]
    for _, family, number in sorted(found):
        yield family, number


def inferred(made: Problem, seed: int) -> tuple[LearnedEdgeInferer, float]:
    """An inferer that has seen the samples, of a model read when most was learnt; and the fit on test samples."""
    settings = settings_of(made)
    (model, last), _ = train_watched(made, made.graph, seed, settings, (SHARE, 1.0))
    inferer = LearnedEdgeInferer(model, made.graph, scorer=NOBODY)
    inferer.fit(batches(made), verbose=False)
    with torch.no_grad():
        error = (torch.from_numpy(made.y_test) - last(torch.from_numpy(made.x_test))).square().mean()
    return inferer, float(error)


def table(family: str, number: int) -> dict[str, np.ndarray]:
    """Names, values (K, F), labels and weights of the pairs of a problem, and facts of it as JSON."""
    start = time.process_time()
    made, facts = problem(family, number)
    if len(made.hidden) < 2:
        raise ValueError(f"{family} #{number}: {len(made.hidden)} hidden edges could be found")
    inferer, error = inferred(made, number)
    ranked = number % RANKED_EVERY == 0
    pairs = AnsweredPairs.of(inferer, made.hidden, made.lost, n_others=None if ranked else N_OTHERS, seed=number)
    facts |= {
        "functions": made.graph.N,
        "edges": len(made.graph.function_edges),
        "outputs": made.y_train.shape[1],
        "hidden": int(pairs.label.sum()),
        "lost": len(made.lost),
        "ranked": ranked,
        "test_error": round(error, 4),
        "cpu_s": round(time.process_time() - start, 1),
    }
    return {
        "names": np.array(pairs.names),
        "values": pairs.values.astype(np.float16),
        "rows": pairs.rows,
        "label": pairs.label,
        "weight": pairs.weight.astype(np.float32),
        "facts": np.array(json.dumps(facts)),
    }


def main() -> None:
    """Make the tables that are missing."""
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--part", default="0/1", help="which share of the problems, such as 0/2 and 1/2")
    parser.add_argument("--problems", type=int, default=620, help="the first so many")
    parser.add_argument("--quick", action="store_true", help="one problem of each family")
    given = parser.parse_args()
    part, parts = map(int, given.part.split("/"))
    given.folder.mkdir(parents=True, exist_ok=True)
    for k, (family, number) in enumerate(islice(everything(given.quick), given.problems)):
        path = given.folder / f"{family}-{number:03d}.npz"
        left_out = path.with_suffix(".txt")
        if k % parts != part or path.exists() or left_out.exists():
            continue
        try:
            found = table(family, number)
        except (FileNotFoundError, ValueError) as error:
            left_out.write_text(f"{error}\n", encoding="utf-8")
            print(f"left out: {family} #{number}: {error}", file=sys.stderr, flush=True)
            continue
        with atomic_path(path) as new, open(new, "wb") as out:
            np.savez_compressed(out, **found)
        print(str(found["facts"]), file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
