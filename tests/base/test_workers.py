"""Jobs in processes of their own: the same results in the same order, the same errors, and nobody left behind."""

from __future__ import annotations

import os
import signal
import threading
import time

import numpy as np
import pytest
import torch

from gsnn.base.workers import arrays_in_processes, json_in_processes, workers_for

HERE = os.getpid()
COUNTS = [0, 1, 2, 5]


def children():
    """Whether this process has any child left."""
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return False
    return True


@pytest.mark.parametrize("workers", COUNTS)
def test_results_come_in_the_order_of_the_jobs(workers):
    def job(number):
        time.sleep(0.02 * (number % 3 == 0))
        return {"number": number, "text": "x" * 100_000, "third": number / 3, "undefined": None}

    found = list(json_in_processes([lambda n=n: job(n) for n in range(7)], workers))
    assert found == [job(n) for n in range(7)]
    assert not children()


@pytest.mark.parametrize("workers", COUNTS)
def test_arrays_come_back_to_the_bit(workers):
    made = [{"a": np.random.default_rng(n).normal(size=(n, 3)), "b": np.arange(n) > 1} for n in range(4)]
    for found, wanted in zip(arrays_in_processes([lambda m=m: m for m in made], workers), made, strict=True):
        assert list(found) == list(wanted)
        for name in wanted:
            assert found[name].dtype == wanted[name].dtype
            np.testing.assert_array_equal(found[name], wanted[name])


def test_jobs_have_processes_of_their_own_and_one_thread():
    before = torch.get_num_threads()
    found = list(json_in_processes([lambda: [os.getpid(), torch.get_num_threads()]] * 6, 2))
    assert len({process for process, _ in found} - {HERE}) == 2
    assert {threads for _, threads in found} == {1}
    assert list(json_in_processes([torch.get_num_threads] * 2, 1)) == [1, 1]
    assert list(json_in_processes([torch.get_num_threads] * 2, 0)) == [before] * 2


@pytest.mark.parametrize("workers", COUNTS)
def test_an_error_is_that_of_the_job(workers):
    def fail():
        raise LookupError("what was wrong")

    records = json_in_processes([lambda: 1, fail, lambda: 3], workers)
    assert next(records) == 1
    with pytest.raises(LookupError, match=r"^what was wrong$"):
        next(records)
    assert not children()


def test_what_cannot_be_told_is_done_here():
    """As where a result is no JSON."""
    assert list(json_in_processes([lambda: {1, 2}, lambda: {3}], 2)) == [{1, 2}, {3}]


def test_a_killed_process_is_replaced():
    def job(number):
        if number == 1 and os.getpid() != HERE:
            os.kill(os.getpid(), signal.SIGKILL)
        return [number, os.getpid() == HERE]

    found = list(json_in_processes([lambda n=n: job(n) for n in range(5)], 2))
    assert found == [[0, False], [1, True], [2, False], [3, False], [4, False]]
    assert not children()


def test_nobody_is_left_behind_by_an_interrupt():
    records = json_in_processes([lambda: 1, lambda: time.sleep(600), lambda: time.sleep(600)], 2)
    assert next(records) == 1
    with pytest.raises(KeyboardInterrupt):
        records.throw(KeyboardInterrupt)
    assert not children()


def test_processes_end_with_the_one_that_started_them(tmp_path):
    def job(number):
        (tmp_path / str(number)).write_text(str(os.getpid()))
        time.sleep(600)

    process = os.fork()
    if process == 0:
        list(json_in_processes([lambda n=n: job(n) for n in range(2)], 2))
        os._exit(0)
    deadline = time.monotonic() + 30
    while sum(path.stat().st_size > 0 for path in tmp_path.iterdir()) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    left = [int(path.read_text()) for path in tmp_path.iterdir()]
    assert len(left) == 2
    while any(map(_runs, left)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(map(_runs, left))


def _runs(process):
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().split()[2] != "Z"  # one that has ended waits for whoever adopts it
    except OSError:
        return False


def test_another_thread_forks_nothing():
    found = []
    thread = threading.Thread(target=lambda: found.extend(json_in_processes([os.getpid] * 3, 2)))
    thread.start()
    thread.join()
    assert found == [HERE] * 3


def test_how_many(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr("gsnn.base.workers.available_memory", lambda: 1000)
    small, large = torch.nn.Linear(3, 3), torch.nn.Linear(3000, 3000)
    assert [workers_for(small, 16, each) for each in (1, 125, 200, 10**6)] == [4, 4, 2, 1]
    assert workers_for(large, 16, 1) == 0
