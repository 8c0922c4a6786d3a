"""Pictures: what is drawn is what an independent calculation gives."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("matplotlib")

from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from scipy.stats import spearmanr
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, r2_score, roc_auc_score, roc_curve

from gsnn import plot
from gsnn.base.errors import DataError
from gsnn.discovery import SelfCheck
from gsnn.graph import Graph
from gsnn.plot.axes import KNOWN, PROPOSED

NODES = [f"n{i}" for i in range(9)]


@pytest.fixture
def ax():
    return Figure().subplots()


def labels(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def arrows(ax, color=None):
    return {p.get_gid() for p in ax.patches if color is None or to_hex(p.get_edgecolor()) == color}


def edge_table(seed=0, ties=False, undefined=0, names=("source", "target", "known", "score")):
    """Every pair of nine nodes, a tenth of them known."""
    rng = np.random.default_rng(seed)
    pairs = [(s, t) for s in NODES for t in NODES]
    score = rng.normal(size=len(pairs))
    if ties:
        score = score.round()
    score[rng.choice(len(pairs), undefined, replace=False)] = np.nan
    known = rng.random(len(pairs)) < 0.1
    columns = dict(zip(names, (*zip(*pairs, strict=True), known, score), strict=True))
    return pd.DataFrame(columns)


def candidates(table):
    return table[~table["known"] & (table["source"] != table["target"])]


def truth_of(table, n=8, seed=1):
    chosen = candidates(table).sample(n, random_state=seed)
    return list(zip(chosen["source"], chosen["target"], strict=True))


def y_and_score(table, positives, ignored=()):
    rows = candidates(table)
    pairs = list(zip(rows["source"], rows["target"], strict=True))
    kept = [pair not in set(ignored) for pair in pairs]
    y = np.array([pair in set(positives) for pair in pairs])[kept]
    return y, rows["score"].fillna(-1e9).to_numpy()[kept]


class TestFit:
    def test_loss_curves(self, ax):
        history = pd.DataFrame(
            {"epoch": [1, 2, 3], "train_loss": [3.0, 2, 1], "val_loss": [3.0, 1.5, 2], "val_r2": 0.1, "seconds": 1.0}
        )
        assert plot.loss_curves(history, ax=ax) is ax
        train, validation, best = ax.lines
        assert train.get_xydata().tolist() == [[1, 3], [2, 2], [3, 1]]
        assert validation.get_xydata().tolist() == [[1, 3], [2, 1.5], [3, 2]]
        assert best.get_xydata().tolist() == [[2, 1.5]]
        assert labels(ax) == ["training", "validation", "lowest, epoch 2"]

    def test_losses_without_validation(self, ax):
        plot.loss_curves(pd.DataFrame({"epoch": [1, 2], "train_loss": [3.0, 2], "val_loss": np.nan}), ax=ax)
        assert len(ax.lines) == 1
        empty = plot.loss_curves(pd.DataFrame({"epoch": [1, 2], "val_loss": np.nan}))
        assert not empty.lines
        assert empty.get_legend() is None
        with pytest.raises(ValueError, match="columns ending in 'loss', got"):
            plot.loss_curves(pd.DataFrame({"epoch": [1]}), ax=ax)

    def test_observed_predicted(self, ax):
        rng = np.random.default_rng(0)
        y = pd.DataFrame(rng.normal(size=(20, 2)), columns=["DV:a", "DV:b"])
        prediction = y.to_numpy() + rng.normal(size=(20, 2)) / 2
        y = y.mask(rng.random(y.shape) < 0.3)
        assert plot.observed_predicted(y, prediction, ax=ax) is ax
        for j, name in enumerate(y):
            seen = y[name].notna().to_numpy()
            drawn = ax.collections[j].get_offsets()
            np.testing.assert_array_equal(drawn, np.stack([y[name][seen], prediction[seen, j]], 1))
            r2 = r2_score(y[name][seen], prediction[seen, j])
            assert labels(ax)[j] == f"{name} R² {r2:.2f}"
        line = ax.lines[0].get_xydata()
        assert (line[:, 0] == line[:, 1]).all(), "perfect prediction"
        assert line.min() <= np.nanmin(y.to_numpy())

    def test_many_readouts_share_a_colour(self, ax):
        y = np.random.default_rng(0).normal(size=(5, 12))
        plot.observed_predicted(y, y, ax=ax)
        assert len(ax.collections) == 1
        assert len(ax.collections[0].get_offsets()) == 60

    def test_nothing_measured(self, ax):
        plot.observed_predicted([np.nan, np.nan], [1.0, 2.0], ax=ax)
        assert not ax.lines
        with pytest.raises(ValueError, match="same shape"):
            plot.observed_predicted([1.0], [1.0, 2.0], ax=ax)


class TestAgainstTruth:
    @pytest.mark.parametrize(("ties", "undefined"), [(False, 0), (True, 0), (True, 12)])
    def test_roc(self, ax, ties, undefined):
        table = edge_table(ties=ties, undefined=undefined)
        positives = truth_of(table)
        assert plot.roc(table, positives, ax=ax) is ax
        y, score = y_and_score(table, positives)
        x_expected, y_expected, _ = roc_curve(y, score, drop_intermediate=False)
        drawn = ax.lines[0].get_xydata()
        np.testing.assert_allclose(drawn, np.stack([x_expected, y_expected], 1))
        assert auc(*drawn.T) == pytest.approx(roc_auc_score(y, score))
        assert labels(ax) == [f"AUC {roc_auc_score(y, score):.3f}", "chance"]

    @pytest.mark.parametrize(("ties", "undefined"), [(False, 0), (True, 0), (True, 12)])
    def test_precision_recall(self, ax, ties, undefined):
        table = edge_table(ties=ties, undefined=undefined)
        positives = truth_of(table)
        assert plot.precision_recall(table, positives, ax=ax) is ax
        y, score = y_and_score(table, positives)
        precision, recall, _ = precision_recall_curve(y, score)
        drawn = ax.lines[0].get_xydata()[1:]
        np.testing.assert_allclose(drawn, np.stack([recall, precision], 1)[::-1][1:])
        # The area under the steps is the average precision.
        assert ax.lines[0].get_drawstyle() == "steps-pre"
        xy = ax.lines[0].get_xydata()
        area = float(np.sum(np.diff(xy[:, 0]) * xy[1:, 1]))
        assert area == pytest.approx(average_precision_score(y, score))
        assert ax.lines[1].get_ydata() == pytest.approx([y.mean()] * 2)

    def test_other_true_edges_count_as_neither(self, ax):
        table = edge_table()
        positives, others = truth_of(table)[:4], truth_of(table)[4:]
        plot.roc({"m": table}, positives, known_true=others, ax=ax)
        y, score = y_and_score(table, positives, others)
        assert labels(ax)[0] == f"m AUC {roc_auc_score(y, score):.3f}"
        assert roc_auc_score(y, score) != roc_auc_score(*y_and_score(table, positives))

    def test_several_tables_of_either_kind(self, ax):
        first = edge_table()
        second = edge_table(names=("src_func", "dst_func", "has_edge", "corr"))
        plot.precision_recall({"a": first, "b": second}, truth_of(first), ax=ax)
        np.testing.assert_array_equal(ax.lines[0].get_xydata(), ax.lines[1].get_xydata())

    def test_refusals(self, ax):
        table = edge_table()
        known = tuple(table.loc[table["known"], ["source", "target"]].iloc[0])
        with pytest.raises(ValueError, match=r"1 of them are not: \[\('n"):
            plot.roc(table, [known], ax=ax)
        with pytest.raises(ValueError, match="there are none"):
            plot.roc(table, [], ax=ax)
        with pytest.raises(ValueError, match="needs a column 'score' or 'corr'"):
            plot.roc(table.drop(columns="score"), [("n0", "n1")], ax=ax)
        assert not ax.lines, "nothing is drawn before all is well"


class TestTables:
    def test_score_distributions(self, ax):
        table = edge_table(undefined=10)
        masked = truth_of(table)
        assert plot.score_distributions(table, masked, bins=7, ax=ax) is ax
        rows = table[table["source"] != table["target"]]
        hidden = np.array([pair in set(masked) for pair in zip(rows["source"], rows["target"], strict=True)])
        score = rows["score"].to_numpy()
        limits = np.linspace(np.nanmin(score), np.nanmax(score), 8)
        members = {"candidates": ~rows["known"] & ~hidden, "known": rows["known"], "masked": hidden}
        assert len(ax.patches) == 3
        for patch, (name, member) in zip(ax.patches, members.items(), strict=True):
            values = score[np.asarray(member)]
            n = int(np.isfinite(values).sum())
            drawn = patch.get_data()
            counts = [
                ((values >= low) & ((values < high) | ((high == limits[-1]) & (values <= high)))).sum()
                for low, high in pairwise(limits)
            ]
            np.testing.assert_allclose(drawn.edges, limits)
            np.testing.assert_allclose(drawn.values, np.array(counts) / n / np.diff(limits))
            missing = f", {len(values) - n} undefined" if len(values) > n else ""
            assert patch.get_label() == f"{name} ({len(values)}{missing})"

    def test_no_score_is_no_picture(self, ax):
        with pytest.raises(ValueError, match="no defined score"):
            plot.score_distributions(edge_table().assign(score=np.nan), ax=ax)

    def test_agreement_of_ranks(self, ax):
        tables = {"a": edge_table(0), "b": edge_table(0, ties=True), "c": edge_table(3)}
        assert plot.method_agreement(tables, ax=ax) is ax
        drawn = np.asarray(ax.images[0].get_array())
        joined = candidates(tables["a"]).merge(candidates(tables["c"]), on=["source", "target"])
        assert drawn[0, 2] == pytest.approx(spearmanr(joined["score_x"], joined["score_y"]).statistic)
        np.testing.assert_array_equal(drawn, drawn.T)
        np.testing.assert_array_equal(np.diag(drawn), 1)
        assert drawn[0, 1] > 0.8
        assert [tick.get_text() for tick in ax.get_xticklabels()] == ["a", "b", "c"]
        assert f"{drawn[0, 2]:.2f}" in {text.get_text() for text in ax.texts}

    def test_agreement_of_the_best(self, ax):
        first, second = edge_table(0), edge_table(3)
        second["known"] = first["known"]
        plot.method_agreement({"a": first, "b": second}, measure="shared", top=10, ax=ax)
        best = [set(candidates(t).nlargest(10, "score").index) for t in (first, second)]
        assert np.asarray(ax.images[0].get_array())[0, 1] == pytest.approx(len(best[0] & best[1]) / 10)

    def test_agreement_refuses(self, ax):
        with pytest.raises(ValueError, match="at least two methods"):
            plot.method_agreement({"a": edge_table()}, ax=ax)
        with pytest.raises(ValueError, match="did you mean 'spearman'"):
            plot.method_agreement({"a": edge_table(), "b": edge_table()}, measure="spearmen", ax=ax)
        twice = pd.concat([edge_table(), candidates(edge_table()).iloc[[0]]])
        with pytest.raises(ValueError, match="the table of 'b' lists an edge twice"):
            plot.method_agreement({"a": edge_table(), "b": twice}, ax=ax)


def graph():
    edges = [("x", "a", 1), ("a", "b", -1), ("b", "c", 0), ("c", "a", 1), ("c", "c", 1), ("c", "y", 1), ("d", "y", 1)]
    return Graph.from_edges(edges, input_nodes=["x"], function_nodes=list("abcd"), output_nodes=["y"])


class TestNetwork:
    def test_overview(self, ax):
        assert plot.network(graph(), [("a", "d", -1), ("a", "b"), ("d", "a", 1)], ax=ax) is ax
        assert arrows(ax, KNOWN) == {"x->a", "a->b", "b->c", "c->a", "c->y", "d->y"}, "no self-edge"
        assert arrows(ax, PROPOSED) == {"a->d", "d->a"}, "a known edge is not proposed"
        heads = {p.get_gid(): type(p.get_arrowstyle()).__name__ for p in ax.patches}
        assert heads["x->a"] == heads["d->a"] == "CurveFilledB"
        assert heads["a->b"] == heads["a->d"] == "BarAB"
        assert heads["b->c"] == "CurveB"
        assert {text.get_text() for text in ax.texts} == {"x", "a", "b", "c", "d", "y"}
        assert {"inputs", "functions", "outputs", "known", "proposed", "inhibits", "sign unknown"} <= set(labels(ax))

    def test_arrows_join_their_nodes(self, ax):
        plot.network(graph(), [("a", "d")], ax=ax)
        place = {text.get_text(): tuple(text.xy) for text in ax.texts}
        nodes = {tuple(xy) for collection in ax.collections for xy in collection.get_offsets().tolist()}
        assert nodes == set(place.values())
        for patch in ax.patches:
            source, target = patch.get_gid().split("->")
            assert patch._posA_posB == [place[source], place[target]]

    def test_a_table_of_edges(self, ax):
        table = pd.DataFrame({"source": ["a", "d"], "target": ["d", "b"], "sign": [-1, 1], "rank": [1, 2]})
        plot.network(graph(), table, ax=ax)
        assert arrows(ax, PROPOSED) == {"a->d", "d->b"}
        more = Figure().subplots()
        plot.network(graph(), table.rename(columns={"source": "src_func", "target": "dst_func"}), ax=more)
        assert arrows(more) == arrows(ax)
        with pytest.raises(DataError, match="needs the columns 'source' and 'target'"):
            plot.network(graph(), pd.DataFrame({"a": []}), ax=ax)

    def test_a_sign_may_be_missing(self, ax):
        table = pd.DataFrame({"source": ["a", "d"], "target": ["d", "b"], "sign": pd.array([None, -1], dtype="Int8")})
        plot.network(graph(), table, ax=ax)
        heads = {p.get_gid(): type(p.get_arrowstyle()).__name__ for p in ax.patches}
        assert heads["a->d"] == "CurveB"
        assert heads["d->b"] == "BarAB"

    def test_a_large_network_is_cut(self, ax):
        names = [f"f{i}" for i in range(200)]
        edges = [("x", "f0"), *pairwise(names), ("f199", "y")]
        large = Graph.from_edges(edges, input_nodes=["x"], function_nodes=names, output_nodes=["y"])
        plot.network(large, [("f50", "f52")], limit=6, ax=ax)
        assert "f50->f52" in arrows(ax, PROPOSED)
        assert len({end for gid in arrows(ax) for end in gid.split("->")}) <= 6
        whole = Figure().subplots()
        plot.network(large, [("f50", "f52")], ax=whole)
        assert {text.get_text() for text in whole.texts} == {"f50", "f52"}

    def test_neighbourhood(self, ax):
        assert plot.edge_neighbourhood(graph(), ("a", "d"), [("d", "b"), ("d", "a", 1)], ax=ax) is ax
        assert arrows(ax, PROPOSED) == {"a->d", "d->b", "d->a"}
        assert arrows(ax, KNOWN) == {"x->a", "a->b", "b->c", "c->a", "c->y", "d->y"}
        place = {text.get_text(): text.xy for text in ax.texts}
        assert place["x"][0] < place["a"][0] < place["d"][0] < place["y"][0]
        assert ax.get_title() == "a → d"
        width = {p.get_gid(): p.get_linewidth() for p in ax.patches}
        assert width["a->d"] > width["d->b"] > width["x->a"]

    def test_neighbourhood_of_a_known_edge_and_its_limit(self, ax):
        plot.edge_neighbourhood(graph(), ("a", "b"), limit=3, ax=ax)
        assert arrows(ax, PROPOSED) == set()
        assert "a->b" in arrows(ax, KNOWN)
        assert len(ax.texts) == 3
        far = Figure().subplots()
        plot.edge_neighbourhood(graph(), ("a", "b"), [("a", "d"), ("d", "c")], limit=3, ax=far)
        assert {text.get_text() for text in far.texts} == {text.get_text() for text in ax.texts}
        assert arrows(far) == arrows(ax), "a proposed edge whose end is not shown is not drawn"

    def test_refusals(self, ax):
        with pytest.raises(DataError, match=r"'x' is none"):
            plot.edge_neighbourhood(graph(), ("x", "a"), ax=ax)
        with pytest.raises(DataError, match=r"'AA' is none; did you mean 'a'"):
            plot.edge_neighbourhood(graph(), ("AA", "a"), ax=ax)
        with pytest.raises(DataError, match="the graph has no node 'z'"):
            plot.network(graph(), [("a", "z")], ax=ax)


@pytest.fixture(scope="module")
def check():
    """A self-check in which one method found everything and the other nothing."""

    def method(places, ranks):
        found = {"placement": {}, "negative_variance": {}, "metrics": {}, "by": "inferer", "rank": ranks}
        for negatives in ("all", "degree-matched"):
            found["placement"][negatives] = places
            found["negative_variance"][negatives] = 0.001
            found["metrics"][negatives] = {
                "roc_auc": float(np.mean(places)),
                "average_precision": 0.5,
                "chance_average_precision": 0.2,
                "n_positives": 4,
            }
        return found

    def record(shift):
        edges = [["a", "b"], ["a", "c"], ["b", "c"], ["c", "d"]]
        return {
            "testable": edges,
            "cut_off": [],
            "n_eligible": 20,
            "n_pathless": 0,
            "n_protected": 0,
            "methods": {
                "good": method([1.0, 1.0, 1.0, 1.0 - shift], [1, 1, 1, 1 + 16 * shift]),
                "bad": method([0.5, 0.25, 0.75, 0.0], [9, 13, 5, 17]),
            },
        }

    settings = {
        "fraction": 0.2, "repeats": 2, "methods": ["good", "bad"], "controls": ["permuted"], "n_candidates": 16,
    }  # fmt: skip
    repeats = [{"repeat": i, "conditions": {"real": record(0.25 * i), "permuted": record(1.0)}} for i in range(2)]
    return SelfCheck(settings, repeats)


class TestSelfCheck:
    def test_curve(self, ax, check):
        assert plot.self_check(check, ax=ax) is ax
        lines = {line.get_label(): line for line in ax.lines}
        assert list(lines) == ["good", "good, permuted", "bad", "bad, permuted", "chance"]
        # 4 positives of precision 1 / 5 by chance: 16 negatives.
        recall, precision = lines["bad"].get_data()
        shares = sorted([0.5, 0.25, 0.75, 0.0], reverse=True)
        for r, p in zip(recall, precision, strict=True):
            k = int(np.ceil(round(r * 4, 9)))
            assert p == pytest.approx(k / (k + (1 - shares[k - 1]) * 16))
        good = dict(zip(*lines["good"].get_data(), strict=True))
        assert good[0.75] == 1.0
        assert good[1.0] == pytest.approx((1 + 4 / (4 + 0.25 * 16)) / 2), "the mean over the repeats"
        assert lines["chance"].get_ydata()[0] == pytest.approx(0.2)
        assert lines["good, permuted"].get_linestyle() != "-"

    def test_chosen_methods(self, ax, check):
        plot.self_check(check, ["bad"], negatives="degree-matched", ax=ax)
        assert [line.get_label() for line in ax.lines] == ["bad", "bad, permuted", "chance"]
        with pytest.raises(ValueError, match="unknown method 'god'"):
            plot.self_check(check, ["god"], ax=ax)
        with pytest.raises(ValueError, match="unknown negatives"):
            plot.self_check(check, negatives="none", ax=ax)

    def test_expected_precision(self, ax, check):
        assert plot.expected_precision(check, "good", k=[1, 2, 4, 8], missing=0.1, ax=ax) is ax
        expected = check.precision("good", [1, 2, 4, 8], missing=0.1)
        np.testing.assert_allclose(ax.lines[0].get_ydata(), expected["expected_precision"])
        corners = ax.collections[0].get_paths()[0].vertices
        for k, low, high in zip(expected["k"], expected["precision_low"], expected["precision_high"], strict=True):
            at = corners[corners[:, 0] == k, 1]
            assert at.min() == pytest.approx(low)
            assert at.max() == pytest.approx(high)
        with pytest.raises(ValueError, match="has more than one"):
            plot.expected_precision(check, ax=ax)

    def test_the_only_method_need_not_be_named(self, ax, check):
        repeats = [
            {**r, "conditions": {c: {**v, "methods": {"bad": v["methods"]["bad"]}} for c, v in r["conditions"].items()}}
            for r in check.repeats
        ]
        plot.expected_precision(SelfCheck({**check.settings, "methods": ["bad"]}, repeats), ax=ax)
        assert labels(ax) == ["95% interval", "bad", "chance"]

    def test_default_places_end_with_the_candidates(self, ax, check):
        plot.expected_precision(check, "bad", ax=ax)
        assert ax.lines[0].get_xdata().tolist() == list(range(1, 17))


CALLS = {
    "loss_curves": lambda **k: plot.loss_curves(pd.DataFrame({"epoch": [1], "train_loss": [1.0]}), **k),
    "observed_predicted": lambda **k: plot.observed_predicted([1.0, 2.0], [1.0, 2.0], **k),
    "roc": lambda **k: plot.roc(edge_table(), truth_of(edge_table()), **k),
    "precision_recall": lambda **k: plot.precision_recall(edge_table(), truth_of(edge_table()), **k),
    "score_distributions": lambda **k: plot.score_distributions(edge_table(), **k),
    "method_agreement": lambda **k: plot.method_agreement({"a": edge_table(), "b": edge_table(1)}, **k),
    "network": lambda **k: plot.network(graph(), [("a", "d")], **k),
    "edge_neighbourhood": lambda **k: plot.edge_neighbourhood(graph(), ("a", "d"), **k),
    "heatmap": lambda **k: plot.heatmap(pd.DataFrame({"jun": [1.0, np.nan]}, index=["mek", "a long name"]), **k),
    "subnetwork": lambda **k: plot.subnetwork(CARRIED, {"x": "input", "a": "function", "y": "output"}, **k),
}
CARRIED = pd.DataFrame({"source": ["x", "a"], "target": ["a", "y"], "sign": [1, -1], "contribution": [0.5, -1.0]})


@pytest.mark.parametrize("name", plot.__all__)
def test_pyplot_knows_of_a_figure_only_without_axes(name, check, monkeypatch):
    import matplotlib as mpl

    monkeypatch.setitem(mpl.rcParams, "backend", "agg")
    import matplotlib.pyplot as plt

    call = CALLS.get(
        name, lambda **k: getattr(plot, name)(check, *(["good"] if name == "expected_precision" else []), **k)
    )
    plt.close("all")
    figure = Figure()
    call(ax=figure.subplots())
    assert plt.get_fignums() == []
    figure.canvas.draw()  # whatever cannot be drawn fails here
    made = call()
    assert plt.get_fignums() == [made.figure.number]
    plt.close("all")


def test_a_heatmap_is_its_table(ax):
    table = pd.DataFrame({"jun": [-2.0, 0.5], "fos": [0.0, np.nan]}, index=["mek", "erk"])
    image = plot.heatmap(table, ax=ax).images[0]
    np.testing.assert_array_equal(image.get_array().filled(np.nan), table.to_numpy())
    assert image.get_clim() == (-2.0, 2.0)


def test_a_subnetwork_is_wide_where_much_is_carried(ax):
    arrows = {
        patch.get_gid(): patch
        for patch in plot.subnetwork(CARRIED, {"x": "input", "a": "function", "y": "output"}, ax=ax).patches
    }
    assert set(arrows) == {"x->a", "a->y"}
    assert arrows["a->y"].get_linewidth() > arrows["x->a"].get_linewidth()
    assert arrows["a->y"].get_edgecolor() != arrows["x->a"].get_edgecolor()


@pytest.mark.slow
def test_matplotlib_is_imported_when_something_is_drawn():
    code = "import sys, gsnn.plot; sys.exit('matplotlib' in sys.modules)"
    # torch and its extensions may bring matplotlib themselves; then there is nothing to see here.
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
