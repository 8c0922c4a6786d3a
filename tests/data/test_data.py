from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from gsnn.base.errors import DataError
from gsnn.data import PerturbationData, Standardiser, build_data, standardise
from gsnn.io import Network, Responses, read_network, read_responses

FF, IF, FO = ("function", "to", "function"), ("input", "to", "function"), ("function", "to", "output")
CHAIN = [("a", "b", 1), ("b", "c", -1), ("c", "a", 0)]


def responses(treatments: dict, readouts: dict, **kwargs) -> Responses:
    return Responses(pd.DataFrame(treatments, dtype=float), pd.DataFrame(readouts, dtype=float), **kwargs)


def grid(n_conditions: int, repeats: int = 1) -> PerturbationData:
    a = np.repeat(np.arange(n_conditions, dtype=float), repeats)
    return build_data(Network.from_edges(CHAIN), responses({"a": a}, {"c": np.arange(len(a), dtype=float)}))


# ---------------------------------------------------------------- assembling


def test_every_species_stays_and_every_column_gets_its_edge():
    network = Network.from_edges(CHAIN, species=["lone"])
    data = build_data(network, responses({"a": [0, 1, 1], "bi": [0, 0, 1]}, {"c": [1, 2, 3], "a": [1, np.nan, 5]}))
    assert data.graph.inputs == ("TR:a", "TR:bi")
    assert data.graph.functions == ("a", "b", "c", "lone")
    assert data.graph.outputs == ("DV:c", "DV:a")
    index, sign = data.graph.edge_index_dict, data.graph.edge_sign_dict
    assert index[IF].tolist() == [[0, 1], [0, 1]]
    assert sign[IF].tolist() == [1, -1]
    assert index[FF].tolist() == [[0, 1, 2], [1, 2, 0]]
    assert sign[FF].tolist() == [1, -1, 0]
    assert index[FO].tolist() == [[2, 0], [0, 1]]
    assert data.x.dtype == data.y.dtype == np.float32
    np.testing.assert_array_equal(data.x, [[0, 0], [1, 0], [1, 1]])
    np.testing.assert_array_equal(data.y, [[1, 1], [2, np.nan], [3, 5]])
    assert str(data) == "3 samples, 2 inputs, 4 functions, 2 outputs, 1 missing value of 6"


def test_a_trailing_i_is_an_inhibitor_only_if_no_species_has_that_name():
    network = Network.from_edges([("raf", "rafi", 1), ("mek", "rafi", 1)])
    data = build_data(network, responses({"rafi": [0, 1, 1], "meki": [0, 1, 0]}, {"raf": [1, 2, 3]}))
    assert data.graph.edge_index_dict[IF].tolist() == [[0, 1], [1, 2]]
    assert data.graph.edge_sign_dict[IF].tolist() == [1, -1]


@pytest.mark.parametrize("header", ["TR:mek:Inhibitors", "TR:meki:Inhibitors", "TR:meki"])
def test_explicit_inhibitors(tmp_path, header):
    path = tmp_path / "d.csv"
    path.write_text(f"{header},DV:mek\n0,1\n1,2\n2,3\n")
    data = build_data(Network.from_edges([("mek", "erk")]), read_responses(path))
    assert data.graph.inputs == ("TR:meki",)
    assert data.graph.edge_sign_dict[IF].tolist() == [-1]
    assert data.sources["data"] == {"path": str(path), "sha256": read_responses(path).sha256["data"]}


def test_an_explicit_stimulus_is_never_an_inhibitor():
    with pytest.raises(DataError, match="'meki'"):
        build_data(
            Network.from_edges([("mek", "erk")]),
            responses({"meki": [0, 1, 2], "erk": [0, 1, 0]}, {"erk": [1, 2, 3]}, kinds={"meki": "stimulus"}),
        )


def test_self_edges_are_left_out_with_a_warning():
    data = build_data(Network.from_edges([*CHAIN, ("b", "b", 1)]), responses({"a": [0, 1, 2]}, {"c": [1, 2, 3]}))
    assert data.graph.self_edges == []
    assert any("self-edges of the prior network left out" in w for w in data.warnings)


def test_names_of_every_sort_go_through():
    names = ['"q"', "it's", "<b>", "x=y", "NA", "007", "a b", "β", "i"]
    network = Network.from_edges([(n, names[0], 1) for n in names[1:]])
    table = {n: [0, 1, 2] for n in names}
    data = build_data(network, responses(table, table))
    assert data.graph.inputs == tuple("TR:" + n for n in names)
    assert (data.graph.edge_sign_dict[IF] == 1).all()


def test_unmatched_names_are_all_listed_with_the_closest():
    network = Network.from_edges([("egfr", "mek12"), ("mek12", "erk12")])
    found = responses(
        {"egfr": [0, 1, 2], "MEK12i": [0, 0, 0], "zzz": [0, 0, 0]}, {"ERK12": [1, 2, 3], "erk12": [1, 2, 3]}
    )
    with pytest.raises(DataError) as caught:
        build_data(network, found)
    message = str(caught.value)
    assert "2 of 3 treatments" in message
    assert "1 of 2 readouts" in message
    assert "'MEK12i' - closest: 'mek12'" in message
    assert "'zzz'" in message
    assert "'ERK12' - closest: 'erk12'" in message
    data = build_data(network, found, on_unmatched="drop")
    assert (data.graph.inputs, data.graph.outputs) == (("TR:egfr",), ("DV:erk12",))
    assert any("left out" in w and "'zzz'" in w for w in data.warnings)
    with pytest.raises(ValueError, match="on_unmatched"):
        build_data(network, found, on_unmatched="ignore")


def test_nothing_shared():
    network = Network.from_edges([("egfr", "erk")])
    with pytest.raises(DataError, match=r"shares no identifier with the network: 1 of 1 treatment .*; check the names"):
        build_data(network, responses({"x": [0, 1, 2]}, {"y": [1, 2, 3]}))
    transposed = responses({"s1": [0, 1]}, {"s1": [0, 1]})
    transposed.treatments.index = ["egfr", "erk"]
    with pytest.raises(DataError, match="transposed"):
        build_data(network, transposed, on_unmatched="drop")
    with pytest.raises(DataError, match="no readout of responses is a species"):
        build_data(network, responses({"egfr": [0, 1, 2]}, {"y": [1, 2, 3]}), on_unmatched="drop")


def test_a_species_named_like_an_input():
    with pytest.raises(DataError, match=r"named like the inputs or outputs.*'TR:a'"):
        build_data(Network.from_edges([("a", "TR:a")]), responses({"a": [0, 1, 2]}, {"a": [1, 2, 3]}))
    data = build_data(Network.from_edges([("a", "TR:b")]), responses({"a": [0, 1, 2]}, {"a": [1, 2, 3]}))
    assert data.graph.functions == ("a", "TR:b")


def test_two_columns_for_one_input():
    found = responses({"meki": [0, 1, 2], "mekii": [0, 1, 2]}, {"mek": [1, 2, 3]}, kinds={"mekii": "inhibitor"})
    with pytest.raises(DataError, match=r"same input: 'TR:meki'"):
        build_data(Network.from_edges([("mek", "erk")]), found)


def test_too_few_samples():
    with pytest.raises(DataError, match=r"2 usable samples.*at least 3"):
        build_data(Network.from_edges(CHAIN), responses({"a": [0, 1]}, {"c": [1, 2]}))
    found = responses({"a": [0, 1, 2]}, {"c": [1, 2, np.nan]}, n_baseline=4)
    with pytest.raises(DataError, match="2 usable samples after 4 baseline rows"):
        build_data(Network.from_edges(CHAIN), found)


def test_odd_columns_and_unreachable_outputs_are_warnings():
    network = Network.from_edges([("a", "b"), ("c", "d")])
    readouts = {"b": [1, 2, 3, np.nan], "d": [1, 2, 3, np.nan], "a": [np.nan] * 4, "c": [5, 5, np.nan, np.nan]}
    data = build_data(network, responses({"a": [1, 2, 3, 4], "b": [1, 1, 1, 1]}, readouts))
    text = "\n".join(data.warnings)
    assert len(data) == 3
    assert "1 sample without any measured readout left out" in text
    assert "1 input the same in every sample, so that nothing can be learnt about it: 'TR:b'" in text
    assert "1 output never measured: 'DV:a'" in text
    assert "1 output the same wherever it was measured: 'DV:c'" in text
    assert any("output" in w and "no input reaches" in w and "DV:d" in w for w in data.warnings)


def test_data_checks_itself():
    data = grid(6)
    with pytest.raises(DataError, match="columns of inputs"):
        PerturbationData(data.graph, data.outputs, data.outputs)
    with pytest.raises(DataError, match="6 rows and outputs 5"):
        PerturbationData(data.graph, data.inputs, data.outputs.iloc[1:])
    with pytest.raises(DataError, match="missing or infinite"):
        PerturbationData(data.graph, data.inputs * np.nan, data.outputs)
    with pytest.raises(DataError, match="one row per sample"):
        responses({"a": [1, 2]}, {"b": [1, 2, 3]})


def test_lembas_matrices(gsnn_data):
    folder = gsnn_data / "lembas_ligandscreen"
    if not folder.is_dir():
        pytest.skip("no LEMBAS set")
    found = read_responses(inputs=folder / "ligandScreen-Ligands.tsv", outputs=folder / "ligandScreen-TFs.tsv")
    data = build_data(read_network(folder / "ligandScreen-Model.tsv"), found)
    assert (data.graph.I, data.graph.N, data.graph.O, len(data)) == (60, 1262, 74, 103)
    assert data.graph.E == 6594 + 60 + 74
    reference = pd.read_csv(folder / "ligandScreen-TFs.tsv", sep="\t", index_col=0)
    np.testing.assert_array_equal(data.outputs.to_numpy(), reference.to_numpy())


# ---------------------------------------------------------------- splitting


@pytest.mark.parametrize("n_conditions", [5, 7, 25, 64])
@pytest.mark.parametrize("repeats", [1, 3])
@pytest.mark.parametrize("seed", [0, 1, np.random.default_rng(2)])
def test_split_by_condition(n_conditions, repeats, seed):
    data = grid(n_conditions, repeats)
    split = data.split(seed)
    parts = [split.train, split.validation, split.test]
    assert sorted(np.concatenate(parts)) == list(range(len(data)))
    rows = [{tuple(r) for r in data.x[p]} for p in parts]
    assert sum(map(len, rows)) == len(set.union(*rows))
    assert len(rows[2]) == max(1, int(0.2 * n_conditions + 0.5))
    assert len(rows[1]) == max(1, int(0.1 * n_conditions + 0.5))
    assert all(p.dtype == np.int64 and (np.diff(p) > 0).all() for p in parts)
    assert (split.by, split.warnings) == ("condition", [])


@pytest.mark.parametrize(("n_conditions", "repeats"), [(1, 3), (4, 1), (2, 10)])
def test_few_conditions_are_split_by_sample(n_conditions, repeats):
    data = grid(n_conditions, repeats)
    split = data.split()
    assert split.by == "sample"
    assert "split by sample" in split.warnings[0]
    assert min(len(split.train), len(split.validation), len(split.test)) >= 1
    assert sorted([*split.train, *split.validation, *split.test]) == list(range(len(data)))


def test_split_is_repeatable_and_blind_to_row_order():
    data = grid(12, 2)
    first, again, other = data.split(3), data.split(3), data.split(4)
    np.testing.assert_array_equal(first.test, again.test)
    assert first.test.tolist() != other.test.tolist()
    order = np.random.default_rng(0).permutation(len(data))
    shuffled = PerturbationData(data.graph, data.inputs.iloc[order], data.outputs.iloc[order])
    assert set(data.x[first.test].ravel()) == set(shuffled.x[shuffled.split(3).test].ravel())


def test_rows_the_model_cannot_tell_apart_are_one_condition():
    a = [0.0, -0.0, 1.0, 1.0 + 1e-12, 2, 3, 4]
    data = build_data(Network.from_edges(CHAIN), responses({"a": a}, {"c": np.arange(7)}))
    for seed in range(20):
        split = data.split(seed)
        assert split.by == "condition"
        for part in (split.train, split.validation, split.test):
            assert len({0, 1} & set(part)) != 1
            assert len({2, 3} & set(part)) != 1


def test_shares_of_nothing_and_too_much():
    split = grid(10).split(test=0, validation=0)
    assert (len(split.train), len(split.validation), len(split.test)) == (10, 0, 0)
    with pytest.raises(ValueError, match="nothing to train on"):
        grid(10).split(test=0.6, validation=0.4)
    with pytest.raises(ValueError, match="test must be a share"):
        grid(10).split(test=2)


# ---------------------------------------------------------------- standardising


def test_standardiser_against_a_loop():
    rng = np.random.default_rng(0)
    y = rng.normal(3, 2, (40, 5)) * [1, 10, 1e-3, 1, 1e6]
    y[rng.random(y.shape) < 0.3] = np.nan
    standardiser = Standardiser.fit(y)
    for j in range(5):
        seen = y[~np.isnan(y[:, j]), j]
        assert standardiser.mean[j] == pytest.approx(sum(seen) / len(seen))
        assert standardiser.scale[j] == pytest.approx(
            (sum((v - sum(seen) / len(seen)) ** 2 for v in seen) / (len(seen) - 1)) ** 0.5 + 1e-8
        )
    z = standardiser.transform(y)
    np.testing.assert_array_equal(np.isnan(z), np.isnan(y))
    np.testing.assert_allclose(np.nanmean(z, axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(standardiser.inverse_transform(z), y)


def test_standardiser_far_from_zero():
    # The textbook formula E[y^2] - E[y]^2 has no digit left here.
    y = 1e8 + np.array([[0.0], [1], [2]])
    assert np.mean(y**2) - np.mean(y) ** 2 != pytest.approx(2 / 3, rel=1e-3)
    assert Standardiser.fit(y).scale[0] == pytest.approx(1, rel=1e-7)


def test_standardiser_of_degenerate_columns():
    nan = np.nan
    standardiser = Standardiser.fit([[0.1, nan, 7], [0.1, nan, nan], [0.1, nan, nan]])
    assert standardiser.scale[[0, 2]].tolist() == [1, 1]
    assert np.isnan(standardiser.mean[1])
    np.testing.assert_array_equal(standardiser.transform([[0.1, 2, 8]]), [[0, nan, 1]])
    assert np.isnan(Standardiser.fit(np.empty((0, 2))).scale).all()


def test_standardiser_keeps_the_type_and_round_trips():
    standardiser = Standardiser.fit(np.array([[1, nan, 3], [2, nan, 5]]) if (nan := np.nan) else None)
    assert standardiser.transform(np.ones((2, 3), np.float32)).dtype == np.float32
    again = Standardiser.from_dict(json.loads(json.dumps(standardiser.to_dict(), allow_nan=False)))
    np.testing.assert_array_equal(again.mean, standardiser.mean)
    np.testing.assert_array_equal(again.scale, standardiser.scale)


def test_standardiser_refuses():
    with pytest.raises(ValueError, match=r"\(M, O\)"):
        Standardiser.fit([1.0, 2.0])
    with pytest.raises(ValueError, match="2 columns"):
        Standardiser.fit([[1.0, 2], [3, 4]]).transform([[1.0]])
    with pytest.raises(ValueError, match="one length"):
        Standardiser(np.zeros(2), np.ones(3))
    with pytest.raises(ValueError, match="needs 'mean' and 'scale'"):
        Standardiser.from_dict({"mean": [0.0]})


def test_standardise_uses_the_training_scale():
    rng = np.random.default_rng(1)
    train, test = rng.normal(2, 3, (50, 3)), rng.normal(2, 3, (9, 3))
    a, b = standardise(train, test)
    scale = train.std(axis=0, ddof=1) + 1e-8
    np.testing.assert_allclose(a, (train - train.mean(axis=0)) / scale)
    np.testing.assert_allclose(b, (test - train.mean(axis=0)) / scale)
