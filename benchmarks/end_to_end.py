"""Wall and CPU time of whole commands, each in a process of its own: demo, self-check, stacked, the ligand screen.

``python benchmarks/end_to_end.py [--source OTHER/src] [--threads 1 2]``: with ``--source`` the package as it stands in
another working tree, for a comparison with an earlier commit. The ligand screen trains with the default settings and
needs the data set ``lembas_ligandscreen`` in the folder named by GSNN_DATA; without it that one is left out.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SCREEN = Path(
    os.environ.get("GSNN_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"), "lembas_ligandscreen"
)


def commands(place: Path) -> dict[str, list[str]]:
    """Arguments of gsnn by name; the first makes the run that the next two read."""
    run = str(place / "run")
    named = {
        "demo": ["demo", "-o", run],
        "selfcheck": ["selfcheck", run],
        "infer stacked": ["infer", run, "--method", "stacked", "--out", str(place / "stacked.csv")],
    }
    if SCREEN.is_dir():
        files = {"graph": "Model", "inputs": "Ligands", "outputs": "TFs"}
        paths = {f"--{name}": str(SCREEN / f"ligandScreen-{file}.tsv") for name, file in files.items()}
        options = [word for pair in paths.items() for word in pair]
        named["ligand screen, train"] = ["train", *options, "-o", str(place / "screen")]
        named["ligand screen, infer"] = ["infer", str(place / "screen")]
    return named


def measured(words: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Wall and CPU seconds of a command and of the processes that it starts."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-m", "gsnn", *words, "--quiet"], env=environment, check=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Run every command with each number of threads and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, help="the src folder of another working tree")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only", nargs="+", help="names of commands; demo comes before selfcheck and infer")
    arguments = parser.parse_args()
    for threads in arguments.threads:
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        if arguments.source is not None:
            environment["PYTHONPATH"] = str(arguments.source.resolve())
        with tempfile.TemporaryDirectory() as place:
            for name, words in commands(Path(place)).items():
                if arguments.only is None or name in arguments.only:
                    wall, cpu = measured(words, environment)
                    print(f"{threads} threads  {name:22s} {wall:7.1f} s wall {cpu:7.1f} s CPU", flush=True)


if __name__ == "__main__":
    main()
