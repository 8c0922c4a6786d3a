"""What the learnt scorer gains on families that it has not seen, and the scorer itself.

    python benchmarks/learned/study.py FOLDER              # each family left out in turn
    python benchmarks/learned/study.py FOLDER --write      # learn from all, into the package

``FOLDER`` holds the tables of ``tables.py``. A family is left out whole: the scorer learns from the other families and
ranks the problems of this one that were kept for ranking. Beside it stand ``combined``, ``explained`` (above chance),
and structure alone: the best of the learnt structure and the product of degrees.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from scipy.stats import rankdata

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cells import add, is_done
from gsnn.discovery.learned.features import OF_DATA
from gsnn.discovery.learned.learn import AnsweredPairs, learn
from gsnn.discovery.learned.scorer import Scorer

RESULTS = Path(__file__).with_name("study.csv")
SHIPPED = Path(__file__).resolve().parents[2] / "src/gsnn/discovery/learned"
# Features that stand for the methods that are shown beside the scorer.
BESIDE = {
    "combined": "combined_log",
    "explained": "above_chance_log",
    "likely": "likely_log",
    "structure": "structure_log",
    "degree product": "degree_product",
}
FIGURES = ("auc", "mrr", "precision_at_k")


@dataclass(frozen=True)
class Table:
    """A problem of ``tables.py``."""

    pairs: AnsweredPairs
    facts: Mapping[str, object]

    @property
    def family(self) -> str:
        """Its family."""
        return str(self.facts["family"])

    @property
    def n(self) -> int:
        """Functions."""
        return int(str(self.facts["functions"]))


def read(path: Path) -> Table:
    """A table from its file."""
    with np.load(path) as held:
        pairs = AnsweredPairs(*(held[key] for key in ("names", "values", "label", "weight", "rows")))
        return Table(replace(pairs, names=pairs.names.tolist()), json.loads(str(held["facts"])))


def measured(table: Table, score: np.ndarray) -> dict[str, float]:
    """AUC over all pairs, MRR of the hidden edges within their targets, and precision at as many as are hidden."""
    label = table.pairs.label
    ranks = rankdata(score)
    k, others = int(label.sum()), int((~label).sum())
    auc = (ranks[label].sum() - k * (k + 1) / 2) / (k * others)
    target = table.pairs.rows % table.n
    reciprocal = []
    for row in np.flatnonzero(label):
        rivals = score[(target == target[row]) & ~label]
        reciprocal.append(1 / (1 + (rivals > score[row]).sum() + 0.5 * (rivals == score[row]).sum()))
    best = np.argsort(-score, kind="stable")[:k]
    return {"auc": float(auc), "mrr": float(np.mean(reciprocal)), "precision_at_k": float(label[best].mean())}


def methods(table: Table, able: Mapping[str, Ranks]) -> dict[str, np.ndarray]:
    """Scores of the pairs of a table."""
    pairs = table.pairs
    place = {name: k for k, name in enumerate(pairs.names)}
    found = {name: pairs.values[:, place[feature]].astype(np.float64) for name, feature in BESIDE.items()}
    for name, ranks in able.items():
        found[name] = ranks.log_odds(pairs.names, pairs.values.astype(np.float32), pairs.rows, table.n)
    return found


def thinned(table: Table, most: int = 1000) -> Table:
    """At most so many other pairs of a problem, with weights that undo the choice."""
    pairs = table.pairs
    others = np.flatnonzero(~pairs.label)
    if len(others) <= most:
        return table
    drawn = np.random.default_rng(0).permutation(others)[:most]
    kept = np.concatenate([np.flatnonzero(pairs.label), drawn])
    weight = pairs.weight[kept] * np.where(pairs.label[kept], 1.0, len(others) / len(drawn))
    return replace(table, pairs=AnsweredPairs(pairs.names, pairs.values[kept], pairs.label[kept], weight))


class Ranks(Protocol):
    """What ranks the pairs of a problem: a scorer, or whatever is compared with it."""

    def log_odds(self, names: Sequence[str], values: np.ndarray, rows: np.ndarray, n: int) -> np.ndarray:
        """(K,) scores of pairs i * n + j."""


class Trees:
    """A scorer, which looks at each pair alone."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer

    def log_odds(self, names: Sequence[str], values: np.ndarray, rows: np.ndarray, n: int) -> np.ndarray:
        """(K,) scores of pairs."""
        return self.scorer.log_odds(names, values)


def left_out(
    paths: Sequence[Path],
    made: Mapping[str, Callable[[list[Table]], Ranks]],
    families: Sequence[str] = (),
    share: Callable[[Table], Table] = lambda table: table,
) -> pd.DataFrame:
    """The figures of every method on the ranked problems of each family, by what has not seen it.

    ``share`` is what is kept of a table to learn from.
    """
    tables = [share(read(path)) for path in paths]
    rows = []
    for family in families or sorted({table.family for table in tables}):
        able = {name: make([table for table in tables if table.family != family]) for name, make in made.items()}
        for path, kept in zip(paths, tables, strict=True):
            if kept.family != family or not kept.facts["ranked"]:
                continue
            table = read(path)
            facts = {key: table.facts[key] for key in ("family", "number", "permuted", "functions", "samples", "noise")}
            for method, score in methods(table, able).items():
                row = {**facts, "method": method, **measured(table, score)}
                if isinstance(ranks := able.get(method), Trees):
                    row["distance"] = ranks.scorer.distance(table.pairs.names, table.pairs.values.astype(np.float32))
                rows.append(row)
        print(text(pd.DataFrame(rows), family), file=sys.stderr, flush=True)
    return pd.DataFrame(rows)


def text(found: pd.DataFrame, family: str) -> str:
    """One line of a family."""
    its = found[(found["family"] == family) & ~found["permuted"].astype(bool)]
    mean = its.groupby("method", sort=False)[list(FIGURES)].mean()
    parts = [
        f"{name} {' '.join(f'{value:.3f}' for value in row)}"
        for name, row in zip(mean.index, mean.to_numpy(), strict=True)
    ]
    return f"{family} ({its['number'].nunique()}): " + "; ".join(parts)


def summary(found: pd.DataFrame, learned: str = "learned") -> str:
    """Means and paired gains by family, as markdown."""
    lines = [
        f"| family | n | {' | '.join(found['method'].unique())} | over structure: MRR, P@K | over combined: MRR, P@K | "
        "over explained: MRR, P@K |"
    ]
    lines.append("|---|---|" + "---|" * (found["method"].nunique() + 3))
    found = found.assign(family=np.where(found["permuted"].astype(bool), "permuted", found["family"]))
    groups = [*found.groupby("family", sort=False)]
    groups.append(("all", found[found["family"] != "permuted"]))
    for family, rows in groups:
        mean = rows.groupby("method", sort=False).mean(numeric_only=True)
        texts = [" / ".join(f"{mean.loc[name, metric]:.2f}" for metric in FIGURES) for name in found["method"].unique()]
        wide = {metric: rows.assign(problem=rows["family"] + rows["number"].astype(str)).pivot_table(
            index="problem", columns="method", values=metric) for metric in FIGURES}  # fmt: skip
        for others in (["learned, topology only", "structure", "degree product"], ["combined"], ["explained"]):
            parts = []
            for metric in FIGURES[1:]:
                gain = wide[metric][learned] - wide[metric].filter(items=others).max(axis=1)
                half = 1.96 * gain.std(ddof=1) / np.sqrt(len(gain)) if len(gain) > 1 else np.nan
                parts.append(f"{gain.mean():+.3f} ± {half:.3f}")
            texts.append(", ".join(parts))
        lines.append(f"| {family} | {len(wide['mrr'])} | " + " | ".join(texts) + " |")
    return "\n".join(lines)


def main() -> None:
    """Leave out families, or learn from all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--families", nargs="*", help="only these")
    parser.add_argument("--table", action="store_true", help="only print what is done")
    parser.add_argument("--write", type=Path, nargs="?", const=SHIPPED, help="learn from all problems and write it")
    given = parser.parse_args()
    if given.table:
        print(summary(pd.read_csv(given.results)))
        return
    paths = sorted(given.folder.glob("*.npz"))

    def trees(tables: list[Table], **options: Any) -> Scorer:
        return learn([table.pairs for table in tables], num_threads=given.threads, **options)

    if given.write:
        tables = [thinned(read(path), 2000) for path in paths]
        families = pd.Series([table.family for table in tables]).value_counts().to_dict()
        card = {"made": date.today().isoformat(), "problems": families}
        trees(tables, card=card).save(given.write / "scorer.json")
        control = trees(tables, card=card, leave_out=OF_DATA)
        replace(control, figures=control.figures[:0]).save(given.write / "structure.json")
        return
    made: dict[str, Callable[[list[Table]], Ranks]] = {
        "learned": lambda tables: Trees(trees(tables)),
        "learned, topology only": lambda tables: Trees(trees(tables, leave_out=OF_DATA)),
    }
    for family in given.families or sorted({path.name.rsplit("-", 1)[0] for path in paths}):
        if is_done(given.results, ["family"], [family]):
            continue
        found = left_out(paths, made, [family], share=thinned)
        add(given.results, found.assign(date=date.today().isoformat()).round(5))
    print(summary(pd.read_csv(given.results)))


if __name__ == "__main__":
    main()
