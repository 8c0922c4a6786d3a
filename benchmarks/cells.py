"""Cells of a benchmark, each done once: its rows stand in a CSV file, and a stopped benchmark goes on after them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from gsnn.base.files import atomic_path

Rows = Sequence[Mapping[Any, object]]


def read(path: Path, key: Sequence[str] = ()) -> pd.DataFrame:
    """What is done; without the file no row, of the columns that tell cells apart."""
    return pd.read_csv(path) if path.is_file() else pd.DataFrame(columns=list(key))


def is_done(path: Path, key: Sequence[str], values: Sequence[object]) -> bool:
    """Whether the file has rows of a cell."""
    return bool((read(path, key)[list(key)] == list(values)).all(axis=1).any())


def add(path: Path, rows: pd.DataFrame) -> None:
    """Put the rows of a cell behind those that stand in the file, in one step."""
    before = read(path)
    with atomic_path(path) as new:
        pd.concat([before, rows] if len(before) else [rows], ignore_index=True).to_csv(new, index=False)


def work(
    path: Path,
    key: Sequence[str],
    cells: Iterable[tuple[Sequence[object], Callable[[], Rows]]],
    columns: Sequence[str] | None = None,
) -> None:
    """Do the cells that are not in the file; those whose data are not on this machine are left out.

    Args:
        path: The file.
        key: Columns that tell cells apart.
        cells: Of each cell what stands in these columns, and what gives its rows.
        columns: Which to print; None for all.
    """
    for values, make in cells:
        if is_done(path, key, values):
            continue
        try:
            rows = pd.DataFrame(list(make()))
        except FileNotFoundError as error:
            print(f"left out: {' '.join(map(str, values))}: {error}", file=sys.stderr)
            continue
        print((rows if columns is None else rows[list(columns)]).to_string(), file=sys.stderr, flush=True)
        add(path, rows)


def arguments(
    doc: str | None, results: Path | None, quick: str = "", file: str = "--results"
) -> argparse.ArgumentParser:
    """The options that all share: the file, ``--table`` and, with a text, ``--quick``. Torch gets one thread."""
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(file, type=Path, default=results)
    if quick:
        parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--table", action="store_true", help="only print what is done")
    return parser
