from __future__ import annotations

import logging
import random
import signal
import warnings

import lightning as L
import numpy as np
import pandas as pd
import pytest
import torch

from gsnn.base.errors import DataError, GsnnError, RunError
from gsnn.data import PerturbationData, Split
from gsnn.nn import GSNN
from gsnn.runs import Run
from gsnn.training import Batches, GSNNModule, TrainConfig, TrainingError, fit, predict, train_model
from gsnn.training.baselines import pooled_r2
from gsnn.training.loop import build_model


def bits(model: torch.nn.Module) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in model.state_dict().items()}


def rows(history: pd.DataFrame) -> list[bytes]:
    return [history[name].to_numpy().tobytes() for name in history if name != "seconds"]


def test_repeats_bit_for_bit_whatever_the_global_generators(data, new_config):
    first = fit(data, new_config(), progress=False)
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002 - the point of the test
    second = fit(data, new_config(), progress=False)
    assert bits(first.model) == bits(second.model)
    assert rows(first.history) == rows(second.history)
    pd.testing.assert_frame_equal(first.report.readouts, second.report.readouts)
    assert bits(fit(data, new_config(seed=6), progress=False).model) != bits(first.model)


def test_split_seed_fixes_the_split_alone(data, new_config):
    results = [fit(data, new_config(epochs=1, seed=seed, split_seed=3), progress=False) for seed in (1, 2)]
    assert results[0].split.test.tolist() == results[1].split.test.tolist()
    assert bits(results[0].model) != bits(results[1].model)


def test_leaves_the_world_as_it_was(data, new_config, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    fit(data, new_config(epochs=1), progress=False)  # imports are done
    capfd.readouterr()
    generator = torch.default_generator.get_state()
    state, plain = np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    filters, handler = list(warnings.filters), signal.getsignal(signal.SIGINT)
    loggers = {name: logging.getLogger(name).level for name in logging.root.manager.loggerDict}
    threads, grad = torch.get_num_threads(), torch.is_grad_enabled()
    fit(data, new_config(patience=1), progress=False)
    assert torch.equal(torch.default_generator.get_state(), generator)
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002
    assert random.getstate() == plain
    assert warnings.filters == filters
    assert signal.getsignal(signal.SIGINT) is handler
    assert {name: logging.getLogger(name).level for name in loggers} == loggers
    assert (torch.get_num_threads(), torch.is_grad_enabled()) == (threads, grad)
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr() == ("", "")


def test_progress_writes_nothing_but_lines_to_a_pipe(data, new_config, capfd):
    fit(data, new_config(epochs=1), progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "\x1b" not in err
    assert "\r" not in err


def test_progress_lines_in_a_pipe_and_a_bar_on_a_terminal(data, new_config, monkeypatch, capfd):
    monkeypatch.setattr("gsnn.base.progress.INTERVAL", 0.0)
    fit(data, new_config(epochs=2, patience=2), progress=True)
    lines = capfd.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == ["epoch 1 of 2", "epoch 2 of 2"]
    assert all("train loss" in line and "validation loss" in line for line in lines)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    fit(data, new_config(epochs=2), progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "epoch" in err
    assert "2/2" in err


def test_missing_responses_change_nothing_but_themselves(new_data, new_config):
    # A readout that is missing in half of the samples: whatever stands behind the gaps must not matter.
    data = new_data(missing=0.4)
    assert data.outputs.isna().to_numpy().any()
    result = fit(data, new_config(), progress=False)
    assert np.isfinite(result.history["train_loss"]).all()
    assert all(torch.isfinite(p).all() for p in result.model.parameters())
    expected = np.nanmean(data.y[result.split.train].astype(float), 0)
    np.testing.assert_allclose(result.standardiser.mean, expected, rtol=1e-6)


def test_conditions_are_held_out_for_validation_only_where_they_decide(data, new_config):
    drawn = data.split(seed=5, test=0.2, validation=0.1)
    plain = fit(data, new_config(epochs=2), progress=False)
    assert len(plain.split.validation) == 0
    assert plain.split.train.tolist() == sorted([*drawn.train, *drawn.validation])
    assert plain.best_epoch is None
    assert plain.history[["val_loss", "val_r2"]].isna().all(axis=None)
    for watching in ({"patience": 5}, {"restore_best": True}):
        watched = fit(data, new_config(epochs=2, **watching), progress=False)
        for part in ("train", "validation"):
            assert getattr(watched.split, part).tolist() == getattr(drawn, part).tolist()
        assert np.isfinite(watched.history["val_loss"]).all()
    # Whoever names a validation part has it watched.
    named = fit(data, new_config(epochs=2), split=drawn, progress=False)
    assert np.isfinite(named.history["val_loss"]).all()
    # All of them are tested alike.
    for result in (plain, watched, named):
        assert result.split.test.tolist() == drawn.test.tolist()


def test_a_run_of_a_version_that_held_validation_out_goes_on_with_its_own_parts(data, new_config, tmp_path):
    drawn = data.split(seed=5, test=0.2, validation=0.1)
    whole = fit(data, new_config(epochs=4), split=drawn, progress=False)
    config = new_config(epochs=2)
    run = Run.create(tmp_path / "run", config=config, data=data)
    fit(data, config, run, split=drawn, progress=False)
    result = fit(data, new_config(epochs=4), Run.open(tmp_path / "run"), resume=True, progress=False)
    assert bits(result.model) == bits(whole.model)
    assert result.split.validation.tolist() == drawn.validation.tolist()
    assert Run.open(tmp_path / "run").split().validation.tolist() == drawn.validation.tolist()


def test_validation_figures_match_a_loop(new_data, new_config):
    data = new_data(missing=0.3)
    config = new_config(epochs=3, validation=0.3, patience=3)
    result = fit(data, config, progress=False)
    x = data.x[result.split.validation]
    y = result.standardiser.transform(data.y)[result.split.validation].astype(float)
    prediction = predict(result.model, x)
    total = sum(
        (prediction[i, j] - y[i, j]) ** 2 for i in range(len(y)) for j in range(y.shape[1]) if not np.isnan(y[i, j])
    )
    assert result.history["val_loss"].iloc[-1] == pytest.approx(total / y.size, rel=1e-5)
    assert result.history["val_r2"].iloc[-1] == pytest.approx(pooled_r2(y, prediction), rel=1e-4)


def test_test_samples_never_reach_training(new_data, new_config):
    data = new_data()
    test = data.split(seed=5, test=0.2, validation=0.1).test
    outputs = data.outputs.copy()
    outputs.iloc[test] = outputs.iloc[test] * 100 - 7
    changed = PerturbationData(data.graph, data.inputs, outputs)
    a, b = (fit(d, new_config(epochs=2, patience=1, restore_best=True), progress=False) for d in (data, changed))
    assert a.split.test.tolist() == test.tolist()
    assert bits(a.model) == bits(b.model)
    assert a.report.summary.loc["model", "mse"] != b.report.summary.loc["model", "mse"]


def test_restores_the_best_epoch(data, new_config):
    config = new_config(epochs=12, lr=0.5, validation=0.3)
    result = fit(data, new_config(**{**config.to_dict(), "restore_best": True}), progress=False)
    losses = result.history["val_loss"]
    best = int(losses.idxmin()) + 1
    assert best < 12, "the settings of the test must overshoot"
    assert (result.best_epoch, result.kept_epoch) == (best, best)
    # Training for exactly that long ends with the same weights.
    shorter = fit(data, new_config(**{**config.to_dict(), "epochs": best}), split=result.split, progress=False)
    assert bits(shorter.model) == bits(result.model)


def test_stops_early(data, new_config):
    result = fit(data, new_config(epochs=50, lr=0.5, patience=3), progress=False)
    losses = result.history["val_loss"].to_numpy()
    best, wait = np.inf, 0
    waits = []
    for loss in losses:
        wait = 0 if loss < best else wait + 1
        best = min(best, loss)
        waits.append(wait)
    assert waits.index(3) == len(losses) - 1 < 49
    assert result.stopped_early
    assert result.kept_epoch == len(losses)


def test_learns_and_beats_the_mean(new_data):
    data = new_data(samples=120, missing=0.0)
    result = fit(data, TrainConfig(epochs=40, channels=4, layers=4), progress=False)
    assert result.report.summary.loc["model", "pooled_r2"] > 0.9
    assert result.report.summary.loc["mean", "pooled_r2"] < 0.1
    assert not result.model.training


def test_follows_adamw_step_by_step(data):
    """The loop is AdamW on the masked loss over the stated batches, nothing else."""
    config = TrainConfig(epochs=3, channels=2, layers=2, norm="none", batch_size=4, lr=1e-2, dropout=0.0)
    x, y = data.x, data.y

    def make() -> GSNN:
        return GSNN.from_graph(data.graph, **config.model_options())

    trained = train_model(build_model(make, 0), (x, y), None, config)
    model = build_model(make, 0).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=config.weight_decay)
    batches = Batches(torch.tensor(x), torch.tensor(y), 4, seed=0)
    for epoch in range(3):
        batches.epoch = epoch
        for bx, by in batches:
            seen = ~by.isnan()
            loss = ((model(bx) - by.nan_to_num()) ** 2)[seen].sum() / by.numel()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(trained.model.state_dict()[name], value, rtol=1e-5, atol=1e-6)
    assert trained.best_epoch is None
    assert trained.history["val_loss"].isna().all()


@pytest.mark.parametrize(("samples", "size", "sizes"), [(5, 2, [2, 3]), (6, 2, [2] * 3), (1, 2, [1]), (7, 4, [4, 3])])
def test_batches_merge_a_single_last_row(samples, size, sizes):
    x = torch.arange(float(samples))[:, None]
    batches = Batches(x, x, size, seed=1)
    drawn = [bx for bx, _ in batches]
    assert [len(bx) for bx in drawn] == sizes
    assert len(batches) == len(sizes)
    assert sorted(torch.cat(drawn).ravel().tolist()) == list(range(samples))
    assert [len(bx) for bx, _ in Batches(x, x, size, drop_last=True)] == [size] * (samples // size)


def test_batches_depend_on_seed_and_epoch_only():
    x = torch.arange(30.0)[:, None]

    def order(seed: int, epoch: int) -> list[float]:
        batches = Batches(x, x, 7, seed=seed)
        batches.epoch = epoch
        return torch.cat([bx for bx, _ in batches]).ravel().tolist()

    assert order(1, 4) == order(1, 4)
    assert len({tuple(order(*p)) for p in [(1, 4), (1, 5), (2, 4)]}) == 3


def test_batch_norm_trains_with_a_remainder_of_one(new_data, new_config):
    data = new_data(samples=11)  # 11 - 2 = 9 training samples: 4 + 5
    result = fit(data, new_config(norm="batch", epochs=1), progress=False)
    assert len(result.split.train) % 4 == 1


def test_stops_where_the_loss_is_not_finite(new_data, new_config):
    data = new_data(missing=0.0)
    outputs = data.outputs.copy()
    outputs.iloc[:, 0] *= 1e19  # squares overflow float32 only through the learning rate below
    with pytest.raises(TrainingError, match=r"became (nan|inf).*epoch \d+.*lower lr") as caught:
        fit(PerturbationData(data.graph, data.inputs, outputs), new_config(lr=1e30, norm="none"), progress=False)
    assert isinstance(caught.value, GsnnError)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # Lightning's, about itself
def test_names_epoch_and_batch_of_a_bad_loss(data, new_config):
    module = GSNNModule(GSNN.from_graph(data.graph, 2, 2))
    y = torch.tensor(data.y)
    y[9] = float("inf")
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with pytest.raises(TrainingError, match="became inf in epoch 1, batch 3;"):
        trainer.fit(module, Batches(torch.tensor(data.x), y, 4))


@pytest.mark.parametrize("watched", [False, True])
def test_ctrl_c_comes_out_as_itself(data, new_config, monkeypatch, watched):
    """From Lightning's loop, which ends the program instead, and from the plain one."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    handler = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(GSNN, "forward", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit(data, new_config(patience=2 if watched else None), progress=False)
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_readout_without_training_values_is_left_out(new_data, new_config):
    data = new_data(missing=0.0)
    outputs = data.outputs.copy()
    outputs.iloc[data.split(seed=5, validation=0).train, 1] = np.nan
    result = fit(PerturbationData(data.graph, data.inputs, outputs), new_config(epochs=1), progress=False)
    assert any("in no training sample" in w and "DV:d" in w for w in result.warnings)
    assert result.report.readouts["n"].tolist()[1] == 0
    assert np.isfinite(result.report.summary.to_numpy()).all()


def test_refuses_data_without_responses(data, new_config):
    with pytest.raises(DataError, match="no readout was measured"):
        fit(PerturbationData(data.graph, data.inputs, data.outputs * np.nan), new_config(), progress=False)


def test_three_samples_are_enough_but_not_for_every_norm(new_data, new_config):
    data = new_data(samples=3, missing=0.0)
    result = fit(data, new_config(norm="groupbatch", epochs=2, patience=2), progress=False)
    assert [len(part) for part in (result.split.train, result.split.validation, result.split.test)] == [1, 1, 1]
    assert result.report.summary["pooled_r2"].isna().all(), "one test sample has no variance"
    assert any("split by sample" in text for text in result.warnings)
    with pytest.raises(DataError, match="needs at least 2 training samples"):
        fit(data, new_config(norm="batch", patience=2), progress=False)


def test_refuses_what_leaves_no_batch_or_nothing_to_watch(data, new_config):
    model = GSNN.from_graph(data.graph, 2, 2)
    x, y = data.x, data.y
    with pytest.raises(ValueError, match="there is no batch of 64 in 21 training samples; lower batch_size"):
        train_model(model, (x, y), None, new_config(batch_size=64, drop_last=True))
    for watching in ({"patience": 1}, {"restore_best": True}):
        with pytest.raises(ValueError, match="need validation samples with observed responses; there are none"):
            train_model(model, (x, y), (x, np.full_like(y, np.nan)), new_config(**watching))
        unwatched = Split(np.arange(15), np.arange(0), np.arange(15, 21), "list")
        with pytest.raises(DataError, match=r"patience and restore_best need .* raise validation"):
            fit(data, new_config(**watching), split=unwatched, progress=False)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # Lightning's, about itself
def test_stops_where_only_the_validation_loss_is_not_finite(data, new_config):
    model = GSNN.from_graph(data.graph, 2, 2)
    x, y = data.x, data.y
    with pytest.raises(TrainingError, match="the validation loss became inf in epoch 1; lower lr"):
        train_model(model, (x, y), (x, y * 1e30), new_config())


def test_refuses_unknown_devices(data, new_config):
    with pytest.raises(ValueError, match="unknown device 'gpu'"):
        fit(data, new_config(), progress=False, device="gpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_says_that_there_is_no_gpu(data, new_config):
    with pytest.raises(RunError, match="device 'cuda' was asked for, but torch finds no GPU here; use 'cpu'"):
        fit(data, new_config(), progress=False, device="cuda")


def test_predict_keeps_the_mode_and_the_batches_do_not_matter(data):
    model = GSNN.from_graph(data.graph, 2, 2).train()
    whole = predict(model, data.x)
    np.testing.assert_allclose(predict(model, data.x, batch_size=3), whole, rtol=1e-5, atol=1e-7)
    assert model.training
