"""The figures of each setting of the converging benchmark, for one seed; ``converging.py`` runs and prints them.

"Research" figures count as the research code does: negatives of the AUC are every non-self, non-kept pair that is not a
test edge, the validation half of the hidden edges included, and a test edge is ranked against all of those of its
target. "Clean" figures leave the other true edges out: negatives are pairs in no true edge, ranks are filtered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from gsnn.edges import (
    DirectedMagnitudeEdgeKGE,
    FunctionEdgeInferer,
    MagnitudeEdgeInferer,
    MagnitudeEdgeKGE,
    MagnitudeEdgeRegressor,
    mrr,
)
from gsnn.metrics import evaluate_edges, target_ranking
from gsnn.nn import GSNN
from settings import Edge, Problem, Setting, build, loader, problem, test_fit, train

Figures = dict[str, float]
KGE_EPOCHS, KGE_PRINTED = 200, 40
# The embedding of the link-prediction tutorial, and what its ablations change.
KGE = {"embedding_dim": 32, "fdr_alpha": 1e-5, "top_k_per_target": 0, "n_negatives": 25, "walk_alpha": 2.0, "lr": 0.1}
ABLATION = KGE | {"fdr_alpha": 0.05, "n_negatives": 5, "lr": 0.01}


def recovery(name: str, table: pd.DataFrame, data: Problem, score: str = "score") -> Figures:
    """AUC and MRR of the test half by the research definitions and by clean ones. Undefined scores rank last."""
    rows: Figures = {}
    others = data.validation
    research = evaluate_edges(table, data.test, data.kept, score_col=score)
    rows[f"{name}: research AUC"] = research.roc_auc
    clean = evaluate_edges(table, data.test, data.kept, known_true=others, score_col=score)
    rows[f"{name}: clean AUC"] = clean.roc_auc
    _, summary = target_ranking(table, data.test, score)
    for column, figure in (("mrr", "MRR"), ("top@1", "top@1"), ("top@3", "top@3")):
        rows[f"{name}: {figure}"] = summary[column]
    rows[f"{name}: clean MRR"] = clean.mrr
    return rows


def magnitude_rows(inferer: MagnitudeEdgeInferer, data: Problem) -> Figures:
    """The figures of the magnitude inferer after one ordered pass over the training data."""
    rows: Figures = {}
    for score, name in (("corr", "MEI max"), ("partial", "MEI partial max")):
        table = inferer.evaluate(layer_agg="max", score=score, p_method="uncorrected")
        rows |= recovery(name, table, data, "corr")
        if score == "corr":
            significant = table[(table["q_value"] <= 0.05) & ~table["has_edge"].astype(bool)]
            pairs = set(zip(significant["src_func"], significant["dst_func"], strict=True))
            rows["non-kept with q <= .05"] = float(len(pairs))
            rows["of them true"] = float(len(pairs & set(data.held)))
    return rows


def fitted_magnitude(model: GSNN, data: Problem, setting: Setting) -> MagnitudeEdgeInferer:
    """The magnitude inferer after one ordered pass over the training data."""
    inferer = MagnitudeEdgeInferer(model, data.graph)
    inferer.fit(loader(data, setting, shuffle=False), verbose=False)
    return inferer


def online(model: GSNN, data: Problem, setting: Setting, seed: int) -> tuple[MagnitudeEdgeRegressor, Figures]:
    """Train the model with the regressor in the loop; it goes back to its best epoch by the validation edges."""
    regressor = MagnitudeEdgeRegressor(
        model, data.graph, lr=1e-3, weight_decay=1e-4, ridge=1e-2, dropout=0.2, score_mode="abs", seed=seed
    )
    optimiser = torch.optim.AdamW(model.parameters(), lr=setting.lr, weight_decay=0.0)
    loss_of, batches = torch.nn.MSELoss(), loader(data, setting, shuffle=True, seed=seed)
    aucs, mrrs, best = [], [], 0
    for epoch in range(1, setting.epochs + 1):
        model.train()
        regressor.train()
        for x, y in batches:
            regressor.pre_forward()
            loss = loss_of(model(x), y)
            regressor.arm_retained_grads()
            optimiser.zero_grad()
            loss.backward()
            regressor.aux_step()
            optimiser.step()
        found = regressor.evaluate_against(data.validation)
        aucs.append(found["auc"])
        mrrs.append(found["mrr"])
        best = epoch if regressor.maybe_save_best(found["auc"]) else best
    regressor.load_best()
    return regressor, {
        "regressor: validation AUC, epoch 1": aucs[0],
        "regressor: validation AUC, best epoch": max(aucs),
        "regressor: best epoch": best,
        "regressor: validation MRR, epoch 1": mrrs[0],
        "regressor: validation MRR, best epoch": mrrs[best - 1],
    }


def setting_a(setting: Setting, seed: int) -> Figures:
    """Online inference: the regressor in the loop, beside the correlations after training."""
    data = problem(setting, seed)
    model = build(setting, data.graph, seed)
    regressor, rows = online(model, data, setting, seed)
    mse, r2 = test_fit(model, data)
    rows = {"test MSE": mse, "R2": r2} | rows | recovery("regressor", regressor.evaluate(), data)
    return rows | magnitude_rows(fitted_magnitude(model, data, setting), data)


def embedding(
    mei: MagnitudeEdgeInferer,
    data: Problem,
    options: dict[str, Any],
    *,
    directed: bool = False,
    excluded: Sequence[Edge] | None = None,
) -> MagnitudeEdgeKGE:
    """An embedding on the graph that the inferer's uncorrected p-values mine; all held-out edges are excluded."""
    kind = DirectedMagnitudeEdgeKGE if directed else MagnitudeEdgeKGE
    return kind(mei, exclude_edges=data.held if excluded is None else excluded, p_method="uncorrected", **options)


def embedding_rows(name: str, kge: MagnitudeEdgeKGE, data: Problem, seed: int) -> tuple[Figures, list[float]]:
    """Train an embedding; its figures at its best epoch by the validation edges, and the loss by epoch."""
    history = kge.fit(KGE_EPOCHS, validation_edges=data.validation, verbose=False, seed=seed)
    last = recovery(name, kge.evaluate(), data)
    kge.load_best()
    rows = recovery(name, kge.evaluate(), data)
    return rows | {f"{name}: research AUC, last epoch": last[f"{name}: research AUC"]}, history["train_loss"]


def ablation_rows(mei: MagnitudeEdgeInferer, data: Problem, seed: int) -> Figures:
    """Embeddings of the known edges alone, of the mined ones alone, and of both."""
    rows: Figures = {}
    for name in ("kept only", "mined only", "joint"):
        kge = embedding(mei, data, ABLATION)
        if name == "kept only":
            kge.pos_heads, kge.pos_tails = kge.true_heads, kge.true_tails
        elif name == "mined only":
            kge.pos_heads, kge.pos_tails = kge.inferred_heads, kge.inferred_tails
        kge.pos_mask = torch.zeros_like(kge.pos_mask)
        kge.pos_mask[kge.pos_heads, kge.pos_tails] = True
        kge._build_adjacency()
        rows |= embedding_rows(f"KGE {name}", kge, data, seed)[0]
    return rows


def loss_rows(mei: MagnitudeEdgeInferer, data: Problem, seed: int) -> Figures:
    """The loss of the embedding if no negative is refused, and if the walks are uniform besides."""
    rows: Figures = {}
    for name, change in (("no negative refused", {}), ("nor walks weighted", {"walk_alpha": 0.0})):
        kge = embedding(mei, data, KGE | change)
        kge.pos_mask = torch.zeros_like(kge.pos_mask)
        loss = kge.fit(KGE_PRINTED, verbose=False, seed=seed)["train_loss"]
        rows |= {f"KGE {name}: loss, epoch {at}": loss[at - 1] for at in (1, KGE_PRINTED)}
    return rows


def setting_b(setting: Setting, seed: int) -> Figures:
    """Link prediction after training: the correlations, and embeddings of the graph mined from them."""
    data = problem(setting, seed)
    model = build(setting, data.graph, seed)
    rows: Figures = {}
    for epoch in train(model, data, setting, seed):
        if epoch in (1, 10, 20):
            rows[f"test MSE, epoch {epoch}"] = test_fit(model, data)[0]
    mse, r2 = test_fit(model, data)
    rows |= {"test MSE": mse, "R2": r2}
    mei = fitted_magnitude(model, data, setting)
    rows |= magnitude_rows(mei, data)
    kge = embedding(mei, data, KGE)
    found, loss = embedding_rows("KGE", kge, data, seed)
    rows |= {
        "KGE: parameters": sum(p.numel() for p in kge.parameters()),
        "KGE: known edges": len(kge.true_heads),
        "KGE: mined edges": len(kge.inferred_heads),
        "KGE: mined edges, if only the test half is excluded": len(
            embedding(mei, data, KGE, excluded=data.test).inferred_heads
        ),
        "KGE: context pairs": kge.pairs_per_epoch[0],
        "KGE: loss, epoch 1": loss[0],
        "KGE: loss, epoch 40": loss[KGE_PRINTED - 1],
    }
    rows |= loss_rows(mei, data, seed) | found
    directed = embedding(mei, data, KGE, directed=True)
    return rows | embedding_rows("KGE directed", directed, data, seed)[0] | ablation_rows(mei, data, seed)


def rank_figures(scores: npt.NDArray[np.floating], data: Problem, edges: Sequence[Edge]) -> Figures:
    """Source-filtered MRR of some edges, all of them and by role; and the two AUCs of all of them."""
    names = list(data.graph.node_names_dict["function"])
    place = {name: i for i, name in enumerate(names)}

    def index(chosen: Sequence[Edge]) -> npt.NDArray[np.int64]:
        return np.array([(place[s], place[t]) for s, t in chosen], dtype=np.int64).reshape(-1, 2).T

    rows = {"MRR": mrr(scores, index(edges), index(data.true_edges))}
    for role in ("merge", "sink"):
        some = [edge for edge in edges if data.roles[edge] == role]
        rows[f"MRR, {role} edges"] = mrr(scores, index(some), index(data.true_edges))
    others = [edge for edge in data.held if edge not in set(edges)]
    rows["research AUC"] = evaluate_edges(scores, edges, data.kept, names=names).roc_auc
    rows["clean AUC"] = evaluate_edges(scores, edges, data.kept, known_true=others, names=names).roc_auc
    return rows


def setting_c(setting: Setting, seed: int) -> Figures:
    """Rank correlation on the test samples after each epoch, and what the profile over layers gives alone."""
    data = problem(setting, seed)
    model = build(setting, data.graph, seed)
    known = data.graph.edge_index_dict["function", "to", "function"]
    inferer = FunctionEdgeInferer(model, torch.nn.MSELoss(), known)
    merge_from, both = float("nan"), []
    for epoch in train(model, data, setting, seed):
        scores = inferer.fit(data.x_test, data.y_test)
        parts = [rank_figures(scores, data, part) for part in (data.validation, data.test)]
        if min(part["MRR, merge edges"] for part in parts) < 1:
            merge_from = float("nan")
        elif np.isnan(merge_from):
            merge_from = epoch
        if min(part["MRR"] for part in parts) == 1:
            both.append(epoch)
    mse, r2 = test_fit(model, data)
    rows: Figures = {"test MSE": mse, "R2": r2}
    kinds = {
        "FEI": scores,
        "FEI unpooled": inferer.fit(data.x_test, data.y_test, pool=False),
        "FEI profile only": inferer.profile_control(data.x_test, data.y_test, seed=seed),
    }
    for name, matrix in kinds.items():
        for part, edges in (("validation", data.validation), ("test", data.test)):
            rows |= {f"{name}: {part} {figure}": v for figure, v in rank_figures(matrix, data, edges).items()}
    return rows | {
        "FEI: MRR of merge edges 1 from epoch": merge_from,
        "FEI: both MRR 1, first epoch": both[0] if both else float("nan"),
        "FEI: both MRR 1, share of the epochs from 18": float(np.mean([e in both for e in range(18, epoch + 1)])),
        "FEI: both MRR 1, last epoch": float(epoch in both),
    }


BY_SETTING = {"A": setting_a, "B": setting_b, "C": setting_c}
