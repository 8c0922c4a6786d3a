"""Perturbation data on a prior network: matching, splits, standardising, in memory or as a stream."""

from __future__ import annotations

from gsnn.data.digest import fingerprint
from gsnn.data.perturbation import PerturbationData, build_data
from gsnn.data.split import Split
from gsnn.data.standardiser import Standardiser, standardise
from gsnn.data.stream import StreamedData, stream_data

__all__ = [
    "PerturbationData",
    "Split",
    "Standardiser",
    "StreamedData",
    "build_data",
    "fingerprint",
    "standardise",
    "stream_data",
]
