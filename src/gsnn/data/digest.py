"""A digest of perturbation data, to tell whether network and numbers are the same."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from gsnn.data.perturbation import PerturbationData
from gsnn.data.stream import StreamedData


def fingerprint(data: PerturbationData | StreamedData) -> str:
    """SHA-256 in hex of what a run depends on: the graph with its signs, inputs and responses with their names."""
    digest = hashlib.sha256()
    names = data.graph.node_names_dict
    digest.update(json.dumps({kind: list(names[kind]) for kind in sorted(names)}).encode())
    edges = data.graph.edge_index_dict
    for kind in sorted(edges):
        digest.update("/".join(kind).encode())
        digest.update(edges[kind].contiguous().numpy().tobytes())
    for label, values in (("sign", data.graph.edge_sign_dict), ("weight", data.graph.edge_weight_dict)):
        for kind, each in sorted((values or {}).items(), key=lambda item: item[0]):
            digest.update(f"{label} of {'/'.join(kind)}".encode())
            digest.update(each.contiguous().numpy().tobytes())
    if isinstance(data, StreamedData):
        digest.update(data.digest().encode())
        return digest.hexdigest()
    for array in (data.x, data.y):
        digest.update(str((array.dtype, array.shape)).encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def sample_settings(data: PerturbationData) -> dict[str, Any]:
    """What a result stores about its data; JSON-able.

    Returns:
        ``fingerprint`` of all samples, and ``sample``: None, or how many of how many samples were used and the seed.
    """
    drawn = data.drawn
    return {
        "fingerprint": (drawn.fingerprint if drawn else "") or fingerprint(data),
        "sample": drawn.to_dict() if drawn and drawn.partial else None,
    }
