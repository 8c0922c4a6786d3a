"""Readers for evaluations: true edges, roles of edges, tables of scored edges."""

from __future__ import annotations

import os
from typing import Any

import pandas as pd

from gsnn.base.errors import DataError
from gsnn.graph.checks import Edge
from gsnn.io.network import read_network


def read_truth(path: str | os.PathLike[str], **options: Any) -> list[Edge]:  # noqa: ANN401 - of the reader
    """The true edges in a file, as (source, target) names.

    Args:
        path: The file: any that :func:`gsnn.io.read_network` reads.
        **options: Options of that reader.

    Raises:
        DataError: If the file cannot be read.
    """
    edges = read_network(path, **{"between_species": False, **options}).edges
    return list(zip(edges["source"], edges["target"], strict=True))


def read_roles(path: str | os.PathLike[str]) -> dict[Edge, str]:
    """The role of each edge, from a CSV or TSV file with the columns source, target and role.

    Raises:
        DataError: If the file is missing or lacks a column.
    """
    table = read_table(path)
    absent = [name for name in ("source", "target", "role") if name not in table.columns]
    if absent:
        raise DataError(f"{path} must have the columns source, target and role, got {list(table.columns)[:8]}")
    return {(s, t): r for s, t, r in zip(table["source"], table["target"], table["role"], strict=True)}


def read_table(path: str | os.PathLike[str]) -> pd.DataFrame:
    """A CSV or TSV file with a header; names are kept as text, ``NA`` included.

    Raises:
        DataError: If it cannot be read.
    """
    text = ("source", "target", "src_func", "dst_func", "role")
    try:
        with open(path, encoding="utf-8-sig", newline="") as handle:
            separator = "\t" if "\t" in handle.readline() else ","
            handle.seek(0)
            header = pd.read_csv(handle, sep=separator, nrows=0).columns
            handle.seek(0)
            return pd.read_csv(
                handle,
                sep=separator,
                dtype={name: str for name in header if name in text},
                keep_default_na=False,
                na_values={name: ["", "nan", "NaN"] for name in header if name not in text},
            )
    except FileNotFoundError as error:
        raise DataError(f"the file {path} does not exist") from error
    except IsADirectoryError as error:
        raise DataError(f"{path} is a folder without a run; give a table of edges or a run folder") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as a table: {error}") from error
