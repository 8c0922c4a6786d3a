"""Progress: what a terminal shows, what a pipe gets, and the time left."""

from __future__ import annotations

import io
import time

import numpy as np
import pandas as pd
import pytest

from gsnn.base import progress as progress_module
from gsnn.base.csv_file import ROWS, write_csv
from gsnn.base.progress import Stage, now, stage, track


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is moved."""
    at = [100.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: at[0])

    def move(seconds):
        at[0] += seconds

    return move


@pytest.fixture
def terminal(monkeypatch):
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": "120"}.items():
        monkeypatch.setenv(name, value)


def test_the_time_left_is_the_mean_pace_also_of_steps_that_take_minutes(clock):
    one = Stage("training", total=5)
    assert one.left() is None
    clock(100)
    one.advance()
    clock(300)
    one.advance()
    assert one.left() == pytest.approx(3 * 400 / 2)
    clock(50)
    assert one.left() == pytest.approx(600 - 50)
    clock(10_000)
    assert one.left() == 0
    assert one.line() == "training 2 of 5, 0:00 left"


def test_steps_of_an_earlier_program_do_not_count_for_the_pace(clock):
    one = Stage("epoch", total=10, done=8)
    assert one.left() is None
    clock(60)
    one.advance(note="train loss 0.5")
    assert one.left() == pytest.approx(60)
    assert one.line() == "epoch 9 of 10, train loss 0.5, 1:00 left"
    one.advance()
    assert one.line() == "epoch 10 of 10"


def test_a_pipe_gets_plain_lines_and_only_if_it_lasts(clock, capfd):
    for item in track(range(4), "[rounds]"):
        assert item in range(4)
        clock(20)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines() == ["[rounds] 2 of 4, 0:40 left", "[rounds] 4 of 4"]
    assert list(track(iter("ab"), "short", total=2)) == ["a", "b"]
    assert capfd.readouterr() == ("", "")


def test_a_pipe_gets_no_lines_of_loops_within_a_loop(clock, capfd):
    with stage("checking", show=True):
        for _ in track(range(2), "trainings"):
            for _ in track(range(3), "epochs", show=None):
                clock(40)
    assert capfd.readouterr().err.splitlines() == ["trainings 1 of 2, 2:00 left", "trainings 2 of 2"]


def test_a_terminal_shows_stages_within_one_another(terminal, capfd):
    with stage("reading", show=True):
        now("[scoring]")
        for _ in track(range(3), "targets", show=None):
            time.sleep(0.12)
    out, err = capfd.readouterr()
    assert out == ""
    for words in ("[scoring]", "targets", "1/3", " left"):
        assert words in err
    assert progress_module._display is None


def test_what_nobody_wants_to_see_is_not_shown(terminal, capfd):
    assert list(track(range(2), "hidden", show=None)) == [0, 1]
    with stage("quiet", show=False):
        now("still quiet")
        assert list(track(range(2), "hidden", show=None)) == [0, 1]
    assert capfd.readouterr() == ("", "")


def test_an_error_takes_the_display_away(terminal, capfd):
    def fails():
        for _ in track(range(3), "inner", show=None):
            raise KeyboardInterrupt

    # The loop inside is held by the traceback and has not ended when the block around it does.
    with pytest.raises(KeyboardInterrupt), stage("outer", show=True):
        fails()
    assert progress_module._display is None
    with stage("next", show=True):
        pass
    assert progress_module._display is None


def test_a_table_in_blocks_is_the_table_in_one(monkeypatch):
    assert ROWS > 1
    monkeypatch.setattr("gsnn.base.csv_file.ROWS", 7)
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "source": [f'n"{i}, x' for i in range(20)],
            "score": rng.normal(size=20) * 10.0 ** rng.integers(-12, 3, 20),
            "rank": pd.array([*range(19), None], dtype="Int64"),
            "known": rng.random(20) < 0.5,
        }
    )
    for part in (frame, frame.head(0)):
        file = io.BytesIO()
        write_csv(part, file, "\t")
        assert file.getvalue().decode() == part.to_csv(index=False, sep="\t", lineterminator="\n")
