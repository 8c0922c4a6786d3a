"""Where perturbation data come from, so that a run can read the same data again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsnn._files import sha256
from gsnn.errors import DataError, RunError

if TYPE_CHECKING:
    from gsnn.data import PerturbationData

_ROLES = ("graph", "data", "inputs", "outputs")


@dataclass(frozen=True)
class Sources:
    """The files, or the bundled data set, that perturbation data are read from.

    Attributes:
        kind: ``files``, ``dataset`` or ``memory``.
        name: Name of the data set; empty for files.
        files: Role -> ``path`` (absolute), ``given`` (as the user wrote it), ``sha256`` and ``bytes``.
        options: Keyword arguments under ``network`` and ``responses`` (the two readers) and ``build``
            (:func:`gsnn.data.build_data`).
    """

    kind: str
    name: str = ""
    files: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def from_files(
        cls,
        graph: str | Path,
        data: str | Path | None = None,
        *,
        inputs: str | Path | None = None,
        outputs: str | Path | None = None,
        network_options: Mapping[str, Any] | None = None,
        responses_options: Mapping[str, Any] | None = None,
        build_options: Mapping[str, Any] | None = None,
    ) -> Sources:
        """A prior network and either one response file or two matrices.

        Args:
            graph: The network file.
            data: The MIDAS file or prefixed table.
            inputs: The matrix of treatments.
            outputs: The matrix of readouts.
            network_options: Keyword arguments of :func:`gsnn.io.read_network`; None values are left out.
            responses_options: Keyword arguments of :func:`gsnn.io.read_responses`; None values are left out.
            build_options: Keyword arguments of :func:`gsnn.data.build_data`; None values are left out.

        Returns:
            The sources, with the fingerprints of the files.

        Raises:
            DataError: If the responses are neither one file nor two matrices, or a file is missing or cannot be read.
        """
        if (data is None) == (inputs is None and outputs is None) or (inputs is None) != (outputs is None):
            raise DataError("give the responses as one file, or as both a matrix of inputs and one of outputs")
        given = dict(zip(_ROLES, (graph, data, inputs, outputs), strict=True))
        files = {role: _describe(path, role) for role, path in given.items() if path is not None}
        options = {"network": network_options, "responses": responses_options, "build": build_options}
        return cls("files", files=files, options={reader: _present(given) for reader, given in options.items()})

    @classmethod
    def dataset(cls, name: str, *, time: float | str | None = None) -> Sources:
        """A data set of :mod:`gsnn.datasets`.

        Args:
            name: One of ``gsnn.datasets.DATASETS``.
            time: The time to use; by default the last.

        Returns:
            The sources, with the fingerprints of the files.
        """
        from gsnn.datasets import dataset_files

        files = {role: _describe(path, role) for role, path in dataset_files(name).items()}
        return cls("dataset", name=name, files=files, options={"responses": _present({"time": time})})

    @classmethod
    def memory(cls) -> Sources:
        """Data that were made in memory and cannot be read again."""
        return cls("memory")

    def read(self) -> PerturbationData:
        """Read and assemble the data.

        Returns:
            The data.

        Raises:
            DataError: If a file does not hold what it must.
            RunError: If the data were made in memory.
        """
        if self.kind == "dataset":
            from gsnn.datasets import load_dataset

            return load_dataset(self.name, **self.options.get("responses", {}))
        if self.kind != "files":
            raise RunError("the run was trained on data in memory, which cannot be read again; pass the data")
        from gsnn.data import build_data
        from gsnn.io import read_network, read_responses

        network_options = dict(self.options.get("network", {}))
        if isinstance(network_options.get("sign"), list):  # JSON has no tuples
            network_options["sign"] = tuple(network_options["sign"])
        paths = {role: _find(entry) for role, entry in self.files.items()}
        network = read_network(paths["graph"], **network_options)
        responses = read_responses(
            paths.get("data"),
            inputs=paths.get("inputs"),
            outputs=paths.get("outputs"),
            **self.options.get("responses", {}),
        )
        return build_data(network, responses, **self.options.get("build", {}))

    def check(self) -> None:
        """Compare the files with their fingerprints.

        Raises:
            RunError: Naming the files that changed or are gone.
        """
        for role, entry in self.files.items():
            path = _find(entry)
            if not path.is_file():
                raise RunError(f"the {role} file {path} is gone; put it back, or train a new run on other files")
            if sha256(path) != entry["sha256"]:
                raise RunError(f"the {role} file {path} changed since the run was made; restore it or train a new run")

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "kind": self.kind,
            "name": self.name,
            "files": {role: dict(entry) for role, entry in self.files.items()},
            "options": json.loads(json.dumps({reader: dict(given) for reader, given in self.options.items()})),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Sources:
        """The inverse of :meth:`to_dict`."""
        return cls(values["kind"], values.get("name", ""), values.get("files", {}), values.get("options", {}))


def fingerprint(data: PerturbationData) -> str:
    """Hex digest of all that a run depends on: the graph with its signs, the inputs and the responses with their names.

    Args:
        data: The data.

    Returns:
        SHA-256 in hex.
    """
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
    for array in (data.x, data.y):
        digest.update(str((array.dtype, array.shape)).encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _describe(path: str | Path, role: str) -> dict[str, Any]:
    from gsnn.io._text import HDF5, read_raw, read_start  # brings pandas, which opening a run does not need

    # AnnData may be larger than memory, so its fingerprint is taken in blocks.
    large = read_start(path, role).startswith(HDF5)
    digest = sha256(path) if large else read_raw(path, role).sha256
    absolute = Path(path).absolute()
    return {"path": str(absolute), "given": str(path), "sha256": digest, "bytes": absolute.stat().st_size}


def _find(entry: Mapping[str, Any]) -> Path:
    """The file, where it was or, if the folder was moved, where the same relative path leads now."""
    absolute, given = Path(entry["path"]), Path(entry["given"])
    return given if not absolute.is_file() and given.is_file() else absolute


def _present(options: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (options or {}).items() if value is not None}
