"""The self-check: what it hides, how it counts, that it resumes, and what it promises."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from gsnn.base.errors import DataError, RunError
from gsnn.data import PerturbationData
from gsnn.discovery import SelfCheck, mask_edges, self_check
from gsnn.discovery.baselines import degree_product
from gsnn.discovery.selfcheck.attach import attach_precision
from gsnn.discovery.selfcheck.precision import estimable, found_share, precision_interval
from gsnn.discovery.selfcheck.result import PRECISION_COLUMNS
from gsnn.edges import MagnitudeEdgeInferer
from gsnn.graph import Graph
from gsnn.graph.kinds import drawn_treatments

from ..conftest import simulated

TRUE = set(simulated(8).graph.function_edges)


def knowing(true):
    """A method that knows the true graph."""

    def scored(model, graph, batches):
        index = {name: i for i, name in enumerate(graph.functions)}
        scores = np.random.default_rng(0).random((graph.N, graph.N))
        for source, target in true:
            scores[index[source], index[target]] += 1
        return scores

    return scored


perfect = knowing(TRUE)


def noise(model, graph, batches):
    return np.random.default_rng(len(graph.function_edges)).random((graph.N, graph.N))


def undefined(model, graph, batches):
    return np.full((graph.N, graph.N), np.nan)


METHODS = {"perfect": perfect, "noise": noise, "undefined": undefined}


@pytest.fixture
def check(fake_training):
    fake_training()
    return self_check(simulated(8), inferers=METHODS, fraction=0.3, repeats=4)


def row(check, condition, method, negatives="all"):
    table = check.summary()
    chosen = (table["condition"] == condition) & (table["method"] == method) & (table["negatives"] == negatives)
    return table[chosen].iloc[0]


def test_known_answers(check):
    assert row(check, "real", "perfect")["roc_auc"] == 1.0
    assert row(check, "real", "perfect")["precision"] == 1.0
    assert row(check, "real", "perfect", "degree-matched")["roc_auc"] == 1.0
    for method in ("undefined",):
        assert row(check, "real", method)["roc_auc"] == 0.5
        assert row(check, "real", method)["average_precision"] == pytest.approx(row(check, "real", method)["chance"])
    assert row(check, "real", "degree product", "degree-matched")["roc_auc"] == pytest.approx(0.5)


def test_controls_hold_a_half(fake_training):
    """On a graph with enough edges to hide, so that every control of an honest method passes and none lacks power."""
    fake_training()
    data = simulated(40)
    methods = {**METHODS, "perfect": knowing(data.graph.function_edges)}
    controls = self_check(data, inferers=methods, fraction=0.3, repeats=4).control_table()
    assert set(controls["condition"]) == {"rewired", "permuted"}
    # A method that knows the truth whatever it is shown is no honest method: permuting samples unmasks it.
    cheat = controls[(controls["method"] == "perfect") & (controls["condition"] == "permuted")]
    assert (cheat["passed"] == False).all()  # noqa: E712
    honest = controls[(controls["method"] != "perfect") | (controls["condition"] == "rewired")]
    assert (honest["verdict"] == "passed").all()


def test_what_networks_have_in_common_is_no_failed_control(fake_training):
    """A method that finds edges of permuted samples passes where the graph alone finds as many, and nowhere else."""
    fake_training()
    data = simulated(40)
    methods = {"perfect": knowing(data.graph.function_edges)}
    found = self_check(data, inferers=methods, fraction=0.3, repeats=4)

    def passed(check):
        controls = check.control_table()
        part = controls[controls["condition"] == "permuted"]
        assert len(part) == 2
        return part["passed"].tolist()

    records = [each["conditions"]["permuted"]["methods"] for each in found.repeats]
    assert [each["structure"] for each in records] == [
        each["conditions"]["real"]["methods"]["structure"] for each in found.repeats
    ], "the masked graphs are the same"
    assert not any("structure" in each["conditions"]["rewired"]["methods"] for each in found.repeats)
    assert passed(found) == [False, False]
    for each in records:
        each["structure"] = {**each["perfect"], "by": "baseline"}
    assert passed(found) == [True, True]
    for each in records:
        del each["structure"]
    assert passed(found) == [False, False]


def test_a_control_without_power_says_so(check):
    """Few hidden edges: their interval holds a half whatever is so, and that is no pass."""
    controls = check.control_table()
    for row in controls.to_dict("records"):
        told = {True: "passed", False: "failed", None: "no power"}[row["passed"]]
        assert row["verdict"] == told
        if row["auc_low"] > 0.5 and row["condition"] == "permuted":
            continue  # beside structure, which is measured there: see above
        elif not row["auc_low"] <= 0.5 <= row["auc_high"]:
            assert told == "failed"
        else:
            assert told == ("passed" if row["auc_visible"] <= 0.75 else "no power")
    few = SelfCheck(check.settings, check.repeats[:1])
    blind = few.control_table()
    blind = blind[(blind["verdict"] == "no power") & (blind["negatives"] == "degree-matched")]
    assert len(blind)
    sentences = few.caveats()
    assert len(sentences) == len(blind)
    assert re.match(
        r"control '\w+', \w+: \d+ hidden edges? cannot show (less than an AUC of 0\.\d\d|anything)", sentences[0]
    )
    assert few.groups().empty


def test_holes_that_had_to_be_left_are_reported_apart(fake_training, tmp_path):
    fake_training()
    data = simulated(5)
    found = self_check(data, inferers={"noise": noise}, fraction=0.4, repeats=6, controls=())
    records = [record["conditions"]["real"] for record in found.repeats]
    holes = {tuple(edge) for record in records for edge in record["holes"]}
    assert holes
    groups = found.groups()
    groups = groups[groups["method"] == "noise"].set_index("group")
    assert groups.loc["hole", "n_positives"] == len(holes)
    # Each group against pairs of its own kind, by hand.
    for record in records:
        masked = data.graph.without_edges([tuple(e) for e in record["testable"] + record["cut_off"]])
        index = {name: i for i, name in enumerate(masked.functions)}
        scores = noise(None, masked, None)
        sources, targets = ({edge[end] for edge in masked.function_edges} for end in (0, 1))
        dead = set(masked.unreached_functions), set(masked.dead_end_functions)
        every, drawn = set(data.graph.function_edges), set(drawn_treatments(masked))
        others = [
            (s, t) for s in masked.functions for t in masked.functions
            if s != t and (s, t) not in every and s not in dead[0] and t not in dead[1] | drawn
        ]  # fmt: skip
        for name, wanted in (("hole", True), ("no hole", False)):
            beaten = [scores[index[s], index[t]] for s, t in others if (s not in sources or t not in targets) == wanted]
            shares = record["methods"]["noise"]["groups"][name]["placement"]
            for (s, t), share in zip(record["testable"], shares, strict=True):
                if ((s not in sources or t not in targets) == wanted) and beaten:
                    assert share == pytest.approx(np.mean(np.array(beaten) < scores[index[s], index[t]]))
                else:
                    assert np.isnan(share)
    assert any("left a function without children or parents" in sentence for sentence in found.caveats())
    found.write(tmp_path)
    pd.testing.assert_frame_equal(SelfCheck.read(tmp_path).groups(), found.groups())


def test_every_record_adds_up(check):
    data = simulated(8)
    for record in check.repeats:
        real = record["conditions"]["real"]
        masking = mask_edges(data.graph, 0.3, record["seeds"][0])
        assert list(map(tuple, real["testable"])) == masking.testable
        graph, n = masking.graph, data.graph.N
        index = {name: i for i, name in enumerate(graph.functions)}
        unknown = {(s, t) for s in graph.functions for t in graph.functions if s != t} - TRUE
        assert real["n_negatives"] + real["n_left_out"] == len(unknown) == check.settings["n_candidates"]
        dead = set(graph.unreached_functions), set(graph.dead_end_functions)
        sources, targets = ({edge[end] for edge in graph.function_edges} for end in (0, 1))
        assert real["holes"] == []
        negatives = [
            (s, t) for s, t in unknown
            if s not in dead[0] and t not in dead[1] and s in sources and t in targets
        ]  # fmt: skip
        assert real["n_negatives"] == len(negatives)
        scores = degree_product(graph)
        value = [scores[index[s], index[t]] for s, t in [*masking.testable, *negatives]]
        label = np.arange(len(value)) < len(masking.testable)
        found = real["methods"]["degree product"]
        assert found["metrics"]["all"]["roc_auc"] == pytest.approx(roc_auc_score(label, value))
        every = np.array([scores[index[s], index[t]] for s, t in unknown])
        own = [scores[index[s], index[t]] for s, t in masking.testable]
        rank = [1 + (every > v).sum() + (every == v).sum() / 2 for v in own]
        assert found["rank"] == pytest.approx(rank, abs=1e-3)
        assert n == check.settings["n_functions"]


def test_rewired_edges_that_are_true_are_not_counted(check):
    for record in check.repeats:
        rewired = record["conditions"]["rewired"]
        assert not {tuple(edge) for edge in rewired["testable"]} & TRUE
        assert rewired["n_unchanged"] < len(TRUE)


def test_tables_are_tidy_and_json_is_whole(check, tmp_path):
    table = check.table()
    assert list(table) == ["kind", "repeat", "condition", "method", "by", "negatives", "metric", "value"]
    assert not table.duplicated(list(table)[:-1]).any()
    assert set(table[table["by"] == "baseline"]["method"]) >= {"random", "degree product", "residual correlation"}
    check.write(tmp_path / "new" / "folder")
    again = SelfCheck.read(tmp_path / "new" / "folder")
    pd.testing.assert_frame_equal(again.summary(), check.summary())
    pd.testing.assert_frame_equal(again.precision("noise", [1, 9]), check.precision("noise", [1, 9]))
    values = json.loads((tmp_path / "new" / "folder" / "selfcheck.json").read_text())
    assert "assumes" in values["statement"]
    assert len(pd.read_csv(tmp_path / "new" / "folder" / "selfcheck.csv")) == len(table)


def test_precision_is_the_interval_of_the_pooled_recall(check):
    k = [1, 5, 40]
    ranks: dict[tuple[str, str], list[float]] = {}
    for record in check.repeats:
        real = record["conditions"]["real"]
        for edge, rank in zip(real["testable"], real["methods"]["noise"]["rank"], strict=True):
            ranks.setdefault(tuple(edge), []).append(rank)
    each = [(rank, 1 / len(found)) for found in ranks.values() for rank in found]
    recall = found_share(*zip(*each, strict=True), k)
    testable = np.mean([len(r["conditions"]["real"]["testable"]) for r in check.repeats])
    hidden = testable + np.mean([len(r["conditions"]["real"]["cut_off"]) for r in check.repeats])
    eligible = check.repeats[0]["conditions"]["real"]["n_eligible"]
    assert 10 <= eligible < len(TRUE)
    missing = 0.3 / 0.7 * eligible * testable / hidden
    assert check.missing_edges() == pytest.approx(missing)
    expected = np.stack(precision_interval(recall, len(ranks), missing, k), axis=1)
    stated = check.precision("noise", k, widest=1.0)
    np.testing.assert_allclose(stated.to_numpy()[:, 1:4], expected)
    np.testing.assert_allclose(stated["precision_chance"], missing / 219)
    told = check.precision("noise", k)
    wide = ~estimable(stated["precision_low"], stated["precision_high"])
    assert wide.any()
    assert not wide.all()
    np.testing.assert_array_equal(told["expected_precision"].isna(), wide)
    pd.testing.assert_frame_equal(told.drop(columns="expected_precision"), stated.drop(columns="expected_precision"))
    assert check.missing_edges(0.0) == 0.0
    with pytest.raises(ValueError, match="missing must be a share"):
        check.missing_edges(1.0)


def test_stated_rates_are_those_of_a_loop_over_lists(check):
    n, lacking = 219, check.missing_edges()
    for method in ("perfect", "noise"):
        ranks: dict = {}
        for each in check.repeats:
            real = each["conditions"]["real"]
            for edge, rank in zip(real["testable"], real["methods"][method]["rank"], strict=True):
                ranks.setdefault(tuple(edge), []).append(rank)
        share = []
        for k in range(1, n + 1):
            found = sum(np.mean([rank <= k for rank in each]) for each in ranks.values())
            share.append(min(1.0, max(0.0, 1 - lacking / k * max(found - 1, 0) / len(ranks))))
        best = [min(share[k:]) for k in range(n)]
        stated = check.precision(method, np.arange(1, n + 1))["stated_fdr"]
        np.testing.assert_allclose(stated, best, atol=1e-12)
        for rate in (0.1, 0.5, 0.9):
            assert check.listed(method, rate) == sum(value <= rate for value in best)
    assert check.listed("perfect", 0.5) > 0
    assert check.list_text("perfect", 0.5).startswith(f"the best {check.listed('perfect', 0.5)} of perfect")
    assert check.listed("noise") == check.listed("perfect", missing=0.0) == 0
    assert check.list_text("noise") == "no list of noise can be stated to hold at most 20% false edges"
    with pytest.raises(ValueError, match="rate must be"):
        check.listed("noise", 1.0)


def test_better_methods_promise_more(check):
    good, bad = (check.precision(name, np.arange(1, 30), widest=1.0) for name in ("perfect", "noise"))
    assert (good["expected_precision"] > bad["expected_precision"]).all()
    assert (good["precision_chance"] < good["expected_precision"]).all()
    some, none = (
        check.precision("perfect", [5], missing=share, widest=1.0)["expected_precision"][0] for share in (0.05, 0.0)
    )
    assert good["expected_precision"][4] >= some > none == 0.0


def test_attach_to_both_kinds_of_table(check):
    graph = simulated(8).graph
    known = set(graph.function_edges)
    rng = np.random.default_rng(0)
    rows = [(s, t, i, j) for i, s in enumerate(graph.functions) for j, t in enumerate(graph.functions) if i != j]
    table = pd.DataFrame(rows, columns=["src_func", "dst_func", "src_idx", "dst_idx"])
    table["corr"] = rng.normal(size=len(table)).round(2)
    table.loc[3, "corr"] = np.nan
    table["has_edge"] = [(s, t) in known for s, t, _, _ in rows]
    found = attach_precision(table, check, "noise")
    assert list(found)[-5:] == list(PRECISION_COLUMNS)
    assert found.loc[table["has_edge"] | table["corr"].isna(), "expected_precision"].isna().all()
    candidates = found[~found["has_edge"] & found["corr"].notna()]
    last = candidates["corr"].rank(ascending=False, method="max")
    np.testing.assert_allclose(
        candidates["precision_high"], check.precision("noise", last.to_numpy())["precision_high"].to_numpy()
    )
    edges = pd.DataFrame({"source": "a", "target": "b", "score": [0.9, 0.8, 0.1], "rank": [1, 2, None], "known": False})
    part = attach_precision(attach_precision(edges, check, "noise"), check, "noise")
    np.testing.assert_allclose(
        part["expected_precision"][:2], check.precision("noise", [1, 2])["expected_precision"].to_numpy()
    )
    assert np.isnan(part["precision_low"][2])
    with pytest.raises(DataError, match="was made on 219"):
        attach_precision(table.iloc[:50], check, "noise")
    with pytest.raises(ValueError, match="more than one"):
        attach_precision(table, check)
    with pytest.raises(ValueError, match="unknown method 'nois'"):
        attach_precision(table, check, "nois")


def test_a_stopped_check_resumes(fake_training, tmp_path):
    fake = fake_training()
    data, options = simulated(8), {"inferers": {"noise": noise}, "fraction": 0.2}
    whole = self_check(data, repeats=3, **options)
    self_check(data, repeats=1, folder=tmp_path, **options)
    n = len(fake.calls)
    with pytest.raises(RunError, match="--resume"):
        self_check(data, repeats=3, folder=tmp_path, **options)
    parts = self_check(data, repeats=3, folder=tmp_path, resume=True, **options)
    assert len(fake.calls) - n == 2 * 3
    pd.testing.assert_frame_equal(parts.table(), whole.table())
    again = self_check(data, repeats=3, folder=tmp_path, resume=True, **options)
    assert len(fake.calls) - n == 2 * 3
    assert again.complete
    with pytest.raises(RunError, match=r"fraction was 0\.2, now 0\.3"):
        self_check(data, repeats=3, folder=tmp_path, resume=True, **{**options, "fraction": 0.3})
    with pytest.raises(RunError, match="the data differ"):
        self_check(simulated(8, seed=1), repeats=3, folder=tmp_path, resume=True, **options)
    assert len(self_check(data, repeats=1, folder=tmp_path, overwrite=True, **options).repeats) == 1


def test_what_is_killed_leaves_whole_files(fake_training, tmp_path):
    calls = []

    def failing(model, graph, batches):
        calls.append(1)
        if len(calls) > 4:
            raise KeyboardInterrupt
        return noise(model, graph, batches)

    fake_training()
    with pytest.raises(KeyboardInterrupt):
        self_check(simulated(8), inferers={"noise": failing}, repeats=3, folder=tmp_path)
    assert len(SelfCheck.read(tmp_path).repeats) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["selfcheck.csv", "selfcheck.json"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"inferers": "magnitud"}, DataError, "did you mean 'magnitude'"),
        ({"inferers": {"x": 3}}, TypeError, "must be a Method"),
        ({"inferers": {}}, ValueError, "empty"),
        ({"repeats": 0}, ValueError, "repeats must be at least 1"),
        ({"controls": ["rewire"]}, ValueError, "did you mean 'rewired'"),
        ({"fraction": 1.0}, ValueError, "fraction must be"),
        ({"stratify": "roles"}, ValueError, r"unknown stratify 'roles'.*did you mean 'role'"),
        ({"resume": True}, RunError, "folder="),
    ],
)
def test_wrong_options_before_any_training(fake_training, options, error, message):
    fake = fake_training()
    with pytest.raises(error, match=message):
        self_check(simulated(5), **options)
    assert not fake.calls


def test_nothing_that_could_be_found_was_hidden(fake_training):
    fake_training()
    edges = [("x", "a"), ("x", "b"), ("a", "c"), ("b", "d"), ("d", "c"), ("c", "y")]
    graph = Graph.from_edges(edges, input_nodes=["x"], function_nodes=list("abcd"), output_nodes=["y"])
    made = pd.DataFrame(np.arange(30.0)[:, None])
    small = PerturbationData(graph, made.set_axis(["x"], axis=1), made.set_axis(["y"], axis=1))
    found = self_check(small, inferers={"noise": noise}, fraction=0.4, repeats=12, controls=())
    records = [record["conditions"]["real"] for record in found.repeats]
    assert {len(record["testable"]) for record in records} >= {1}
    empty = SelfCheck(
        found.settings, [{"repeat": 0, "conditions": {"real": {**records[0], "testable": [], "methods": {}}}}]
    )
    assert len(empty.table()) == len(empty.summary()) == len(empty.control_table()) == 0
    assert empty.precision("noise", [1, 2])["expected_precision"].isna().all()


def test_without_a_candidate_there_is_nothing_to_compare_with(fake_training):
    fake_training()
    edges = [("x", "a"), ("c", "y"), *((s, t) for s in "abc" for t in "abc" if s != t)]
    graph = Graph.from_edges(edges, input_nodes=["x"], function_nodes=list("abc"), output_nodes=["y"])
    values = pd.DataFrame(np.arange(30.0)[:, None])
    full = PerturbationData(graph, values.set_axis(["x"], axis=1), values.set_axis(["y"], axis=1))
    with pytest.raises(DataError, match="there is no candidate to compare hidden edges with"):
        self_check(full, inferers={"noise": noise}, fraction=0.2, repeats=1, controls=())


def test_other_roles_are_another_check(fake_training, tmp_path):
    fake_training()
    data = simulated(8)
    edges = sorted(edge for edge in data.graph.function_edges if edge[0] != edge[1])
    roles = {edge: ("early", "late")[i % 2] for i, edge in enumerate(edges)}
    options = {"inferers": {"noise": noise}, "stratify": "role", "folder": tmp_path, "controls": ()}
    first = self_check(data, repeats=1, roles=roles, **options)
    again = self_check(data, repeats=2, roles=dict(reversed(roles.items())), resume=True, **options)
    assert again.counts["n_distinct"] >= first.counts["n_distinct"] > 0, "the order of the roles does not matter"
    with pytest.raises(RunError, match="roles was"):
        self_check(data, repeats=2, roles={**roles, edges[0]: "late"}, resume=True, **options)


def test_a_method_that_was_not_scored_everywhere(check):
    first, second = check.repeats[0], check.repeats[1]
    real = second["conditions"]["real"]
    fewer = {name: record for name, record in real["methods"].items() if name != "noise"}
    partial = SelfCheck(
        {**check.settings, "controls": []},
        [
            {**first, "conditions": {"real": first["conditions"]["real"]}},
            {**second, "conditions": {"real": {**real, "methods": fewer}}},
        ],
    )
    alone = SelfCheck({**check.settings, "controls": []}, partial.repeats[:1])
    assert row(partial, "real", "noise").equals(row(alone, "real", "noise"))


def test_tables_that_cannot_get_a_precision(check):
    n = check.settings["n_candidates"]
    named = pd.DataFrame({"source": "a", "target": "b", "known": [False] * n + [True], "score": np.arange(n + 1.0)})
    found = attach_precision(named, check, "noise")
    assert np.isnan(found["expected_precision"].iloc[-1]), "of a known edge"
    assert found["precision_high"].iloc[:-1].notna().all()
    wide = found["precision_high"] - found["precision_low"] > 0.5 + 1e-9
    assert wide.iloc[-2], "of rank 1 nothing is known"
    assert found["expected_precision"].iloc[:-1].isna().equals(wide.iloc[:-1])
    with pytest.raises(DataError, match=r"no column of scores \(corr or score\)"):
        attach_precision(named.drop(columns="score"), check, "noise")
    with pytest.raises(DataError, match=r"no column of scores \(weight\)"):
        attach_precision(named, check, "noise", score_col="weight")
    assert "summary" not in SelfCheck(check.settings, []).content()


def test_a_damaged_file_is_told(tmp_path):
    with pytest.raises(RunError, match=r"has no selfcheck\.json"):
        SelfCheck.read(tmp_path)
    (tmp_path / "selfcheck.json").write_text("{")
    with pytest.raises(RunError, match="cannot be read"):
        SelfCheck.read(tmp_path)
    (tmp_path / "selfcheck.json").write_text('{"format": 99, "settings": {}, "repeats": []}')
    with pytest.raises(RunError, match=r"selfcheck\.json was written by a newer gsnn; update gsnn"):
        SelfCheck.read(tmp_path)


def test_with_a_real_model(data, config):
    found = self_check(data, config, {"magnitude": MagnitudeEdgeInferer}, repeats=1, fraction=0.2, seed=3)
    again = self_check(data, config, {"magnitude": MagnitudeEdgeInferer}, repeats=1, fraction=0.2, seed=3)
    pd.testing.assert_frame_equal(found.table(), again.table())
    losses = pd.DataFrame(found.repeats[0]["conditions"].values())[["validation_loss", "test_loss"]]
    assert losses["validation_loss"].isna().all(), "no part is watched, so all samples but the test's train"
    assert np.isfinite(losses["test_loss"]).all()
    assert losses["test_loss"].nunique() == 3
    watched = replace(config, validation=0.2, patience=9)
    record = self_check(
        data, watched, {"magnitude": MagnitudeEdgeInferer}, repeats=1, fraction=0.2, seed=3, controls=()
    )
    real = record.repeats[0]["conditions"]["real"]
    assert np.isfinite([real["validation_loss"], real["test_loss"]]).all()
    assert real["validation_loss"] != real["test_loss"]
    without = self_check(
        data, config, {"magnitude": MagnitudeEdgeInferer}, repeats=1, fraction=0.2, seed=3, controls=()
    )
    real = found.table()[found.table()["condition"] == "real"].reset_index(drop=True)
    pd.testing.assert_frame_equal(without.table(), real)


def test_too_few_layers_for_a_method(data, config):
    with pytest.raises(RunError, match="cannot score edges here: Need at least 2"):
        self_check(data, replace(config, layers=1), ["magnitude"], repeats=1)


@pytest.mark.slow
def test_planted_edges_are_found_and_controls_are_not():
    """So many are hidden that the controls have power: that they find nothing is told of what could be found."""
    from gsnn.training import TrainConfig

    settings = TrainConfig(
        epochs=10, channels=4, layers=6, batch_size=64, lr=5e-3, norm="none", dropout=0.0, weight_decay=0.0
    )
    found = self_check(simulated(30, samples=400), settings, ["magnitude"], fraction=0.3, repeats=4)
    for negatives in ("all", "degree-matched"):
        assert row(found, "real", "magnitude", negatives)["roc_auc"] > 0.95
        assert row(found, "real", "magnitude", negatives)["auc_low"] > 0.9
    controls = found.control_table()
    assert (controls[controls["negatives"] == "degree-matched"]["verdict"] == "passed").all()
    assert found.precision("magnitude", [5], widest=1.0)["expected_precision"][0] > 0.8
