"""Samples per second and peak memory of data that stay in their file: inference, and one epoch of training.

``python benchmarks/streaming.py [--quick] [--keep FOLDER]`` writes Parquet files of 200 columns (50 treatments, 150
readouts, float32, row groups of 10,000 rows) chunk by chunk into a temporary folder, and lets a process of its own
go through each of them: ``MagnitudeEdgeInferer.fit`` on all samples, and ``gsnn.training.fit`` for one epoch, with
everything that belongs to it (split, scale, baselines, figures). Peak memory is the high-water mark of the process
beyond what it held after its imports and a warm-up on 2,000 samples.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

TREATMENTS, READOUTS, GROUP = 50, 150, 10_000
SIZES, QUICK = (100_000, 1_000_000), (5_000, 20_000)
WARM = 2_000
BUFFER = 48 * 2**20  # less than the training samples of either size, so that both fill it
CASES = ("read", "infer", "train")


def write(path: Path, samples: int) -> None:
    """Responses to sparse treatments through a fixed random map, a row group at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    weights = rng.normal(size=(TREATMENTS, READOUTS)).astype(np.float32)
    names = [f"TR:n{i}" for i in range(TREATMENTS)] + [f"DV:n{i}" for i in range(READOUTS)]
    schema = pa.schema([(name, pa.float32()) for name in names])
    with pq.ParquetWriter(path, schema, compression="snappy", use_dictionary=False) as writer:
        for start in range(0, samples, GROUP):
            rows = min(GROUP, samples - start)
            x = rng.random((rows, TREATMENTS), dtype=np.float32) * (rng.random((rows, TREATMENTS)) < 0.1)
            y = np.tanh(x @ weights) + 0.1 * rng.standard_normal((rows, READOUTS), dtype=np.float32)
            columns = [*x.astype(np.float32).T, *y.astype(np.float32).T]
            writer.write_table(pa.table(dict(zip(names, columns, strict=True)), schema=schema), row_group_size=rows)


def network():
    """150 species, each with two random parents."""
    from gsnn.io import Network

    rng = np.random.default_rng(1)
    pairs = {(f"n{rng.integers(0, READOUTS)}", f"n{i}", 1) for i in range(READOUTS) for _ in range(2)}
    return Network.from_edges(sorted(p for p in pairs if p[0] != p[1]))


def case(what: str, path: Path) -> dict[str, float]:
    """Seconds for one pass, by the clock and of the processor."""
    import torch

    from gsnn import GSNN, MagnitudeEdgeInferer
    from gsnn.data import Standardiser, stream_data
    from gsnn.io import ParquetResponses
    from gsnn.nn.losses import masked_mse
    from gsnn.training import TrainConfig, fit

    responses = ParquetResponses(path)
    data = stream_data(network(), responses, buffer_bytes=BUFFER)
    plain = Standardiser(np.zeros(data.graph.O), np.ones(data.graph.O))
    start, used = time.perf_counter(), time.process_time()
    if what == "read":
        for _ in data.chunks():
            pass
    elif what == "infer":
        torch.manual_seed(0)
        model = GSNN.from_graph(data.graph, channels=2, layers=2, norm="none")
        inferer = MagnitudeEdgeInferer(model, data.graph)
        inferer.fit(data.batches(plain, 1024), crit=masked_mse, verbose=False)
        assert inferer.n == len(data)
    else:
        fit(
            data, TrainConfig(epochs=1, channels=2, layers=2, norm="none", dropout=0.0, batch_size=1024), progress=False
        )
    return {"seconds": time.perf_counter() - start, "cpu": time.process_time() - used}


def peak() -> float:
    """High-water mark of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def child(what: str, path: Path, small: Path) -> None:
    """One case in this process; prints what came of it as JSON."""
    import torch

    torch.set_num_threads(1)
    case(what, small)
    before = peak()
    print(json.dumps(case(what, path) | {"before": before, "peak": peak()}))


def main() -> None:
    """Write the files, run the cases, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small files, for a check that it runs")
    parser.add_argument("--keep", type=Path, help="write the files here and keep them")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        return child(given.child[0], Path(given.child[1]), Path(given.child[2]))
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        small = folder / "small.parquet"
        write(small, WARM)
        print("| case | samples | file MB | s | CPU s | samples/CPU s | MB/CPU s | peak MB | beyond the start MB |")
        print("|---|---|---|---|---|---|---|---|---|")
        runs = [(samples, what) for what in CASES for samples in (QUICK if given.quick else SIZES)]
        for samples, what in runs:
            path = folder / f"{samples}.parquet"
            if not path.is_file():
                write(path, samples)
            size = path.stat().st_size / 1e6
            command = [sys.executable, __file__, "--child", what, str(path), str(small)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(done.stderr)
            found = json.loads(done.stdout)
            cpu = found["cpu"]
            print(
                f"| {what} | {samples:,} | {size:.0f} | {found['seconds']:.1f} | {cpu:.1f} | {samples / cpu:,.0f} | "
                f"{size / cpu:.0f} | {found['peak']:.0f} | {found['peak'] - found['before']:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
