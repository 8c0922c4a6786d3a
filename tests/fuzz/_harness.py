"""Runs targets in a worker process with a limit of memory and of time, and counts what came out."""

from __future__ import annotations

import contextlib
import faulthandler
import multiprocessing
import os
import random
import resource
import shutil
import signal
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any

from gsnn.base.errors import GsnnError

from ._targets import Target, make_targets

SECONDS = 5
MEMORY = 2**30
_STUCK = 30  # seconds after which the parent ends a worker that a signal does not reach


class Hang(BaseException):
    """An input took longer than `SECONDS`; no ``except Exception`` of the code under test may catch it."""


@dataclass
class Outcome:
    """What became of the inputs of one target.

    Attributes:
        read: How many were read.
        refused: How many were refused with one of the errors of gsnn.
        findings: Title -> the numbers of the inputs that did anything else.
        seconds: Wall time.
        slowest: Seconds of the slowest input.
    """

    read: int = 0
    refused: int = 0
    findings: dict[str, list[int]] = field(default_factory=dict)
    seconds: float = 0.0
    slowest: float = 0.0

    @property
    def inputs(self) -> int:
        """How many there were."""
        return self.read + self.refused + sum(map(len, self.findings.values()))


def make_input(name: str, target: Target, seed: int, index: int) -> dict[str, bytes]:
    """The files of one input; the same for the same arguments. Input 0 is valid."""
    rng = random.Random(f"{name}/{seed}/{index}")
    files = dict(target.files)
    if index:
        changed = rng.choice(sorted(set(files) - target.fixed))
        files[changed] = target.mutate(files[changed], rng)
    return files


def run(
    inputs: int, *, seed: int = 0, only: str = "", keep: Path | None = None, report: Any = None
) -> dict[str, Outcome]:
    """Run every target.

    Args:
        inputs: How many inputs in all; shared out by the targets' shares.
        seed: Of the mutations.
        only: Run only the targets whose name has this in it.
        keep: Folder in which inputs with a finding are kept; None keeps none.
        report: Called with the name and the outcome of each target when it is through.

    Returns:
        Outcomes by the names of the targets.
    """
    with tempfile.TemporaryDirectory() as made:
        targets = {name: target for name, target in make_targets(Path(made)).items() if only in name}
        total = sum(target.share for target in targets.values())
        outcomes = {}
        for name, target in targets.items():
            outcomes[name] = _run_target(name, target, max(2, round(inputs * target.share / total)), seed, keep)
            if report is not None:
                report(name, outcomes[name])
    return outcomes


def _run_target(name: str, target: Target, n: int, seed: int, keep: Path | None) -> Outcome:
    outcome, start, began = Outcome(), 0, time.perf_counter()
    context = multiprocessing.get_context("fork")
    while start < n:
        ours, theirs = context.Pipe(duplex=False)
        worker = context.Process(target=_work, args=(theirs, name, target, range(start, n), seed, keep))
        worker.start()
        theirs.close()
        before, start = start, _listen(ours, outcome, start, n)
        worker.join(0.2)
        if start == 0 == before and worker.exitcode == 1:
            raise RuntimeError(f"the valid files of {name} are not read")
        if start < n:  # it died, or hangs where no signal reaches it
            worker.kill()
            worker.join()
            _find(outcome, f"worker ended with {worker.exitcode}", start)
            if keep is not None:
                _keep(keep, name, start, make_input(name, target, seed, start), f"worker ended: {worker.exitcode}")
            start += 1
        worker.join()
    outcome.seconds = time.perf_counter() - began
    return outcome


def _listen(ours: Connection, outcome: Outcome, start: int, n: int) -> int:
    """Take results until the worker is through or is gone; returns the first input without one."""
    done = start
    with contextlib.suppress(EOFError):
        while done < n and ours.poll(_STUCK):
            for kind, seconds in ours.recv():
                outcome.slowest = max(outcome.slowest, seconds)
                if kind == "read":
                    outcome.read += 1
                elif kind == "refused":
                    outcome.refused += 1
                else:
                    _find(outcome, kind, done)
                done += 1
    return done


def _find(outcome: Outcome, title: str, index: int) -> None:
    outcome.findings.setdefault(title, []).append(index)


def _work(theirs: Connection, name: str, target: Target, indices: range, seed: int, keep: Path | None) -> None:
    """The worker: every input once, results sent in batches, the last ones before anything can end it."""
    with tempfile.TemporaryDirectory() as made, open(os.devnull, "w") as quiet:
        folder = Path(made)
        _lay_out(folder, target.files)
        target.read(folder)  # what is imported and allocated once does not count
        os.dup2(quiet.fileno(), 2)  # libraries in C report damaged files there
        faulthandler.disable()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        limit = _size() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        signal.signal(signal.SIGALRM, _hang)
        warnings.simplefilter("error")
        for index in indices:
            files = make_input(name, target, seed, index)
            _lay_out(folder, files)
            began = time.perf_counter()
            kind, trace = _outcome(target, folder)
            theirs.send([(kind, time.perf_counter() - began)])
            if trace and keep is not None:
                _keep(keep, name, index, files, trace)
    theirs.close()


def _outcome(target: Target, folder: Path) -> tuple[str, str]:
    try:
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        try:
            target.read(folder)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except GsnnError as error:
        if "\n" in str(error) or len(str(error)) > 4000:
            return f"message of {len(str(error))} characters, or of several lines", traceback.format_exc()
        return "refused", ""
    except (Exception, Hang) as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/gsnn/" in frame.filename]
        where = f"{Path(frames[-1].filename).name}:{frames[-1].name}" if frames else "the target"
        return f"{type(error).__name__} in {where}", traceback.format_exc()
    return "read", ""


def _hang(signum: int, frame: FrameType | None) -> None:
    raise Hang


def _lay_out(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).write_bytes(content)


def _size() -> int:
    """Bytes of address space that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _keep(keep: Path, name: str, index: int, files: Mapping[str, bytes], trace: str) -> None:
    place = keep / f"{name}-{index}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    _lay_out(place, files)
    (place / "trace.txt").write_text(trace)


def summary(outcomes: Mapping[str, Outcome]) -> Iterator[str]:
    """A line per target and one for all."""
    for name, outcome in outcomes.items():
        yield line(name, outcome)
    total = Counter(read=sum(o.read for o in outcomes.values()), refused=sum(o.refused for o in outcomes.values()))
    findings = sum(len(found) for o in outcomes.values() for found in o.findings.values())
    slowest = max((o.slowest for o in outcomes.values()), default=0.0)
    yield (
        f"{sum(o.inputs for o in outcomes.values())} inputs: {total['read']} read, {total['refused']} refused, "
        f"{findings} findings; slowest {slowest:.2f} s, {sum(o.seconds for o in outcomes.values()):.0f} s in all"
    )


def line(name: str, outcome: Outcome) -> str:
    """What became of one target, and its findings."""
    head = (
        f"{name:20} {outcome.inputs:6} inputs  {outcome.read:6} read  {outcome.refused:6} refused  "
        f"slowest {outcome.slowest:5.2f} s  {outcome.seconds:5.0f} s"
    )
    found = [f"    {len(where):5} x {title} (first: {where[0]})" for title, where in outcome.findings.items()]
    return "\n".join([head, *found])
