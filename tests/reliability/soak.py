"""Train, infer, refine and report in one process for a long time, and watch what it keeps.

Run as a program, on Linux: ``python tests/reliability/soak.py --minutes 30``. After a warm-up of a fifth of the time
it counts, after every round, resident memory, open files, threads, live tensors and modules, and hooks of the last
model; at the end it prints the slope of the memory, with its standard error, and fails if one of the counts has grown
or the memory grows by more than ``--slope`` MiB an hour (and by more than twice the standard error).
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from kill import infer, refine, report, write_sources

from gsnn.edges import GradientEdgeInferer, MagnitudeEdgeInferer, MagnitudeEdgeKGE, MagnitudeEdgeRegressor
from gsnn.runs import Run
from gsnn.training import TrainConfig, fit


def one_round(work: Path, number: int) -> torch.nn.Module:
    """Train from scratch, infer with every way to do so, refine, report; the trained model."""
    run = Run.open(work / "run")
    data, config = run.data(), TrainConfig(**{**run.config.to_dict(), "seed": number})
    model = fit(data, config, progress=False).model
    batches = [(torch.tensor(data.x), torch.tensor(data.y).nan_to_num())]
    for kind in (MagnitudeEdgeInferer, GradientEdgeInferer):
        inferer = kind(model, data.graph)
        inferer.fit(batches, verbose=False)
        inferer.score_matrix()
    inferer = MagnitudeEdgeInferer(model, data.graph)
    inferer.fit(batches, verbose=False)
    MagnitudeEdgeKGE(inferer, embedding_dim=4, layer_agg="mean0").fit(n_epochs=2, verbose=False)
    MagnitudeEdgeRegressor(model, data.graph).fit(batches, verbose=False, n_epochs=2)
    for job in (infer, refine, report):
        job(work)
    (work / "run" / "refine.json").unlink()
    return model


def counted(model: torch.nn.Module) -> dict[str, int]:
    """What must not grow."""
    gc.collect()
    kept = [type(item) for item in gc.get_objects()]
    return {
        "files": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
        "python threads": threading.active_count(),
        "tensors": sum(issubclass(kind, torch.Tensor) for kind in kept),
        "modules": sum(issubclass(kind, torch.nn.Module) for kind in kept),
        "hooks": sum(
            len(hooks)
            for module in model.modules()
            for name, hooks in vars(module).items()
            if name.endswith("_hooks") and hooks
        ),
    }


def resident() -> float:
    """Memory in MiB, as Linux counts it."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def slope(hours: np.ndarray, mebibytes: np.ndarray) -> tuple[float, float]:
    """Least-squares slope and its standard error."""
    centred = hours - hours.mean()
    rate = float(centred @ mebibytes / (centred @ centred))
    rest = mebibytes - mebibytes.mean() - rate * centred
    return rate, float(np.sqrt(rest @ rest / max(len(rest) - 2, 1) / (centred @ centred)))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--slope", type=float, default=20.0, help="MiB an hour that pass for flat")
    options = parser.parse_args()
    torch.set_num_threads(1)
    seconds = 60 * options.minutes
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        write_sources(work)
        from kill import train

        train(work)
        begin, rounds, rows = time.monotonic(), 0, []
        first: dict[str, int] = {}
        while time.monotonic() - begin < seconds or len(rows) < 5:
            model = one_round(work, rounds)
            rounds += 1
            passed = time.monotonic() - begin
            if passed < seconds / 5 or rounds < 3:
                continue
            counts = counted(model)
            first = first or counts
            rows.append((passed / 3600, resident()))
            grown = {what: (first[what], n) for what, n in counts.items() if n > first[what]}
            del model
            assert not grown, f"round {rounds}: grown from the first round counted: {grown}"
    rate, error = slope(*np.array(rows).T)
    last = ", ".join(f"{n} {what}" for what, n in counts.items())
    print(
        f"{rounds} rounds in {passed / 60:.1f} min, {len(rows)} of them counted; resident memory {rows[0][1]:.1f} MiB "
        f"at first, {rows[-1][1]:.1f} MiB at last, slope {rate:.2f} +- {error:.2f} MiB an hour; "
        f"all counts flat: {last}"
    )
    assert rate < options.slope or rate < 2 * error, "the memory grows"


if __name__ == "__main__":
    main()
