"""Several processes against one, to 1e-10; how they end when one of them dies."""

from __future__ import annotations

import contextlib
import copy
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.distributed import HashStore
from torch.utils.data import DataLoader, TensorDataset

from gsnn import GradientEdgeInferer, MagnitudeEdgeInferer
from gsnn.base import processes as processes_module
from gsnn.base.errors import DataError, RunError
from gsnn.discovery import METHODS, StructureEdgeInferer
from gsnn.edges import FunctionEdgeInferer
from gsnn.edges.parallel import Checkpoint, Place, ProcessError, Processes, Stopped, find_place, fit, processes
from gsnn.edges.parallel.shares import deal_batches
from gsnn.edges.stats import PairMoments, pool_moments
from gsnn.runs.inference.job import Job

from ... import warm
from ...cli.conftest import SMALL, gsnn, write_problem
from .conftest import free_port, srun, torchrun
from .worker import problem

BATCHES = 6  # of 256 samples: four fifths of 1,900 are for training
needs_gloo = pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(), reason="this torch has no gloo"
)


@needs_gloo
@pytest.mark.slow
def test_three_processes_find_what_one_does(tmp_path):
    found = srun(3, Path(__file__).with_name("worker.py"), tmp_path)
    assert [code for _, code in found] == [0, 0, 0], found
    told = [(tmp_path / f"rank{rank}.txt").read_text().splitlines() for rank in range(3)]
    assert told[0] == told[1] == told[2]
    assert len(told[0]) == 5


# ---------------------------------------------------------------------- the command


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("distributed")
    network, data = write_problem(folder, samples=1900)
    done = gsnn("train", "--graph", network, "--data", data, "-o", folder / "run", *SMALL)
    assert done.returncode == 0, done.stderr
    return folder / "run"


@pytest.fixture(scope="module")
def alone(run):
    """edges.csv of one process, in double precision."""
    done = gsnn("infer", run, "--double", "--method", "magnitude,gradient")
    assert done.returncode == 0, done.stderr
    assert not list(run.glob("statistics-*"))
    return pd.read_csv(run / "edges.csv")


def inference(run):
    return json.loads((run / "run.json").read_text())["inference"]


@needs_gloo
@pytest.mark.slow
@pytest.mark.parametrize(("start", "shard"), [(torchrun, "samples"), (srun, "targets")])
def test_two_processes_write_the_same_edges(run, alone, start, shard):
    command = ["-m", "gsnn", "infer", run, "--double", "--method", "magnitude,gradient", "--shard", shard]
    found = start(2, *command)
    if start is srun:
        assert [code for _, code in found] == [0, 0], found
        told = "".join(out for (out, _), _ in found)
    else:
        assert found.returncode == 0, found.stderr[-4000:]
        told = found.stdout
    # Process 0 speaks, the other is quiet.
    assert told.count("Next: gsnn selfcheck") == 1
    pd.testing.assert_frame_equal(pd.read_csv(run / "edges.csv"), alone, atol=1e-10, rtol=0)
    assert inference(run)["processes"] == 2
    assert inference(run)["shard"] == shard


@needs_gloo
@pytest.mark.slow
def test_an_error_of_all_is_told_once(tmp_path):
    found = srun(2, "-m", "gsnn", "infer", tmp_path / "nowhere")
    assert [code for _, code in found] == [2, 2]
    lines = [line for (_, err), _ in found for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "there is no run folder" in lines[0]


@needs_gloo
@pytest.mark.slow
@pytest.mark.parametrize("shard", ["samples", "targets"])
def test_a_killed_process_ends_the_job_and_a_restart_goes_on(run, alone, shard):
    command = ["-m", "gsnn", "infer", run, "--double", "--method", "magnitude,gradient", "--save-every", "0"]
    command += ["--shard", shard, "--quiet"]
    script = Path(__file__).with_name("slow_gsnn.py")
    started = srun(2, script, *command[2:], wait=False)
    try:
        state, deadline = run / "statistics-magnitude" / "state.json", time.monotonic() + 240
        while not state.is_file() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert state.is_file()
        os.kill(started[1].pid, signal.SIGKILL)
        _, err = started[0].communicate(timeout=120)
        assert started[0].returncode == 2
        (line,) = [text for text in err.splitlines() if text.startswith("error: ")]
        assert "process 0 of 2" in line
        assert "process 1 of 2 is gone" in line
        assert "the same command goes on" in line
    finally:
        for one in started:
            with contextlib.suppress(ProcessLookupError):
                one.kill()
            one.communicate()
    before = json.loads(state.read_text())["done"]
    assert 0 < before < BATCHES
    found = srun(2, *command)
    assert [code for _, code in found] == [0, 0], found
    pd.testing.assert_frame_equal(pd.read_csv(run / "edges.csv"), alone, atol=1e-10, rtol=0)
    assert inference(run)["resumed_after"] >= before
    assert not list(run.glob("statistics-*"))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_process_saves_and_goes_on(run, alone, number):
    script = Path(__file__).with_name("slow_gsnn.py")
    options = [str(run), "--double", "--method", "magnitude,gradient", "--quiet"]
    started = warm.Process([script, "infer", *options, "--save-every", "1e-9"])
    state, deadline = run / "statistics-magnitude" / "state.json", time.monotonic() + 240
    while not state.is_file() and time.monotonic() < deadline:
        time.sleep(0.02)
    started.send_signal(number)
    _, err = started.communicate(timeout=120)
    assert started.returncode == 128 + number, err
    assert "the same command goes on" in err
    assert 0 < json.loads(state.read_text())["done"] < BATCHES
    done = gsnn("infer", *options)
    assert done.returncode == 0, done.stderr
    assert inference(run)["resumed_after"] > 0
    pd.testing.assert_frame_equal(pd.read_csv(run / "edges.csv"), alone, atol=1e-10, rtol=0)


# ---------------------------------------------------------------------- in one process


@pytest.mark.parametrize("kind", [MagnitudeEdgeInferer, GradientEdgeInferer])
def test_parts_of_targets_make_the_whole(kind):
    graph, model, batches = problem()
    whole = kind(model, graph)
    whole.fit(batches, verbose=False)
    parts = [kind(model, graph, targets=targets) for targets in (range(0, 7), range(7, 8), range(8, 16))]
    for part in parts:
        part.fit(batches, verbose=False)
    np.testing.assert_allclose(
        np.concatenate([part.scored().score for part in parts], axis=1), whole.score_matrix(), atol=1e-12, rtol=0
    )
    rows = pd.concat([part.top_edges() for part in parts])
    expected = whole.top_edges()
    assert len(rows) == len(expected)
    assert set(zip(rows.src_func, rows.dst_func, strict=True)) == set(
        zip(expected.src_func, expected.dst_func, strict=True)
    )


@pytest.mark.parametrize("targets", [range(3, 3), range(0, 17), range(0, 16, 2)])
def test_targets_that_are_no_range_of_nodes(targets):
    graph, model, _ = problem()
    with pytest.raises(ValueError, match=r"targets must be a range of nodes within 0\.\.16"):
        MagnitudeEdgeInferer(model, graph, targets=targets)


def test_pooled_moments_are_those_of_the_whole():
    rng = np.random.default_rng(0)
    # A large mean and a small spread, where sums of squares would lose everything.
    x, y = (torch.from_numpy(1e4 + rng.normal(size=(2, 5, 60)) * [[[1.0]], [[0.01]]]) for _ in range(2))
    conditions = torch.tensor([1, 3])

    def of(columns):
        made = PairMoments(2, 5, torch.float64, condition_on=conditions, targets=range(1, 4))
        made.update(x[..., columns], y[..., columns])
        return made

    parts = [of(slice(0, 7)), of(slice(7, 7)), of(slice(7, 60))]
    # Processes in lock step: each hands in a tensor, all get the sum.
    barrier, slots = threading.Barrier(3), [None] * 3

    def work(rank):
        def all_reduce(tensor):
            slots[rank] = tensor.clone()
            barrier.wait()
            tensor.copy_(slots[0] + slots[1] + slots[2])
            barrier.wait()

        pool_moments(parts[rank], all_reduce)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(3)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    deviation = [v - v.mean(-1, keepdim=True) for v in (x, y)]
    for part in parts:
        assert part.n == 60
        for name, expected in {
            "mean_x": x.mean(-1),
            "mean_y": y.mean(-1),
            "ss_x": deviation[0].square().sum(-1),
            "cross": deviation[0] @ deviation[1][:, 1:4].transpose(1, 2),
            "within": deviation[0][:, conditions] @ deviation[0].transpose(1, 2),
            "layers_y": torch.einsum("pnb,qnb->npq", deviation[1], deviation[1]),
            "thirds_x": torch.einsum("hnb,qnb->nhq", deviation[0][[0, 0, 1]] * deviation[0][[0, 1, 1]], deviation[0]),
        }.items():
            torch.testing.assert_close(getattr(part, name), expected, rtol=1e-8, atol=1e-8, msg=name)


@pytest.mark.parametrize("kind", [list, iter, DataLoader])
@pytest.mark.parametrize(("start", "size"), [(0, 1), (0, 3), (2, 2), (6, 4)])
def test_batches_are_dealt_out_once(kind, start, size):
    values = torch.arange(20)
    loader = values.split(3) if kind is not DataLoader else DataLoader(TensorDataset(values), batch_size=3)
    dealt = []
    for rank in range(size):
        given = kind(loader) if kind in (list, iter) else loader
        dealt.append(list(deal_batches(given, start, rank, size)))
    assert len({tuple(done for _, done in part) for part in dealt}) == 1
    mine = sorted(
        (index, (b[0] if isinstance(b, list) else b).tolist())
        for part in dealt
        for got, _ in part
        if got
        for index, b in [got]
    )
    assert mine == [(i, v.tolist()) for i, v in enumerate(values.split(3)) if i >= start]


def test_a_loader_that_shuffles_is_refused():
    loader = DataLoader(TensorDataset(torch.arange(9)), batch_size=3, shuffle=True)
    with pytest.raises(ValueError, match="shuffle=False"):
        list(deal_batches(loader, 0, 0, 2))


class Breaking(list):
    def __getitem__(self, index):
        if index == 4:
            raise OSError("the disk is gone")
        return super().__getitem__(index)


@pytest.mark.parametrize("kind", [MagnitudeEdgeInferer, GradientEdgeInferer])
def test_statistics_on_disk(kind, tmp_path):
    graph, model, batches = problem()
    whole = kind(model, graph)
    whole.fit(batches, verbose=False)
    here = Checkpoint(tmp_path / "kept", "these samples", every=0.0)
    broken = kind(model, graph)
    with pytest.raises(OSError, match="the disk is gone"):
        fit(broken, Breaking(batches), verbose=False, checkpoint=here)
    assert broken.n == 0
    names = {path.suffix for path in here.folder.iterdir()}
    assert names == {".json", ".safetensors"}
    resumed = kind(model, graph)
    done = fit(resumed, batches, verbose=False, checkpoint=here)
    assert (done.resumed_after, done.batches, done.n) == (4, 7, 90)
    np.testing.assert_allclose(resumed.score_matrix(), whole.score_matrix(), atol=1e-10, rtol=0)
    done.forget()
    assert not here.folder.exists()


def test_statistics_of_something_else_are_not_continued(tmp_path):
    graph, model, batches = problem()
    here = Checkpoint(tmp_path / "kept", "these samples", every=0.0)
    fit(MagnitudeEdgeInferer(model, graph), batches, verbose=False, checkpoint=here)
    moved = copy.deepcopy(model)
    with torch.no_grad():
        next(moved.parameters()).add_(1e-3)
    others = [
        (MagnitudeEdgeInferer(moved, graph), "these samples"),
        (MagnitudeEdgeInferer(model, graph, reduction="l2"), "these samples"),
        (MagnitudeEdgeInferer(model, graph), "other samples"),
    ]
    for inferer, of_samples in others:
        done = fit(inferer, batches, verbose=False, checkpoint=Checkpoint(here.folder, of_samples, every=1e9))
        assert done.resumed_after == 0
        assert "were not continued: they are of another model, other samples or options" in done.note
    (here.folder / "state.json").write_text("{")
    done = fit(
        MagnitudeEdgeInferer(model, graph),
        batches,
        verbose=False,
        checkpoint=Checkpoint(str(here.folder), "these samples"),
    )
    assert "state.json cannot be read" in done.note
    fresh = Checkpoint(here.folder, "these samples", every=0.0, fresh=True)
    assert fit(MagnitudeEdgeInferer(model, graph), batches, verbose=False, checkpoint=fresh).resumed_after == 0


@pytest.mark.parametrize("kind", [MagnitudeEdgeInferer, GradientEdgeInferer])
def test_statistics_that_were_made_otherwise_or_lost_are_not_continued(kind, tmp_path):
    graph, model, batches = problem()
    here = Checkpoint(tmp_path / "kept", "these samples", every=0.0)
    fit(kind(model, graph), batches, verbose=False, checkpoint=here)
    later = Checkpoint(here.folder, "these samples", every=1e9)
    done = fit(kind(model, graph), batches, verbose=False, checkpoint=later, shard="targets")
    assert "were not continued: they were made with samples shared, now targets shared by 1" in done.note
    written = next(here.folder.glob("*.safetensors"))
    content = written.read_bytes()
    written.write_bytes(content[: len(content) // 2])
    with pytest.raises(RunError, match=rf"{written.name} cannot be read"):
        fit(kind(model, graph), batches, verbose=False, checkpoint=later)
    written.unlink()
    done = fit(kind(model, graph), batches, verbose=False, checkpoint=later)
    assert f"were not continued: {written.name} is gone" in done.note
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="file is a file; statistics need a folder"):
        fit(kind(model, graph), batches, verbose=False, checkpoint=Checkpoint(tmp_path / "file", "these samples"))


def test_a_pass_that_kept_nothing_has_nothing_to_forget():
    graph, model, batches = problem()
    done = fit(MagnitudeEdgeInferer(model, graph), batches, verbose=False, shard="targets")
    done.forget()
    assert done.batches == len(batches)


@pytest.mark.parametrize("options", [{}, {"pool": False, "penalty_factor": 0.3}, {"scale_by_act_mean": True}])
def test_parts_of_targets_make_the_whole_of_ranks(options):
    graph, model, batches = problem()
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    known = graph.edge_index_dict["function", "to", "function"]
    whole = FunctionEdgeInferer(model, None, known).fit(x, y, **options)
    parts = [FunctionEdgeInferer(model, None, known, targets=targets) for targets in (range(0, 5), range(5, 16))]
    # Ranks are the same whole numbers; their products are summed in single precision.
    np.testing.assert_allclose(
        np.concatenate([part.fit(x, y, **options) for part in parts], axis=1), whole, atol=2e-6, rtol=0
    )
    best = parts[1].top_edges(3)
    assert best["dst_idx"].min() >= 5
    found = whole[best["src_idx"], best["dst_idx"]]
    np.testing.assert_allclose(best["score"], found, atol=2e-6, rtol=0)


def test_shares_of_samples_do_not_make_ranks():
    graph, model, batches = problem()
    inferer = FunctionEdgeInferer(model, None, graph.edge_index_dict["function", "to", "function"])
    with pytest.raises(TypeError, match="not of FunctionEdgeInferer"):
        fit(inferer, batches, verbose=False)


def test_unknown_shard_and_empty_loader():
    graph, model, _ = problem()
    with pytest.raises(ValueError, match="unknown shard 'rows'"):
        fit(MagnitudeEdgeInferer(model, graph), [], shard="rows")
    with pytest.raises(ValueError, match="is empty"):
        fit(MagnitudeEdgeInferer(model, graph), [], verbose=False)


# ---------------------------------------------------------------------- where a process stands


def test_places():
    slurm = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_JOB_ID": "1234567"}
    place = find_place(slurm | {"SLURM_STEP_NODELIST": "gpu[07-09]"})
    assert (place.rank, place.size, place.local_rank, place.address, place.launcher) == (3, 4, 1, "gpu07", "slurm")
    assert place == find_place(slurm | {"SLURM_STEP_NODELIST": "gpu[07-09]"})
    # In the batch script, without srun, there is one process.
    assert find_place({"SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_JOB_ID": "1"}).size == 1
    assert find_place(slurm | {"SLURM_JOB_NAME": "interactive"}).size == 1
    # torchrun inside of a SLURM job.
    env = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1", "LOCAL_RANK": "0"}
    assert find_place(slurm | env).launcher == "torchrun"


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"RANK": "0", "WORLD_SIZE": "2"}, "MASTER_ADDR and MASTER_PORT"),
        ({"RANK": "a", "WORLD_SIZE": "2", "MASTER_ADDR": "h", "MASTER_PORT": "1"}, "RANK must be a whole number"),
        ({"RANK": "2", "WORLD_SIZE": "2", "MASTER_ADDR": "h", "MASTER_PORT": "1"}, "process 2 of 2 cannot be"),
    ],
)
def test_places_that_cannot_be(env, message):
    with pytest.raises(RunError, match=message):
        find_place(env)


def test_shares():
    for n, size in [(7, 3), (4, 4), (100, 7)]:
        parts = [Processes(Place(rank, size)).share(n) for rank in range(size)]
        assert [i for part in parts for i in part] == list(range(n))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    with pytest.raises(RunError, match="4 processes cannot share 3 functions"):
        Processes(Place(0, 4)).share(3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shard": "sample"}, r"unknown shard 'sample'.*did you mean 'samples'"),
        ({"every": -1.0}, "save-every must be at least 0 seconds, got -1"),
        ({"every": float("nan")}, "save-every must be at least 0 seconds, got nan"),
        ({"memory_budget": "much"}, "memory-budget must be a positive number of bytes"),
        ({"device": "gpu"}, "unknown device 'gpu'"),
    ],
)
def test_options_of_a_job(options, message):
    with pytest.raises(DataError, match=message):
        Job(**options)


def test_what_a_job_passes_on_to_an_inferer():
    graph, model, _ = problem()
    for name in ("magnitude", "rank", "structure"):
        inferer = METHODS[name].make(model, graph, Job(memory_budget="2GB").offered())
        budget = getattr(inferer, "dense", inferer)
        assert getattr(budget, "memory_budget", None) == (None if name == "structure" else 2_000_000_000)
    assert Job().offered() == Job(memory_budget="2GB").shared(MagnitudeEdgeInferer, "magnitude", 9) == {}
    second = Job(Processes(Place(1, 3)), shard="targets")
    assert second.shared(GradientEdgeInferer, "gradient", 9) == {"targets": range(3, 6)}
    with pytest.raises(DataError, match="the method 'structure' works in one process only; start it without torchrun"):
        second.shared(StructureEdgeInferer, "structure", 9)


def test_a_process_alone_exchanges_nothing():
    alone = Processes()
    tensor = torch.arange(3.0)
    assert alone.all_reduce(tensor) is alone.broadcast_tensor(tensor, 0) is tensor
    assert tensor.tolist() == [0, 1, 2]
    assert alone.gather("mine") == ["mine"]
    assert not alone.told_by_first("an error")
    with pytest.raises(ValueError, match="timeout must be a number of seconds above 0, got 0"):
        Processes(timeout=0)


@pytest.mark.parametrize(
    ("said", "waited", "message"),
    [
        ({"error/0": "no space left"}, 1.0, "process 0 failed: no space left"),
        (
            {"error/0": "process 2 of 3, saving: lost", "error/2": "no space left"},
            1.0,
            "process 2 failed: no space left",
        ),
        ({"error/0": "process 2 of 3, saving: lost"}, 1.0, "process 0 failed: process 2 of 3, saving: lost"),
        ({}, 9.5, "waited 10 s, the timeout, for processes that are alive; raise the timeout"),
        ({}, 1.0, "connection reset"),
    ],
)
def test_who_is_to_blame(said, waited, message, monkeypatch):
    """Over a real store, in which the hearts of the other two beat."""
    beats = itertools.count()

    class Living(HashStore):
        def get(self, key):
            return str(next(beats)).encode() if key.startswith("beat/") else super().get(key)

    store = Living()
    for key, text in said.items():
        store.set(key, text)
    joined = Processes(Place(1, 3), timeout=10)
    monkeypatch.setattr(processes_module, "_SILENCE", 0)
    monkeypatch.setattr(joined, "_store", store)
    found = joined._cause("saving", waited, RuntimeError("connection reset\nby peer"))
    assert found == f"process 1 of 3, saving: {message}"
    monkeypatch.setattr(joined, "_store", None)
    assert joined._cause("saving", waited, RuntimeError()) == "process 1 of 3, saving: RuntimeError"


def test_nobody_at_the_meeting_point():
    with (
        pytest.raises(ProcessError, match=r"process 1 of 2 did not meet the others at 127\.0\.0\.1:\d+ within 1 s"),
        processes(timeout=1.0, place=Place(1, 2, 1, "127.0.0.1", free_port(), "slurm")),
    ):
        pass


def test_processes_in_a_thread_leave_signals_alone():
    before, seen = signal.getsignal(signal.SIGTERM), []

    def work():
        with processes(place=Place()) as joined:
            seen.append((joined.size, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(1, before)]


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Stopped)])
def test_a_signal_ends_the_work_at_once_unless_it_must_be_left_whole(number, error):
    with processes(place=Place()) as joined:
        with joined.patient():
            os.kill(os.getpid(), number)
            assert joined.asked_to_stop == number, "the first one waits"
            with pytest.raises(error):
                os.kill(os.getpid(), number)
        with pytest.raises(error):
            os.kill(os.getpid(), number)


def test_signals_are_put_back():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with processes(place=Place()) as joined:
        assert signal.getsignal(signal.SIGTERM) is not before[0]
        with joined.patient():
            os.kill(os.getpid(), signal.SIGTERM)
            assert joined.asked_to_stop == signal.SIGTERM
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


# ---------------------------------------------------------------------- the script of the how-to

# Starts as many processes as asked for, as SLURM does, and ends with the worst of their exit codes.
STAND_IN = """#!/bin/bash
test "$1" = --kill-on-bad-exit=1 || exit 9
shift
export SLURM_STEP_NUM_TASKS=2 SLURM_STEP_NODELIST=127.0.0.1 SLURM_JOB_ID=4242 SLURM_JOB_NAME=gsnn-infer
SLURM_PROCID=1 SLURM_LOCALID=1 "$@" &
SLURM_PROCID=0 SLURM_LOCALID=0 "$@"
code=$?
wait $! || code=$?
exit $code
"""


@needs_gloo
@pytest.mark.slow
def test_the_slurm_script_of_the_documentation(run, tmp_path):
    page = Path(__file__).parents[3] / "docs" / "scale-out.md"
    (script,) = [part.split("```")[0] for part in page.read_text().split("```bash\n") if part.startswith("#!/bin/bash")]
    (tmp_path / "job.sh").write_text(script)
    assert subprocess.run(["bash", "-n", "job.sh"], cwd=tmp_path, check=False).returncode == 0
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mine").symlink_to(run)
    stand_in = tmp_path / "bin" / "srun"
    stand_in.parent.mkdir()
    stand_in.write_text(STAND_IN)
    stand_in.chmod(0o755)
    path = os.pathsep.join([str(stand_in.parent), str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "job.sh"],
        cwd=tmp_path,
        env=os.environ | {"PATH": path, "MASTER_PORT": str(free_port())},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.count("Next: gsnn selfcheck") == 1
    assert inference(run)["processes"] == 2
