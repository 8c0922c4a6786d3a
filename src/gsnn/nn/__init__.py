"""The model: sparse maps, norms, initialisers, blocks with taps, and its files."""

from __future__ import annotations

from gsnn.base.memory import keep_freed_memory
from gsnn.nn.files import load_model, read_metadata, save_model, unwrap
from gsnn.nn.init import INITIALISERS
from gsnn.nn.model import GSNN
from gsnn.nn.norms import NORMS

__all__ = ["GSNN", "INITIALISERS", "NORMS", "keep_freed_memory", "load_model", "read_metadata", "save_model", "unwrap"]
