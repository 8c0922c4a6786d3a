"""The scikit-learn estimator: its contract, its numbers, and that it fits into scikit-learn's tools."""

from __future__ import annotations

import pickle
import random

import numpy as np
import pandas as pd
import pytest
import torch

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import gsnn
from gsnn.data import PerturbationData
from gsnn.discovery.methods import METHODS
from gsnn.graph import Graph
from gsnn.nn import GSNN
from gsnn.nn.losses import masked_mse
from gsnn.sklearn import GSNNRegressor
from gsnn.training import TrainConfig, fit, predict, train_model
from gsnn.training.loop import build_model

# Checks of scikit-learn that cannot hold, with the reason; none at present.
EXPECTED_FAILED_CHECKS: dict[str, str] = {}

GRAPH = Graph.from_edges(
    [("TR:a", "a"), ("TR:b", "b"), ("a", "c"), ("b", "c"), ("c", "d"), ("c", "DV:c"), ("d", "DV:d")],
    input_nodes=["TR:a", "TR:b"],
    function_nodes=["a", "b", "c", "d"],
    output_nodes=["DV:c", "DV:d"],
)


def samples(n=40, seed=0, missing=0.0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2))
    y = np.stack([np.tanh(x[:, 0] + x[:, 1]), 5 + 3 * np.tanh(x[:, 0] - 0.5)], 1) + 0.05 * rng.normal(size=(n, 2))
    y[rng.random(y.shape) < missing] = np.nan
    return pd.DataFrame(x, columns=GRAPH.inputs), pd.DataFrame(y, columns=GRAPH.outputs)


def small(graph=GRAPH, **changes):
    settings = {"channels": 3, "layers": 3, "epochs": 5, "batch_size": 8, "dropout": 0.0, "lr": 1e-2, "random_state": 0}
    return GSNNRegressor(graph, **{**settings, **changes})


@pytest.mark.slow
@parametrize_with_checks(
    [GSNNRegressor(channels=4, layers=2, epochs=10, batch_size=40, lr=5e-2, dropout=0.0, random_state=0)],
    expected_failed_checks=lambda _: EXPECTED_FAILED_CHECKS,
)
def test_scikit_learn_contract(estimator, check):
    check(estimator)


class TestNumbers:
    def test_is_the_training_of_the_library(self):
        """The same arrays through `train_model` give the same weights and predictions."""
        X, y = samples(missing=0.2)
        model = small().fit(X, y)
        config = TrainConfig(channels=3, layers=3, epochs=5, batch_size=8, dropout=0.0, lr=1e-2, seed=0)
        seen = y.notna().any(axis=1).to_numpy()
        values = y.to_numpy()
        mean, scale = np.nanmean(values[seen], 0), np.nanstd(values[seen], 0, ddof=1) + 1e-8
        by_hand = build_model(lambda: GSNN.from_graph(GRAPH, **config.model_options()), 0)
        x = X.to_numpy(np.float32)
        train_model(by_hand, (x[seen], ((values - mean) / scale)[seen]), None, config)
        np.testing.assert_allclose(model.predict(X), predict(by_hand, x) * scale + mean, rtol=1e-6)
        assert len(model.history_) == 5
        assert model.seed_ == 0

    def test_the_watched_part_is_that_of_the_library(self):
        X, y = samples()
        model = small(patience=2, restore_best=True, epochs=30, lr=0.3, validation=0.25, random_state=3).fit(X, y)
        split = PerturbationData(GRAPH, X, y).split(3, test=0.0, validation=0.25)
        watched = model.standardiser_.transform(y.to_numpy())[split.validation]
        prediction = predict(model.model_, X.to_numpy()[split.validation])
        loss = float(np.mean((prediction - watched) ** 2))
        assert loss == pytest.approx(model.history_["val_loss"].min(), rel=1e-4)
        np.testing.assert_allclose(model.standardiser_.mean, y.to_numpy()[split.train].mean(0))

    @pytest.mark.slow
    def test_learns_and_loses_no_unit(self):
        X, y = samples(200)
        model = small(epochs=60, batch_size=32, lr=3e-2).fit(X, y)
        X_new, y_new = samples(100, seed=1)
        assert model.score(X_new, y_new) > 0.9
        assert abs(model.predict(X_new)[:, 1].mean() - y_new["DV:d"].mean()) < 0.5

    def test_score_is_r2_over_what_was_observed(self):
        X, y = samples(60)
        model = small().fit(X, y)
        assert model.score(X, y) == pytest.approx(r2_score(y, model.predict(X)))
        gaps = y.mask(np.random.default_rng(1).random(y.shape) < 0.3)
        each = [r2_score(gaps[c].dropna(), model.predict(X)[gaps[c].notna(), i]) for i, c in enumerate(gaps)]
        assert model.score(X, gaps) == pytest.approx(np.mean(each))
        gaps["DV:c"] = 1.0  # without variance: no R2, not an R2 of 0
        assert model.score(X, gaps) == pytest.approx(each[1])
        assert np.isnan(model.score(X, gaps.assign(**{"DV:d": np.nan})))

    def test_a_readout_that_was_never_measured_is_predicted_by_nan(self):
        X, y = samples()
        found = small().fit(X, y.assign(**{"DV:c": np.nan})).predict(X)
        assert np.isnan(found[:, 0]).all()
        assert np.isfinite(found[:, 1]).all()

    def test_without_a_graph_every_input_acts_on_every_readout(self):
        X, y = samples()
        model = small(None).fit(X.to_numpy(), y.to_numpy())
        assert (model.graph_.I, model.graph_.N, model.graph_.O) == (2, 4, 2)
        assert model.graph_.function_edges == [("f0", "g0"), ("f0", "g1"), ("f1", "g0"), ("f1", "g1")]
        assert model.graph_.summary().warnings == []

    def test_the_default_settings_are_those_of_the_training(self):
        given = GSNNRegressor().get_params()
        defaults = TrainConfig().to_dict()
        assert {name: given[name] for name in given if name in defaults} == {
            name: value for name, value in defaults.items() if name in given
        }
        assert set(defaults) - set(given) == {"drop_last", "seed", "split_seed", "test"}


class TestNames:
    def test_columns_go_by_name_in_any_order(self):
        X, y = samples()
        model = small().fit(X, y)
        turned = small().fit(X[["TR:b", "TR:a"]], y[["DV:d", "DV:c"]])
        assert turned.output_names_.tolist() == ["DV:d", "DV:c"]
        np.testing.assert_array_equal(turned.predict(X[["TR:b", "TR:a"]]), model.predict(X)[:, ::-1])
        assert turned.score(X[["TR:b", "TR:a"]], y) == pytest.approx(model.score(X, y))
        with pytest.raises(ValueError, match="feature names should match"):
            turned.predict(X)

    def test_arrays_go_by_position(self):
        X, y = samples()
        assert small().fit(X.to_numpy(), y.to_numpy()).score(X.to_numpy(), y) == small().fit(X, y).score(X, y)

    def test_one_readout_may_be_flat(self):
        graph = Graph.from_edges([("x", "a"), ("a", "y")], input_nodes=["x"], function_nodes=["a"], output_nodes=["y"])
        X, y = samples()
        model = small(graph).fit(X[["TR:a"]].to_numpy(), y["DV:d"])
        assert model.predict(X[["TR:a"]].to_numpy()).shape == (40,)
        assert small(graph).fit(X[["TR:a"]].to_numpy(), y[["DV:d"]].to_numpy()).predict(
            X[["TR:a"]].to_numpy()
        ).shape == (40, 1)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda X, y: (X.rename(columns={"TR:a": "TR:aa"}), y), r"X lacks 1 of the 2 inputs: 'TR:a' and has"),
            (lambda X, y: (X.rename(columns={"TR:a": "TR:aa"}), y), r"are none: 'TR:aa' \(did you mean 'TR:a'\?\)"),
            (lambda X, y: (X.assign(more=1.0), y), r"X has columns that are none: 'more'"),
            (lambda X, y: (X.to_numpy()[:, :1], y), r"X must have a column for each of the 2 inputs, got 1 columns"),
            (lambda X, y: (X, y[["DV:c"]]), r"y lacks 1 of the 2 outputs: 'DV:d'"),
            (lambda X, y: (X, y.to_numpy()[:, 0]), r"y must have a column for each of the 2 outputs, got 1"),
            (
                lambda X, y: (X, y.set_axis(["DV:c", "DV:c"], axis=1)),
                r"(columns of the same name: 'DV:c'|unique column names)",
            ),
            (lambda X, y: (X.mask(X > 1), y), r"Input X contains NaN"),
            (lambda X, y: (X, y * np.nan), r"y holds no measured response"),
            (lambda X, y: (X, y.iloc[:-1]), r"inconsistent numbers of samples"),
            (lambda X, y: (X.iloc[:1], y.iloc[:1]), r"1 sample"),
        ],
    )
    def test_refusals(self, change, message):
        with pytest.raises(ValueError, match=message):
            small().fit(*change(*samples()))

    @pytest.mark.parametrize(
        ("settings", "error", "message"),
        [
            ({"epochs": 0}, ValueError, "epochs must be at least 1"),
            ({"norm": "layr"}, ValueError, "did you mean 'layer'"),
            ({"random_state": -1}, ValueError, "random_state must be at least 0, got -1"),
            ({"random_state": "a"}, TypeError, "random_state must be an int"),
            ({"validation": 1.5}, ValueError, "validation must be a fraction"),
        ],
    )
    def test_bad_parameters_are_refused_by_fit(self, settings, error, message):
        with pytest.raises(error, match=message):
            small(**settings).fit(*samples())


class TestTools:
    @pytest.mark.slow
    def test_cross_validation_pipeline_and_grid(self):
        X, y = samples(60, missing=0.1)
        pipeline = make_pipeline(
            StandardScaler().set_output(transform="pandas"), small(epochs=20, lr=3e-2, batch_size=20)
        )
        scores = cross_val_score(pipeline, X, y, cv=3)
        assert scores.shape == (3,)
        assert (scores > 0.3).all()
        groups = np.arange(60) // 5
        assert cross_val_score(small(epochs=1), X, y, cv=GroupKFold(3), groups=groups).shape == (3,)
        search = GridSearchCV(
            pipeline, {"gsnnregressor__epochs": np.array([1, 20]), "gsnnregressor__channels": [2]}, cv=2
        )
        search.fit(X, y)
        assert search.best_params_["gsnnregressor__epochs"] == 20
        assert len(search.best_estimator_[-1].history_) == 20
        np.testing.assert_allclose(search.predict(X), search.best_estimator_.predict(X))

    def test_clone_parameters_and_pickle(self):
        X, y = samples()
        model = small().fit(X, y)
        again = clone(model)
        assert again.graph.equals(GRAPH)
        with pytest.raises(NotFittedError):
            again.predict(X)
        assert again.get_params()["epochs"] == 5
        assert again.set_params(epochs=2, norm="none").fit(X, y).history_.shape[0] == 2
        copy = pickle.loads(pickle.dumps(model))
        np.testing.assert_array_equal(copy.predict(X), model.predict(X))
        pd.testing.assert_frame_equal(copy.infer_edges(X, y), model.infer_edges(X, y))

    @pytest.mark.slow
    def test_random_state(self):
        X, y = samples()
        first = small(random_state=None).fit(X, y)
        np.testing.assert_array_equal(small(random_state=first.seed_).fit(X, y).predict(X), first.predict(X))
        assert small(random_state=None).fit(X, y).seed_ != first.seed_
        for make in (np.random.RandomState, np.random.default_rng):
            assert small(random_state=make(4)).fit(X, y).seed_ == small(random_state=make(4)).fit(X, y).seed_
        assert small(random_state=np.int64(3)).fit(X, y).seed_ == 3

    def test_global_generators_stay_as_they_are(self):
        X, y = samples()
        before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
        model = small(random_state=None, dropout=0.2).fit(X, y)
        model.infer_edges(X, y)
        assert torch.equal(torch.get_rng_state(), before[0])
        np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
        assert random.getstate() == before[2]

    def test_is_quiet_unless_asked(self, capfd):
        X, y = samples()
        small().fit(X, y)
        assert capfd.readouterr() == ("", "")

    def test_is_public(self):
        assert gsnn.GSNNRegressor is GSNNRegressor


# Methods that train something of their own for each table.
TRAINED = {"stacked", "stability", "structure", "embedding", "embedding-directed"}


class TestEdges:
    @pytest.mark.parametrize(
        "method", [pytest.param(name, marks=[pytest.mark.slow] * (name in TRAINED)) for name in METHODS]
    )
    def test_the_table_is_that_of_the_inferer(self, method):
        X, y = samples(60, missing=0.1)
        turned = X[["TR:b", "TR:a"]], y[["DV:d", "DV:c"]]
        model = small().fit(*turned)
        x = torch.tensor(X.to_numpy(np.float32))
        t = torch.tensor(model.standardiser_.transform(y.to_numpy())).float()
        settings = {name: value for name, value in model.get_params().items() if name in TrainConfig.__annotations__}
        train = TrainConfig(**settings, seed=0)
        inferer = METHODS[method].make(model.early_model_, GRAPH, {"train": train})
        inferer.fit([(x, t)], crit=masked_mse, verbose=False)
        expected = inferer.evaluate(**METHODS[method].options)
        expected = expected[~expected["has_edge"]]
        found = model.infer_edges(*turned, method)
        assert found["source"].tolist() == expected["src_func"].tolist()
        np.testing.assert_allclose(found["score"], expected[inferer.score_name], rtol=1e-6)
        assert found["rank"].tolist() == list(range(1, len(found) + 1))
        assert len(model.infer_edges(*turned, method, top=2)) == 2
        assert model.infer_edges(*turned, method, known=True)["known"].sum() == 3

    def test_fits_what_the_command_line_would(self):
        """One seed gives `gsnn.training.fit` and the estimator, fed with its training part, the same model."""
        X, y = samples()
        config = TrainConfig(channels=3, layers=3, epochs=5, batch_size=8, dropout=0.0, lr=1e-2, seed=2)
        whole = fit(PerturbationData(GRAPH, X, y), config, progress=False)
        model = small(random_state=2).fit(X.iloc[whole.split.train], y.iloc[whole.split.train])
        for name, value in whole.model.state_dict().items():
            # The responses there are float32 before they are standardised, here after.
            torch.testing.assert_close(model.model_.state_dict()[name], value, rtol=1e-4, atol=1e-5)

    def test_refusals(self):
        X, y = samples()
        with pytest.raises(NotFittedError):
            small().infer_edges(X, y)
        model = small().fit(X, y)
        with pytest.raises(ValueError, match="did you mean 'magnitude'"):
            model.infer_edges(X, y, "magnitud")
        with pytest.raises(ValueError, match="top must be at least 1"):
            model.infer_edges(X, y, top=0)
        with pytest.raises(ValueError, match="pass graph="):
            small(None).fit(X, y).infer_edges(X, y)
        with pytest.raises(ValueError, match="same number of samples, got 40 and 39"):
            model.infer_edges(X, y.iloc[1:])
