"""Perturbation data on a prior network: matching, splitting, standardising, in memory or as a stream."""

from __future__ import annotations

from gsnn.data.perturbation import PerturbationData, Split, build_data
from gsnn.data.standardiser import Standardiser, standardise
from gsnn.data.stream import StreamedData, StreamedSplit, stream_data

__all__ = [
    "PerturbationData",
    "Split",
    "Standardiser",
    "StreamedData",
    "StreamedSplit",
    "build_data",
    "standardise",
    "stream_data",
]
