"""Where perturbation data come from, so that a run can read them again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gsnn.base.errors import DataError, RunError
from gsnn.base.files import sha256
from gsnn.base.wording import asked
from gsnn.runs.settings import present

if TYPE_CHECKING:
    from gsnn.data import PerturbationData, StreamedData
    from gsnn.io import Network, Responses, StreamedResponses

STREAM_ABOVE = 2**30  # bytes of the files of responses
_ROLES = ("graph", "data", "inputs", "outputs", "map")


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
        names: str | Path | None = None,
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
            names: A table of what labels stand for (:func:`gsnn.io.read_name_map`).
            network_options: Keyword arguments of :func:`gsnn.io.read_network`; None values are left out.
            responses_options: Keyword arguments of :func:`gsnn.io.read_responses`; None values are left out. With
                ``stream``: True leaves the samples in their files (:func:`gsnn.io.stream_responses`), False reads them
                into memory; by default files above 1 GiB are left there, and ``.npy`` files always.
            build_options: Keyword arguments of :func:`gsnn.data.build_data`; None values are left out.

        Returns:
            The sources, with the fingerprints of the files.

        Raises:
            DataError: If the responses are neither one file nor two matrices, or a file is missing or cannot be read.
        """
        if (data is None) == (inputs is None and outputs is None) or (inputs is None) != (outputs is None):
            raise DataError("give the responses as one file, or as both a matrix of inputs and one of outputs")
        paths = zip(_ROLES, (graph, data, inputs, outputs, names), strict=True)
        files = {role: _describe(path, role) for role, path in paths if path is not None}
        responses = present(responses_options)
        stream = responses.pop("stream", None)
        arrays = "npy" in _kinds(files)
        if arrays and stream is False:
            raise DataError(f".npy files are always streamed; leave {asked('stream=False', '--no-stream')} out")
        if "names" in responses and not arrays:
            raise DataError(
                f"names of columns ({asked('names', '--treatment-names, --readout-names')}) belong to .npy files, or "
                f"to a matrix in {asked('obsm', '--obsm')}; leave them out"
            )
        if _large(files) if stream is None else stream:
            responses["stream"] = True
        options = {"network": network_options, "responses": responses, "build": build_options}
        return cls("files", files=files, options={reader: present(values) for reader, values in options.items()})

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
        return cls("dataset", name=name, files=files, options={"responses": present({"time": time})})

    @classmethod
    def memory(cls) -> Sources:
        """Data made in memory, which cannot be read again."""
        return cls("memory")

    @property
    def streamed(self) -> bool:
        """Whether the samples stay in their files."""
        return bool(self.options.get("responses", {}).get("stream", False))

    def open(self) -> PerturbationData | StreamedData:
        """The data, in memory (:meth:`read`) or with the samples left in their files.

        Raises:
            DataError: If a file does not hold what it must, or cannot be streamed.
            RunError: If the data were made in memory.
        """
        if not self.streamed:
            return self.read()
        from gsnn.data import stream_data

        network, paths, building = self._parts()
        return stream_data(network, self.stream_responses(network, paths), **building)

    def stream_responses(self, network: Network, paths: Mapping[str, Path]) -> StreamedResponses:
        """The responses in files with these roles, open and not yet read; species tell which columns are responses.

        Raises:
            DataError: If they cannot be streamed.
        """
        from gsnn.io import stream_responses

        responses = stream_responses(paths.get("data"), **self._reading(network, paths))
        responses.trust({role: entry["sha256"] for role, entry in self.files.items()})
        return responses

    def read_responses(self, network: Network, paths: Mapping[str, Path]) -> Responses:
        """The responses, read into memory; arguments and errors are those of :meth:`stream_responses`."""
        from gsnn.io import read_responses

        return read_responses(paths.get("data"), **self._reading(network, paths))

    def _reading(self, network: Network, paths: Mapping[str, Path]) -> dict[str, Any]:
        """The arguments of both readers of responses."""
        options = {name: value for name, value in self.options.get("responses", {}).items() if name != "stream"}
        files = {role: paths.get(role) for role in ("inputs", "outputs")}
        return {**files, "species": network.species, **options}

    def sample(
        self, n: int | None = None, seed: int = 0, rows: npt.NDArray[np.int64] | None = None
    ) -> PerturbationData:
        """A part of the samples, in memory, drawn at random.

        Args:
            n: How many; None draws 2,000 of samples that stay in their files, and takes all of others.
            seed: Fixes the draw.
            rows: The samples to draw from; None: all.

        Returns:
            The data, with a record of how they were drawn.

        Raises:
            DataError: As for :meth:`open`.
            ValueError: If ``n`` is too small.
        """
        from gsnn.data import build_data
        from gsnn.data.drawn import SAMPLE, Drawn

        if not self.streamed:
            data = self.read()
            if n is None and rows is None:
                return data
            pool = np.arange(len(data)) if rows is None else rows
            chosen = Drawn.rows(len(pool) if n is None else n, pool, seed)
            data = replace(data, inputs=data.inputs.iloc[chosen], outputs=data.outputs.iloc[chosen])
        else:
            network, paths, building = self._parts()
            responses = self.stream_responses(network, paths)
            pool = np.arange(len(responses)) if rows is None else rows
            part = responses.sample(Drawn.rows(SAMPLE if n is None else n, pool, seed))
            responses.close()
            data = build_data(network, part, **building)
        return replace(data, drawn=Drawn(len(data), len(pool), seed))

    def _parts(self) -> tuple[Network, dict[str, Path], dict[str, Any]]:
        """The network, where the files are now, and the arguments with which data are built."""
        from gsnn.io import read_name_map, read_network

        options = dict(self.options.get("network", {}))
        if isinstance(options.get("sign"), list):  # JSON has no tuples
            options["sign"] = tuple(options["sign"])
        paths = {role: _find(entry) for role, entry in self.files.items()}
        network = read_network(paths["graph"], **options)
        names = read_name_map(paths["map"]) if "map" in paths else None
        return network, paths, {"names": names, **self.options.get("build", {})}

    def read(self) -> PerturbationData:
        """Read and assemble the data.

        Raises:
            DataError: If a file does not hold what it must.
            RunError: If the data were made in memory, or stay in their files.
        """
        if self.streamed:
            raise RunError(
                "the run was trained on data that are streamed from their files, and this needs all of them in memory; "
                f"train a run on a part of the samples, with {asked('stream=False', '--no-stream')}"
            )
        if self.kind == "dataset":
            from gsnn.datasets import load_dataset

            return load_dataset(self.name, **self.options.get("responses", {}))
        if self.kind != "files":
            raise RunError("the run was trained on data in memory, which cannot be read again; pass the data")
        from gsnn.data import build_data

        network, paths, building = self._parts()
        return build_data(network, self.read_responses(network, paths), **building)

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
            "options": json.loads(json.dumps({reader: dict(values) for reader, values in self.options.items()})),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Sources:
        """The inverse of :meth:`to_dict`.

        Raises:
            ValueError: If a file or an option is not described as :meth:`to_dict` does.
        """
        kind, name = values["kind"], values.get("name", "")
        files, options = values.get("files", {}), values.get("options", {})
        for role, entry in files.items():
            if role not in _ROLES or not all(isinstance(entry[key], str) for key in ("path", "given", "sha256")):
                raise ValueError(f"the {role} file has no path, name as given, or fingerprint")
        if not isinstance(name, str) or not all(isinstance(each, Mapping) for each in options.values()):
            raise ValueError("name must be text, and the options of a reader a table")
        return cls(kind, name, files, options)


def _describe(path: str | Path, role: str) -> dict[str, Any]:
    from gsnn.io.stream_open import NPY
    from gsnn.io.text import HDF5, PARQUET, read_raw, read_start  # brings pandas, which opening a run does not need

    # These may be larger than memory, so their fingerprint is taken in blocks.
    large = read_start(path, role).startswith((HDF5, PARQUET, NPY))
    digest = sha256(path) if large else read_raw(path, role).sha256
    absolute = Path(path).absolute()
    return {"path": str(absolute), "given": str(path), "sha256": digest, "bytes": absolute.stat().st_size}


def _kinds(files: Mapping[str, Mapping[str, Any]]) -> set[str | None]:
    """The kinds of the response files; None for one that cannot be streamed."""
    from gsnn.io.stream_open import stream_kind

    return {stream_kind(entry["path"]) for role, entry in files.items() if role not in ("graph", "map")}


def _large(files: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether responses stay in their files where the user did not say."""
    kinds = _kinds(files)
    size = sum(entry["bytes"] for role, entry in files.items() if role not in ("graph", "map"))
    return None not in kinds and ("npy" in kinds or size > STREAM_ABOVE)


def _find(entry: Mapping[str, Any]) -> Path:
    """The file where it was or, if that is gone, where the path leads that the user gave."""
    absolute, given = Path(entry["path"]), Path(entry["given"])
    return given if not absolute.is_file() and given.is_file() else absolute
