"""A run with members: trained together or alone, taken up after a stop, read by inference and prediction."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from gsnn.ask import Ensemble, predict
from gsnn.base.errors import DataError, RunError
from gsnn.runs import Run, Sources, compare_runs, infer_run, predict_run, train_run
from gsnn.training import TrainConfig

CONFIG = TrainConfig(epochs=3, channels=2, layers=3, batch_size=4)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    (folder / "net.sif").write_text("a\t1\tc\nb\t1\tc\nc\t-1\td\nb\t1\te\n")
    rng = np.random.default_rng(3)
    x = rng.random((24, 2)).round(3)
    y = np.c_[10 + x.sum(1), 1 - x.prod(1)]
    table = pd.DataFrame(np.c_[x, y], columns=["TR:a", "TR:bi", "DV:c", "DV:d"])
    table.to_csv(folder / "data.csv", index=False)
    return Sources.from_files(folder / "net.sif", folder / "data.csv")


@pytest.fixture(scope="module")
def trained(sources, tmp_path_factory):
    path = tmp_path_factory.mktemp("trained") / "run"
    train_run(path, sources, CONFIG, progress=False, members=3)
    return path


@pytest.fixture
def run(trained, tmp_path):
    return Run.open(shutil.copytree(trained, tmp_path / "run"))


def weights(run):
    return [member.model.state_dict() for member in run.members()]


def same(one, other):
    return all(torch.equal(a[name], b[name]) for a, b in zip(one, other, strict=True) for name in a)


def test_a_run_with_members_has_the_same_model_as_one_without(trained, sources, tmp_path):
    plain, _ = train_run(tmp_path / "plain", sources, CONFIG, progress=False)
    run = Run.open(trained)
    assert (run.n_members, plain.n_members) == (3, 0)
    assert plain.members() == []
    assert same([run.model().state_dict()], [plain.model().state_dict()])
    assert run.split().to_dict() == plain.split().to_dict()


def test_what_was_out_of_the_bag_stands_in_the_folder(trained):
    run = Run.open(trained)
    for number, member in enumerate(run.members(), start=1):
        info = json.loads(((run.members_path / str(number)) / "member.json").read_text())
        assert info["times"] == member.times.tolist()
        assert member.times.shape == run.split().train.shape
        assert 0 in info["times"]
    assert len({member.seed for member in run.members()}) == 3


def test_one_process_or_several_give_the_same_bits(trained, sources, tmp_path):
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            again, _ = train_run(tmp_path / str(threads), sources, CONFIG, progress=False, members=3)
            assert same(weights(Run.open(trained)), weights(again))
    finally:
        torch.set_num_threads(before)


def test_resuming_trains_what_is_missing_and_nothing_else(run, sources):
    before = weights(run)
    (run.members_path / "2" / "member.json").unlink()  # killed while it was written
    shutil.rmtree(run.members_path / "3")
    with pytest.raises(
        RunError, match=r"2 of the 3 members of .* are not trained; finish them with gsnn train --resume"
    ):
        run.members()
    times = [(run.members_path / "1" / "model.safetensors").stat().st_mtime_ns, run.model_path.stat().st_mtime_ns]
    train_run(run.path, sources, resume=True, progress=False)
    assert same(weights(run), before)
    assert times == [
        (run.members_path / "1" / "model.safetensors").stat().st_mtime_ns,
        run.model_path.stat().st_mtime_ns,
    ]


def test_members_are_added_to_a_run(trained, sources, tmp_path):
    run, _ = train_run(tmp_path / "run", sources, CONFIG, progress=False)
    run, _ = train_run(run.path, sources, resume=True, progress=False, members=3)
    assert same(weights(Run.open(trained)), weights(run))
    with pytest.raises(RunError, match="has 3 members; ask for as many or more"):
        train_run(run.path, sources, resume=True, progress=False, members=2)


def test_training_again_forgets_the_members(run, sources):
    train_run(run.path, sources, CONFIG, progress=False, overwrite=True)
    assert not run.members_path.exists()
    assert Run.open(run.path).members() == []


def test_longer_training_trains_the_members_longer(run, sources):
    before = weights(run)
    again, _ = train_run(
        run.path, sources, TrainConfig(**{**CONFIG.to_dict(), "epochs": 4}), resume=True, progress=False
    )
    assert len(again.members()) == 3
    assert not same(before, weights(again))


def test_nothing_is_written_for_members_that_cannot_be(sources, tmp_path):
    with pytest.raises(DataError, match="members must be at least 2, got 1"):
        train_run(tmp_path / "run", sources, CONFIG, progress=False, members=1)
    assert not (tmp_path / "run").exists()


def test_inference_averages_the_ranks_of_the_members(run):
    from gsnn.ask.agreement import pair_ranks
    from gsnn.discovery import DEFAULT_METHOD, METHODS
    from gsnn.runs.inference.job import Job
    from gsnn.runs.inference.ranking import score_pairs

    edges = infer_run(run, progress=False)
    data = run.data()
    ranks = []
    for member in run.members():
        scores, _ = score_pairs(
            run,
            member.early or member.model,
            data,
            {DEFAULT_METHOD: METHODS[DEFAULT_METHOD]},
            "train",
            False,
            Job(every=1e9, fresh=True),
        )
        ranks.append(pair_ranks(scores[DEFAULT_METHOD]))
    place = {name: i for i, name in enumerate(data.graph.functions)}
    for row in edges.to_dict("records"):
        own = [rank[place[row["source"]], place[row["target"]]] for rank in ranks]
        if np.isnan(own).any():
            assert np.isnan(row["score"])
            continue
        assert row["score"] == pytest.approx(np.exp(-np.mean(np.log(own))))
        assert row["worst_rank"] == max(own)
    agreed = run.info["inference"]["members"]
    assert agreed["members"] == 3
    assert agreed["in_all"] == ((edges["rank"] <= agreed["top"]) & (edges["worst_rank"] <= 2 * agreed["top"])).sum()
    assert not list(run.path.glob("statistics*"))


def test_what_reads_no_weights_of_a_member_is_asked_once(run, monkeypatch):
    from gsnn.discovery import METHODS, Method, StabilityEdgeInferer

    asked = []

    class Counted(StabilityEdgeInferer):
        def fit(self, *args, **options):
            asked.append(self)
            return super().fit(*args, **options)

    quick = Method(Counted, settings={"subsamples": 2, "rounds": 1})
    monkeypatch.setitem(METHODS._added, "counted", quick)
    edges = infer_run(run, method="counted,gradient-explained", progress=False)
    assert len(asked) == 1
    assert "members" not in run.info["inference"]
    assert "worst_rank" not in edges
    assert edges["rank_gradient-explained"].notna().any()
    edges = infer_run(run, method="gradient-explained,counted", progress=False)
    assert len(asked) == 2
    assert run.info["inference"]["members"]["members"] == 3
    assert {"worst_rank", "rank_counted"} <= set(edges)


def test_inference_of_the_model_alone(run, sources, tmp_path):
    plain, _ = train_run(tmp_path / "plain", sources, CONFIG, progress=False)
    pd.testing.assert_frame_equal(infer_run(run, progress=False, members=False), infer_run(plain, progress=False))
    assert "members" not in run.info["inference"]
    with pytest.raises(RunError, match="has no members; add them with gsnn train --resume --members 5"):
        infer_run(plain, progress=False, members=True)


def test_members_predict_together(run, tmp_path):
    new = tmp_path / "new.csv"
    new.write_text("condition,TR:a,TR:bi\nA,0.5,0\nB,0.25,0.75\n")
    found, path = predict_run(run, new)
    assert path == run.path / "predictions.csv"
    ensemble = Ensemble.of(run)
    assert len(ensemble.members) == 3
    again = predict(run, np.array([[0.5, 0], [0.25, 0.75]]))
    np.testing.assert_array_equal(again.mean, found.mean)
    written = pd.read_csv(path)
    np.testing.assert_allclose(written[["c", "d"]], found.mean, rtol=1e-5)
    assert (written["c_low"] < written["c"]).all()
    assert written["outside"].str.contains("dose beyond the range: bi=0").tolist() == [True, False]
    assert abs(found.mean[:, 0] - 10.5).max() < 2  # the units of the data


def test_runs_are_compared_by_their_tables(run, sources, tmp_path):
    other, _ = train_run(tmp_path / "other", sources, CONFIG, progress=False)
    with pytest.raises(RunError, match=r"has no edges\.csv yet"):
        compare_runs([run, other])
    infer_run(run, progress=False)
    infer_run(other, progress=False)
    found = compare_runs([run, other])
    assert found.fits["run"].tolist() == [str(run.path), str(other.path)]
    assert {"model", "ridge", "mean"} <= set(found.fits)
    with pytest.raises(RunError, match="was given twice"):
        compare_runs([run, run])
