"""SIGKILL train, infer, refine and report, and see what is left and what comes of it.

Run as a program: ``python tests/reliability/kill.py --moments 50`` kills each command at as many random moments, and
``--operations all`` at every operation on a file that it makes in the run folder (open, rename, remove). After each
kill the run folder must be valid or clearly marked incomplete; the command, given again, must end with the very files
of one that was never killed, bit for bit but for times and the name of the run, and leave none behind.

Processes are forked from one that has everything imported, so that a kill costs milliseconds; what is killed is a
process like any other.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from gsnn.base.errors import RunError
from gsnn.discovery import Refinement
from gsnn.nn import load_model
from gsnn.report.html import report_run
from gsnn.runs import Run
from gsnn.runs.infer import infer_run
from gsnn.runs.refine import refine_run
from gsnn.runs.train import train_files
from gsnn.training.checkpoint import SafetensorsCheckpointIO

SETTINGS = {"epochs": 5, "channels": 3, "layers": 3, "batch_size": 5, "norm": "batch", "restore_best": True, "seed": 7}
OPERATIONS = {"open", "os.rename", "os.remove", "shutil.rmtree", "os.mkdir"}


def write_sources(folder: Path) -> None:
    """A small network and responses, MIDAS-like."""
    (folder / "net.sif").write_text("a\t1\tc\nb\t1\tc\nc\t-1\td\nb\t1\te\ne\t1\td\n")
    rng = np.random.default_rng(3)
    lines = ["TR:a,TR:b,DA:ALL,DV:c,DV:d"]
    for _ in range(40):
        a, b = rng.random(2).round(4)
        lines.append(f"{a},{b},30,{a + b:.4f},{'NA' if rng.random() < 0.2 else f'{1 - a * b:.4f}'}")
    (folder / "midas.csv").write_text("\n".join(lines) + "\n")


def train(work: Path) -> None:
    train_files(work / "run", graph=work / "net.sif", data=work / "midas.csv", settings=SETTINGS, resume=True)


def infer(work: Path) -> None:
    infer_run(Run.open(work / "run"), method="gradient,magnitude")


def refine(work: Path) -> None:
    settings = {"epochs": 2}
    refine_run(Run.open(work / "run"), settings=settings, resume=True, rounds=2, per_round=1, method="gradient")


def report(work: Path) -> None:
    report_run(Run.open(work / "run"))


# ---------------------------------------------------------------- what must hold after a kill


def whole_csv(path: Path, rows: int | None = None) -> None:
    if path.is_file():
        table = pd.read_csv(path)
        assert rows is None or len(table) == rows, f"{path.name} has {len(table)} of {rows} rows"


def after_train(run: Path, whole: dict[str, Any]) -> str:
    if not (run / "run.json").is_file():
        Run.check_target(run)  # free for a new run
        return "nothing yet"
    found = Run.open(run)
    whole_csv(found.metrics_path)
    if found.checkpoint_path.is_file():
        SafetensorsCheckpointIO().load_checkpoint(found.checkpoint_path)
    if found.complete:
        assert tensors(found.model_path) == whole["model.safetensors"]
        return "complete"
    for ask in (found.model, found.fit_report):
        with pytest.raises(RunError, match="--resume"):
            ask()
    if found.model_path.is_file():
        load_model(found.model_path)
    return "incomplete"


def after_infer(run: Path, whole: dict[str, Any]) -> str:
    found = Run.open(run)
    assert found.complete
    found.model()
    if "inference" in found.info:
        assert (run / "edges.csv").read_bytes() == whole["edges.csv"]
        return "complete"
    for name in ("edges.csv", "edges.csv-metadata.json"):
        assert not (run / name).exists() or (run / name).read_bytes() == whole[name]
    return "incomplete"


def after_refine(run: Path, whole: dict[str, Any]) -> str:
    found = Run.open(run)
    assert found.complete
    found.model()
    if not (run / "refine.json").is_file():
        return "nothing yet"
    outcome, end = Refinement.read(run), json.loads(whole["refine.json"])
    for arm, rounds in outcome.arms.items():
        assert json.dumps(rounds) == json.dumps(end["arms"][arm][: len(rounds)])
    done = sum(map(len, outcome.arms.values())) == sum(map(len, end["arms"].values()))
    return "complete" if done else "incomplete"


def after_report(run: Path, whole: dict[str, Any]) -> str:
    assert Run.open(run).complete
    if not (run / "report.html").is_file():
        return "nothing yet"
    assert (run / "report.html").read_bytes() == whole["report.html"]
    return "complete"


# ---------------------------------------------------------------- comparing folders


def tensors(path: Path) -> Any:
    from safetensors import safe_open

    with safe_open(path, framework="np") as handle:
        return {name: (str(handle.get_tensor(name).dtype), handle.get_tensor(name).tobytes()) for name in handle.keys()}


def comparable(path: Path) -> Any:
    """The content of a file without what two runs may differ in: times and the name of the run."""
    if path.name in ("model.safetensors", "model-early.safetensors"):
        return tensors(path)
    if path.name == "checkpoint.safetensors":
        found = SafetensorsCheckpointIO().load_checkpoint(path)
        for state in found["callbacks"].values():
            for row in state.get("rows", ()):
                del row["seconds"]
        return repr(bits(found))
    if path.name == "metrics.csv":
        return pd.read_csv(path, dtype=str).drop(columns="seconds").to_csv()
    if path.name == "run.json":
        info = json.loads(path.read_text())
        for name in ("id", "created", "finished"):
            info.pop(name, None)
        info.get("training", {}).pop("seconds", None)
        return json.dumps(info)
    return path.read_bytes()


def bits(value: Any) -> Any:
    if hasattr(value, "numpy"):
        return str(value.dtype), tuple(value.shape), value.numpy().tobytes()
    if isinstance(value, dict):
        return [(repr(key), bits(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return [bits(item) for item in value]
    return value.hex() if isinstance(value, float) else value


def snapshot(run: Path) -> dict[str, Any]:
    return {path.name: comparable(path) for path in sorted(run.iterdir())}


# ---------------------------------------------------------------- processes


@dataclass(frozen=True)
class Command:
    """A command, and what must hold of the folder once it was killed."""

    run: Callable[[Path], None]
    check: Callable[[Path, dict[str, Any]], str]


COMMANDS = {
    "train": Command(train, after_train),
    "infer": Command(infer, after_infer),
    "refine": Command(refine, after_refine),
    "report": Command(report, after_report),
}


def start(job: Callable[[], None], errors: Path, folder: Path, kill_at: float = math.inf) -> int:
    """Fork a process that kills itself just before its k-th operation on a file in a folder.

    One that ends by itself writes the number of these operations beside the folder.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads, which are all asleep
        process = os.fork()
    if process:
        return process
    code = 1
    try:
        made = 0

        def count(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal made
            if event in OPERATIONS and str(arguments[0]).startswith(str(folder)):
                if made == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                made += 1

        sys.addaudithook(count)
        job()
        folder.with_suffix(".operations").write_text(str(made))
        code = 0
    except BaseException:
        errors.write_text(traceback.format_exc())
    finally:
        os._exit(code)


def ended(process: int, errors: Path) -> bool:
    """Wait for a process; whether it was killed. An error of its own is raised here."""
    _, status = os.waitpid(process, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return True
    assert status == 0, errors.read_text() if errors.is_file() else f"the process ended with status {status}"
    return False


def kill_after(process: int, seconds: float) -> None:
    time.sleep(seconds)
    os.kill(process, signal.SIGKILL)  # a process that ended already is still there to be waited for


class Scene:
    """One command in a folder that can be put back to how it was before the command."""

    def __init__(self, work: Path, name: str) -> None:
        self.work, self.name, self.command = work, name, COMMANDS[name]
        self.run, self.before, self.errors = work / "run", work / f"before-{name}", work / "errors.txt"
        if self.run.is_dir():
            shutil.copytree(self.run, self.before)
        self.seconds = self._once()
        self.whole = snapshot(self.run)
        self.operations = int((work / "run.operations").read_text())

    def _once(self) -> float:
        self.reset()
        begin = time.perf_counter()
        assert not ended(self._start(), self.errors)
        return time.perf_counter() - begin

    def _start(self, kill_at: float = math.inf) -> int:
        return start(lambda: self.command.run(self.work), self.errors, self.run, kill_at)

    def reset(self) -> None:
        shutil.rmtree(self.run, ignore_errors=True)
        if self.before.is_dir():
            shutil.copytree(self.before, self.run)

    def finish(self) -> None:
        """The command done, as the next one needs it."""
        self._once()

    def killed(self, *, seconds: float = 0.0, operation: int | None = None, again: float | None = None) -> str | None:
        """Kill it once (and, with ``again``, once more while it goes on), check, let it end, compare.

        Returns:
            What was found after the kill; None if the command ended before it.
        """
        self.reset()
        process = self._start(math.inf if operation is None else operation)
        if operation is None:
            kill_after(process, seconds)
        if not ended(process, self.errors):
            return None
        state = self.command.check(self.run, self.whole) if self.run.is_dir() else "nothing yet"
        if again is not None:
            process = self._start()
            kill_after(process, again)
            if ended(process, self.errors) and self.run.is_dir():
                self.command.check(self.run, self.whole)
        assert not ended(self._start(), self.errors)
        found = snapshot(self.run)
        assert list(found) == list(self.whole), f"files {list(found)} instead of {list(self.whole)}"
        for name, content in self.whole.items():
            assert found[name] == content, f"{name} differs from that of a run that was not killed"
        return state


def moments(scene: Scene, number: int, rng: random.Random) -> dict[str, int]:
    """Kills at random moments, every third one twice."""
    seen: dict[str, int] = {}
    for k in range(number):
        for _ in range(20):
            again = rng.uniform(0, scene.seconds) if k % 3 == 2 else None
            state = scene.killed(seconds=rng.uniform(0, scene.seconds), again=again)
            if state is not None:
                break
        else:
            raise AssertionError(f"{scene.name} could not be killed: it ended too soon each time")
        seen[state] = seen.get(state, 0) + 1
    return seen


def operations(scene: Scene, number: int | None, rng: random.Random) -> dict[str, int]:
    """Kills before operations on files: every one, or some of them drawn at random."""
    seen: dict[str, int] = {}
    chosen = range(scene.operations)
    for k in chosen if number is None else sorted(rng.sample(chosen, min(number, len(chosen)))):
        state = scene.killed(operation=k)
        assert state is not None, f"{scene.name} made no operation {k} on a file this time"
        seen[state] = seen.get(state, 0) + 1
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--moments", type=int, default=50, help="random moments for each command")
    parser.add_argument("--operations", default="all", help="file operations for each command: a number or 'all'")
    parser.add_argument("--commands", nargs="+", default=list(COMMANDS), choices=list(COMMANDS))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    torch.set_num_threads(1)  # sleeping threads do not survive a fork
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*fork.*")
    with tempfile.TemporaryDirectory() as name:
        work = Path(name).resolve()
        write_sources(work)
        for job in (train, infer, report):  # everything is imported and compiled before the first fork
            job(work)
        shutil.rmtree(work / "run")
        for command in COMMANDS:
            scene = Scene(work, command)
            if command in options.commands:
                random_ones = moments(scene, options.moments, rng)
                number = None if options.operations == "all" else int(options.operations)
                at_files = operations(scene, number, rng) if number != 0 else {}
                print(
                    f"{command}: {scene.seconds:.2f} s; killed at {sum(random_ones.values())} random moments "
                    f"{random_ones} and before {sum(at_files.values())} file operations {at_files}; resumed alike",
                    flush=True,
                )
            scene.finish()


if __name__ == "__main__":
    main()
