"""A report of a made-up run that looks like a real one."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pandas as pd
import pytest

from gsnn.discovery import SelfCheck
from gsnn.plot.check_tables import agreement, check_tables, method_ranks
from gsnn.plot.data import ReportData

# Every one of these is a legal node name and means something to HTML, JavaScript, plotly or rich.
HOSTILE = [
    "</script><script>document.title='owned'</script>",
    "<b>bold</b>",
    "\"quoted\" & 'single'",
    "__proto__",
    "constructor",
    "[bold]markup[/bold]",
    "a=b, c",
    "naïve ∂α→β",
    "{{ 7 * 7 }}",
    "%{x}",
    "${1}",
    "\\u003c",
    "1.5",
]


def make_report(n: int = 82, *, hostile: bool = True, seed: int = 0, n_edges: int | None = None) -> ReportData:
    """A report with ``n`` function nodes in a layered network with a few cycles."""
    rng = np.random.default_rng(seed)
    names = [f"K{i}" for i in range(n)]
    if hostile:
        names[3 : 3 + len(HOSTILE)] = HOSTILE
    order = [(a, b) for a in range(n) for b in range(a + 1, min(n, a + 14))]
    kept = rng.choice(len(order), size=int(1.4 * n), replace=False)
    pairs = [order[k] for k in kept] + [(n - 3, n // 2), (n // 2, n // 2)]
    network = pd.DataFrame(
        {
            "source": [names[a] for a, _ in pairs],
            "target": [names[b] for _, b in pairs],
            "sign": rng.choice([-1, 0, 1], size=len(pairs), p=[0.25, 0.1, 0.65]),
        }
    )
    graph = nx.DiGraph(zip(network["source"], network["target"], strict=True))
    others = [(a, b) for a in names for b in names if a != b and not graph.has_edge(a, b)]
    chosen = rng.permutation(len(others))[: n_edges or len(others)]
    score = np.sort(rng.beta(1, 6, len(chosen)))[::-1]
    p = np.where(score > 0.7, 1e-12, np.exp(-score * 9))
    edges = pd.DataFrame(
        {
            "source": [others[k][0] for k in chosen],
            "target": [others[k][1] for k in chosen],
            "score": score,
            "rank": np.arange(1, len(chosen) + 1),
            "p": p,
            "q": np.minimum(1, p * 3),
            "known": False,
        }
    )
    edges["expected_precision"] = np.minimum(0.6, 5 / edges["rank"])
    edges["precision_low"], edges["precision_high"] = edges["expected_precision"] / 2, edges["expected_precision"] * 1.5
    edges["precision_chance"] = 0.004
    edges.loc[edges["precision_high"] - edges["precision_low"] > 0.5, "expected_precision"] = np.nan
    edges["sign"] = rng.choice([-1, 0, 1], size=len(edges))
    edges["alias_group"] = rng.integers(0, len(edges) // 3 + 1, size=len(edges))
    edges["alias_size"] = edges.groupby("alias_group")["rank"].transform("size")
    edges["rank_other"] = rng.permutation(len(edges)) + 1.0
    undefined = ["score", "p", "q", *(name for name in edges.columns if "precision" in name)]
    edges.loc[edges.index[-5:], undefined] = np.nan
    old = pd.DataFrame({"source": network["source"], "target": network["target"], "known": True})
    old["score"] = rng.beta(1, 9, len(old))
    edges = pd.concat([edges, old], ignore_index=True)
    readouts = [names[k] for k in range(2, n, max(1, n // 15))]
    fit = pd.DataFrame(
        {
            "readout": readouts,
            "n": 13,
            "model": rng.uniform(0.2, 0.95, len(readouts)),
            "ridge": rng.uniform(0.1, 0.9, len(readouts)),
            "mean": -rng.uniform(0, 0.3, len(readouts)),
        }
    )
    fit.loc[1, ["model", "ridge", "mean"]] = [-3.0, np.nan, np.nan]
    observed = rng.normal(size=len(readouts) * 13)
    predictions = pd.DataFrame(
        {
            "readout": np.repeat(readouts, 13),
            "condition": [f"TGFa + MEK12i #{k}" for k in range(13)] * len(readouts),
            "observed": observed,
            "predicted": observed * 0.8 + rng.normal(scale=0.3, size=observed.size),
        }
    )
    epoch = np.arange(1, 151)
    history = pd.DataFrame(
        {
            "epoch": epoch,
            "train_loss": 0.9 * np.exp(-epoch / 30) + 0.1 + rng.uniform(0, 0.02, 150),
            "val_loss": 0.8 * np.exp(-epoch / 30) + 0.2 + rng.uniform(0, 0.05, 150),
        }
    )
    return ReportData(
        title="Edges missing from <the> network",
        config={"graph": "pkn.sif", "channels": 8, "seed": 0, "note": "</script>"},
        command="gsnn train --graph pkn.sif --data midas.csv -o runs/demo",
        summary={
            "function nodes": n,
            "inputs": 14,
            "readouts": 15,
            "known edges": len(pairs),
            "samples": 64,
            "noise": 0.25,
        },
        warnings=["output 'DV:<b>x</b>' cannot be reached from any input", "3 duplicated edges were collapsed"],
        history=history,
        fit=fit,
        pooled={"model": 0.77, "ridge": 0.73, "mean": -0.02},
        predictions=predictions,
        edges=edges,
        network=network,
        functions=names,
        treated={names[k]: [f"TR:{names[k]}"] for k in (0, 1, 2, 5, 20, 40) if k < n},
        measured={name: [f"DV:{name}"] for name in readouts},
        notes=["Split by condition: 45 / 6 / 13."],
        method="first",
        samples=45,
        check=check_tables(make_check(), "first"),
        agreement=agreement(method_ranks(edges[~edges["known"]], "first"), "candidates"),
        folder="runs/demo",
    )


def make_check(seed: int = 0, repeats: int = 2) -> SelfCheck:
    """A self-check of two methods, the first good and the second a guess, with one control."""
    rng = np.random.default_rng(seed)
    records = []
    for repeat in range(repeats):
        conditions = {}
        for condition in ("real", "permuted"):
            hidden = [[f"s{repeat}.{k}", f"t{k}"] for k in range(12)]
            methods = {}
            for name, good in (("first", condition == "real"), ("second", False)):
                share = rng.beta(8 if good else 1, 1, 12)
                figures = {"roc_auc": share.mean(), "average_precision": 0.1, "mrr": 0.2, "precision": 0.0}
                figures |= {"chance_average_precision": 12 / 412, "n_positives": 12, "n_negatives": 400}
                methods[name] = {
                    "by": "inferer",
                    "rank": (1 + 400 * (1 - share)).tolist(),
                    "placement": {"all": share.tolist(), "degree-matched": share.tolist()},
                    "negative_variance": {"all": 1e-4, "degree-matched": 1e-4},
                    "metrics": {"all": figures, "degree-matched": figures},
                }
            conditions[condition] = {"testable": hidden, "cut_off": [], "methods": methods}
            conditions[condition] |= {"n_eligible": 80, "n_pathless": 0, "n_protected": 0}
        records.append({"repeat": repeat, "conditions": conditions})
    settings = {"fraction": 0.15, "repeats": repeats, "seed": 0, "stratify": "none", "methods": ["first", "second"]}
    settings |= {"controls": ["permuted"], "n_candidates": 400, "n_known": 80, "config": {}, "fingerprint": "f"}
    return SelfCheck(settings, records)


@pytest.fixture(scope="session")
def report_data() -> ReportData:
    """The made-up report, hostile names and all."""
    return make_report()
