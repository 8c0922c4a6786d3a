"""The model: sparse maps, norms, initialisers, blocks with taps, and its files."""

from __future__ import annotations

from gsnn.nn._init import INITIALISERS
from gsnn.nn._memory import keep_freed_memory
from gsnn.nn._model import GSNN
from gsnn.nn._norms import NORMS
from gsnn.nn._serialize import load_model, read_metadata, save_model, unwrap

__all__ = ["GSNN", "INITIALISERS", "NORMS", "keep_freed_memory", "load_model", "read_metadata", "save_model", "unwrap"]
