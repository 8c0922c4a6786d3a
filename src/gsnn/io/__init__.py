"""Readers of prior networks and of perturbation responses, and the writer of proposed edges.

:func:`read_network` reads who acts on whom, :func:`read_responses` what was done and measured
(:func:`stream_responses` if that is larger than memory, :func:`read_treatments` if nothing has been measured). Both
return frozen dataclasses around pandas tables, keep every identifier as the text in the file (``NA``, ``007`` and
``1e5`` are names like any other), and raise :class:`gsnn.base.errors.DataError` with the file, the line and the
remedy. :func:`write_edges` writes proposed edges, and :func:`read_edges` reads them back.
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
