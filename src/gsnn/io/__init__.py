"""Readers of prior networks and of perturbation responses, and the writer of proposed edges.

Two doors in: :func:`read_network` for who acts on whom, :func:`read_responses` for what was done and what was
measured (:func:`stream_responses` where that is larger than memory, :func:`read_treatments` where nothing has been
measured). Both return plain frozen dataclasses around pandas tables, keep every identifier as the text that stands in
the file (``NA``, ``007`` and ``1e5`` are names like any other), and raise :class:`gsnn.base.errors.DataError` with the
file, the line and the remedy. One door out: :func:`write_edges`, which :func:`read_edges` reverses.
"""

from __future__ import annotations

from gsnn.io.anndata import AnnDataResponses
from gsnn.io.name_map import NameMap, read_name_map
from gsnn.io.network import Network, read_network
from gsnn.io.read import read_responses, read_treatments
from gsnn.io.responses import Responses
from gsnn.io.stream import StreamedResponses
from gsnn.io.stream_arrays import ArrayResponses
from gsnn.io.stream_open import stream_responses
from gsnn.io.stream_parquet import ParquetResponses
from gsnn.io.write import EDGE_FORMATS, read_edges, write_edges

__all__ = [
    "EDGE_FORMATS",
    "AnnDataResponses",
    "ArrayResponses",
    "NameMap",
    "Network",
    "ParquetResponses",
    "Responses",
    "StreamedResponses",
    "read_edges",
    "read_name_map",
    "read_network",
    "read_responses",
    "read_treatments",
    "stream_responses",
    "write_edges",
]
