"""Train the members of a run into its folder, several at a time."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gsnn.base.errors import DataError, RunError
from gsnn.base.progress import stage
from gsnn.base.workers import json_in_processes, workers_for
from gsnn.runs.folder import Run
from gsnn.training.members import Member, check_members, train_member

if TYPE_CHECKING:
    from gsnn.nn import GSNN
    from gsnn.training.config import TrainConfig
    from gsnn.training.prepare import Prepared


def models_of(run: Run) -> list[GSNN]:
    """The trained models of a run, on the CPU, in eval mode: its members, or its one model.

    Raises:
        RunError: If training is not complete.
    """
    return [member.model for member in run.members()] if run.n_members else [run.model()]


def members_wanted(asked: int | None, old: Run | None, prepared: Prepared, processes: int) -> int:
    """How many members a training has: those ``asked`` for (None: those of ``old``, the run that is continued).

    Raises:
        DataError: If the number, the data or the processes do not allow members.
        RunError: If the run has more already.
    """
    before = 0 if old is None else old.n_members
    wanted = before if asked is None else asked
    if wanted < before:
        raise RunError(f"{old.path if old else ''} has {before} members; ask for as many or more, or train another run")
    if not wanted:
        return 0
    if processes > 1:
        raise DataError(f"members are trained in one process, and there are {processes}; leave members out")
    check_members(prepared, wanted)
    return wanted


def train_members(run: Run, prepared: Prepared, config: TrainConfig, count: int, progress: bool, device: str) -> None:
    """Train the members that the folder of a complete run lacks of ``count``; each is written as soon as it is done.

    Small models train in as many processes as there are threads, with the same weights, bit for bit, as one by one.

    Raises:
        RunError: If another program is working in the folder.
    """
    with run.lock():
        run.record_members(count)
        key = str(run.info["id"])
        missing = [number for number in range(1, count + 1) if not Member.finished(run.members_path / str(number), key)]
        if not missing:
            return
        run.members_path.mkdir(exist_ok=True)
        jobs = [partial(_job, prepared, config, n, device, run.members_path / str(n), key) for n in missing]
        own = sum(4 * p.numel() for p in prepared.model.parameters())
        states = 3 * config.layers * config.channels * prepared.data.graph.N * config.batch_size
        workers = workers_for(prepared.model, config.batch_size, 10 * own + 4 * states) if device == "cpu" else 0
        done = count - len(missing)
        with (
            stage("training members", count, done=done, show=progress) as shown,
            closing(json_in_processes(jobs, workers)) as trained,
        ):
            for _ in trained:
                shown.advance()


def _job(prepared: Prepared, config: TrainConfig, number: int, device: str, folder: Path, run: str) -> int:
    member: Member = train_member(prepared, config, number, device)
    member.write(folder, run)
    return number
