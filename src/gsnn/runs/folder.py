"""Run folders: one training run with its sources, settings, weights and results, in files that need no Python."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsnn.base.csv_file import write_csv_file
from gsnn.base.errors import RunError
from gsnn.base.files import folder_lock, plain, write_json
from gsnn.base.wording import command_line
from gsnn.data.digest import fingerprint
from gsnn.runs.inference.columns import csv_metadata
from gsnn.runs.info import FORMAT, RUN, is_temporary, now, read_info, reading, versions
from gsnn.runs.settings import refuse_both
from gsnn.runs.sources import Sources
from gsnn.training.config import TrainConfig

if TYPE_CHECKING:
    import pandas as pd

    from gsnn.data import PerturbationData, Split, Standardiser, StreamedData
    from gsnn.nn import GSNN
    from gsnn.training.baselines import FitReport
    from gsnn.training.members import Member
    from gsnn.training.prepare import Prepared

MODEL, EARLY, REGRESSOR = "model.safetensors", "model-early.safetensors", "regressor.safetensors"
METRICS, EDGES, REPAIRS, REPORT = "metrics.csv", "edges.csv", "repairs.csv", "report.html"
CHECKPOINT, MEMBERS = "checkpoint.safetensors", "members"
EDGES_METADATA = f"{EDGES}-metadata.json"  # the name that readers of CSV on the Web look for


class Run:
    """A run folder; make one with :meth:`create`, read one with :meth:`open`.

    The folder holds ``run.json`` (settings, sources with fingerprints, versions, split, standardiser, status and
    results), ``checkpoint.safetensors`` (the state after the last whole epoch), ``metrics.csv`` (a row per epoch),
    ``model.safetensors`` once training is complete, with ``regressor.safetensors`` if a regressor learnt beside it, and
    ``edges.csv`` (with ``edges.csv-metadata.json``, which says what its columns mean) and ``report.html`` once they are
    asked for; and ``members/1``, ``members/2``, ... if it was trained with members.
    Every file is replaced in one step, so a killed program never leaves half a file.

    Attributes:
        path: The folder.
        info: The content of ``run.json``.
        model_path: The trained model.
        early_path: The model when it had learnt most, from which edges are inferred.
        metrics_path: A row per epoch.
        edges_path: The candidate edges.
        repairs_path: The repairs that an inference and an audit propose.
        report_path: The report.
        checkpoint_path: The training state after the last whole epoch.
        regressor_path: What the regressor has learnt while the run was trained.
        members_path: A folder for each member, called by its number.
    """

    def __init__(self, path: Path, info: dict[str, Any]) -> None:
        self.path = path
        self.info = info
        self.model_path, self.early_path, self.metrics_path = path / MODEL, path / EARLY, path / METRICS
        self.edges_path, self.repairs_path, self.report_path = path / EDGES, path / REPAIRS, path / REPORT
        self.checkpoint_path, self.regressor_path = path / CHECKPOINT, path / REGRESSOR
        self.members_path = path / MEMBERS
        self._locked = False

    # ------------------------------------------------------------------ making and opening

    @classmethod
    def create(
        cls,
        path: str | Path,
        *,
        config: TrainConfig,
        data: PerturbationData | StreamedData,
        sources: Sources | None = None,
        overwrite: bool = False,
        regressor: bool = False,
        members: int = 0,
    ) -> Run:
        """Make a new run folder with status ``training``; its parents are made too.

        Call it once everything has been checked: it is the first step that writes to the disk.

        Args:
            path: The folder.
            config: The settings.
            data: The data to train on; their fingerprint is recorded.
            sources: Where ``data`` came from, so that the run can read them again; None for data made in memory.
            overwrite: Replace a run in the folder. Other files are never deleted.
            regressor: Whether a regressor learns while the run is trained.
            members: How many members are trained beside the model.

        Raises:
            RunError: If the folder holds a run and ``overwrite`` is False, or holds something else, or cannot be made.
        """
        path = Path(path)
        cls.check_target(path, overwrite=overwrite)
        scales = getattr(data, "scales", None)  # streamed data have none
        info = {
            "format": FORMAT,
            "id": uuid.uuid4().hex,
            "status": "training",
            "created": now(),
            "versions": versions(),
            "seed": config.seed,
            "config": config.to_dict(),
            "sources": (sources or Sources.memory()).to_dict(),
            "data": {
                "fingerprint": fingerprint(data),
                "samples": len(data),
                "inputs": data.graph.I,
                "functions": data.graph.N,
                "outputs": data.graph.O,
                "edges": data.graph.E,
                **({"scales": scales} if scales else {}),
            },
            "warnings": list(data.warnings),
            "commands": {"train": command_line()},
            **({"regressor": True} if regressor else {}),
            **({"members": members} if members else {}),
        }
        try:
            path.mkdir(parents=True, exist_ok=True)
            run = cls(path, info)
            with run.lock():
                cls.check_target(path, overwrite=overwrite)  # another program may have made a run meanwhile
                # The checkpoint goes first. Wherever the program is killed, the folder is then a valid old run until
                # run.json is replaced, and a valid new one after that.
                run.checkpoint_path.unlink(missing_ok=True)
                run._write()
                run._remove_results()
        except OSError as error:
            raise RunError(f"cannot write the run folder {path}: {error.strerror or error}") from error
        return run

    @staticmethod
    def check_target(path: str | Path, *, overwrite: bool = False, resume: bool = False) -> None:
        """Refuse, before any work is done, a folder that :meth:`create` or resuming would refuse.

        Args:
            path: The folder.
            overwrite: Whether a run there may be replaced.
            resume: Whether a run there may be continued.

        Raises:
            RunError: With what to do instead.
        """
        path = Path(path)
        refuse_both(overwrite, resume)
        if path.exists() and not path.is_dir():
            raise RunError(f"{path} is a file; choose another name for the run folder")
        if not path.exists():
            return
        if (path / RUN).is_file():
            if overwrite or resume:
                return
            if read_info(path)["status"] == "complete":
                raise RunError(f"{path} holds a finished run; choose another name, or --overwrite to replace it")
            raise RunError(
                f"{path} holds an unfinished run; pass --resume to continue it, or --overwrite to replace it"
            )
        if any(not is_temporary(entry.name) for entry in path.iterdir()):
            raise RunError(f"{path} is not empty and not a run folder; choose another name")

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """Open a run folder.

        Raises:
            RunError: If there is no run there or its ``run.json`` cannot be read.
        """
        path = Path(path)
        if not path.is_dir():
            raise RunError(f"there is no run folder {path}; make one with gsnn train -o {path}")
        return cls(path, read_info(path))

    @classmethod
    def exists(cls, path: str | Path) -> bool:
        """Whether there is a run in this folder."""
        return (Path(path) / RUN).is_file()

    # ------------------------------------------------------------------ what is in it

    @property
    def n_members(self) -> int:
        """How many members were asked for; 0 for a run without any."""
        with reading(self.path / RUN, "members"):
            return int(self.info.get("members", 0))

    def members(self) -> list[Member]:
        """The members (:mod:`gsnn.training.members`), on the CPU, in eval mode; none for a run without members.

        Raises:
            RunError: If training is not complete, or a member is missing or damaged.
        """
        from gsnn.training.members import read_members

        self._need_complete()
        return read_members(self.members_path, self.n_members, str(self.info["id"]))

    @property
    def learns_regressor(self) -> bool:
        """Whether a regressor learns while the run is trained."""
        return self.info.get("regressor") is True

    @property
    def status(self) -> str:
        """``training`` (also of a run that was killed) or ``complete``."""
        return str(self.info["status"])

    @property
    def complete(self) -> bool:
        """Whether training is complete."""
        return self.status == "complete"

    @property
    def config(self) -> TrainConfig:
        """The settings."""
        with reading(self.path / RUN, "config"):
            return TrainConfig.from_dict(self.info["config"])

    @property
    def sources(self) -> Sources:
        """Where the data came from."""
        with reading(self.path / RUN, "sources"):
            return Sources.from_dict(self.info["sources"])

    @property
    def warnings(self) -> list[str]:
        """The warnings of reading, splitting and training."""
        with reading(self.path / RUN, "warnings"):
            return list(self.info.get("warnings", []))

    def data(self) -> PerturbationData:
        """Read the data again, with the recorded options.

        Raises:
            RunError: If a file changed or is gone (it is named), or the data were made in memory or are streamed.
        """
        return self._from_sources(Sources.read)

    def open_data(self) -> PerturbationData | StreamedData:
        """The data, in memory or left in their files as the run was trained on them.

        Raises:
            RunError: As :meth:`data`.
        """
        return self._from_sources(Sources.open)

    def _from_sources(self, read: Callable[[Sources], Any]) -> Any:  # noqa: ANN401 - as read returns
        sources = self.sources
        with reading(self.path / RUN, "sources"):
            sources.check()
            data = read(sources)
        self.check_data(data)
        return data

    def check_data(self, data: PerturbationData | StreamedData) -> None:
        """Refuse data that are not those of the run.

        Raises:
            RunError: If the graph, an input or a response differs.
        """
        with reading(self.path / RUN, "data"):
            same = fingerprint(data) == self.info["data"]["fingerprint"]
        if not same:
            raise RunError(
                f"the data are not those of the run {self.path} (graph, inputs or responses differ); "
                "give the same files and options, or train a new run"
            )

    def check_config(self, config: TrainConfig) -> None:
        """Refuse settings under which the run cannot be continued; only more epochs are allowed.

        Raises:
            RunError: Naming each setting that differs.
        """
        old, new = self.config.to_dict(), config.to_dict()
        # Training for longer continues the same run.
        changed = [name for name in old if old[name] != new[name] and name != "epochs"]
        if changed:
            wrong = "; ".join(f"{name} was {old[name]!r}, now {new[name]!r}" for name in changed)
            raise RunError(
                f"cannot resume {self.path} with other settings: {wrong}; repeat the old ones or choose another folder"
            )
        if new["epochs"] < old["epochs"] and (self.complete or self._epochs_done() > new["epochs"]):
            raise RunError(f"cannot resume {self.path} with {new['epochs']} epochs: it was already trained for more")

    def model(self) -> GSNN:
        """The trained model, on the CPU, in eval mode.

        Raises:
            RunError: If training is not complete.
        """
        return self.reading_model("last")

    def reading_model(self, weights: str = "early") -> GSNN:
        """The model whose activations and gradients show missing edges, on the CPU, in eval mode.

        Args:
            weights: ``early``, when it had learnt most (:mod:`gsnn.training.early`), or ``last``. A run whose loss
                never fell, or of an older version, has only the last ones.

        Raises:
            RunError: If training is not complete, or the file is of another training.
        """
        from gsnn.nn import load_model
        from gsnn.nn.files import read_metadata

        self._need_complete()
        if not self.model_path.is_file():
            raise RunError(f"{self.model_path} is gone; restore it with gsnn train --resume -o {self.path}")
        if weights == "last" or not self.early_path.is_file():
            return load_model(self.model_path).eval()
        if read_metadata(self.early_path).get("run") != str(self.info["id"]):
            raise RunError(f"{self.early_path} is of another training; train again, or infer with --weights last")
        return load_model(self.early_path).eval()

    def split(self) -> Split:
        """Which samples were for training, validation and test."""
        from gsnn.data import Split

        split = self._get("split")
        with reading(self.path / RUN, "split"):
            return Split.from_dict(split, int(self.info["data"]["samples"]))

    def standardiser(self) -> Standardiser:
        """The means and scales of the training responses."""
        from gsnn.data import Standardiser

        stored = self._get("standardiser")
        with reading(self.path / RUN, "standardiser"):
            return Standardiser.from_dict(stored)

    def fit_report(self) -> FitReport:
        """The fit on the held-out samples, beside the baselines.

        Raises:
            RunError: If training is not complete.
        """
        from gsnn.training.baselines import FitReport

        self._need_complete()
        with reading(self.path / RUN, "fit"):
            return FitReport.from_dict(self.info["fit"])

    def metrics(self) -> pd.DataFrame:
        """The rows of ``metrics.csv``.

        Raises:
            RunError: If no epoch is complete.
        """
        import pandas as pd

        if not self.metrics_path.is_file():
            raise RunError(f"{self.path} has no {METRICS} yet; continue it with gsnn train --resume -o {self.path}")
        with reading(self.metrics_path):
            return pd.read_csv(self.metrics_path)

    def edges(self) -> pd.DataFrame:
        """The candidate edges of ``edges.csv``; names are read as text, ``NA`` too.

        Raises:
            RunError: If they have not been inferred.
        """
        import pandas as pd

        if not self.edges_path.is_file():
            raise RunError(f"{self.path} has no {EDGES} yet; run gsnn infer {self.path}")
        with reading(self.edges_path):
            with self.edges_path.open(encoding="utf-8", newline="") as handle:
                header = pd.read_csv(handle, nrows=0).columns
            return pd.read_csv(
                self.edges_path,
                dtype={"source": str, "target": str},
                keep_default_na=False,
                na_values={name: [""] for name in header if name not in ("source", "target")},
            )

    def write_edges(self, edges: pd.DataFrame, inference: Mapping[str, Any] | None = None) -> None:
        """Replace ``edges.csv`` and the description of its columns; undefined values become empty cells.

        Args:
            edges: A row per candidate, with at least the columns ``source`` and ``target``.
            inference: How they were inferred, JSON-able, for ``run.json``.

        Raises:
            ValueError: If one of the two columns is missing.
            RunError: If the run was trained again meanwhile, or another program is working in the folder.
        """
        missing = [name for name in ("source", "target") if name not in edges]
        if missing:
            raise ValueError(f"edges must have the columns source and target, got {list(edges.columns)}")
        with self.lock():
            before = self.info
            self.refresh()
            # The time at which it finished does not suffice: it is in seconds.
            if any(before.get(name) != self.info.get(name) for name in ("id", "status", "finished", "training")):
                raise RunError(f"{self.path} was trained again meanwhile, so these edges are not its own; infer again")
            # Wherever the program is killed, run.json does not describe edges that the folder does not have.
            if self.info.pop("inference", None) is not None:
                self._write()
            write_csv_file(edges, self.edges_path)
            write_json(self.path / EDGES_METADATA, csv_metadata(EDGES, edges.columns))
            if inference is not None:
                self.info["inference"] = dict(inference)
                self.note_command("infer")

    def note_command(self, step: str) -> None:
        """Record in ``run.json`` the command that runs now, in place of the last one for the same ``step``.

        From Python there is no command, and the record is empty.
        """
        with self.lock():
            self.info["commands"] = {**self.info.get("commands", {}), step: command_line()}
            self._write()

    # ------------------------------------------------------------------ while training

    def begin(self, config: TrainConfig, prepared: Prepared) -> None:
        """Record what is trained and how, set the status to ``training`` and remove earlier results.

        Args:
            config: The settings from here on.
            prepared: The data, their parts and their warnings.
        """
        self.info.update(
            status="training",
            config=config.to_dict(),
            readouts=list(prepared.data.graph.outputs),
            split=prepared.split.to_dict(),
            standardiser=prepared.standardiser.to_dict(),
            warnings=list(prepared.warnings),
        )
        for name in ("fit", "training", "finished", "inference"):
            self.info.pop(name, None)
        self._write()
        self._remove_results()

    def finish(self, fit: FitReport, training: Mapping[str, Any]) -> None:
        """Record the results and set the status to ``complete``; the model must have been written.

        Args:
            fit: The fit on the held-out samples.
            training: Facts about the training, such as the number of epochs.
        """
        self.info.update(status="complete", finished=now(), fit=fit.to_dict(), training=dict(training))
        self._write()

    def record_members(self, count: int) -> None:
        """Record in ``run.json`` how many members the run has."""
        if count != self.n_members:
            self.info["members"] = count
            self._write()

    @contextmanager
    def lock(self, *, optional: bool = False) -> Iterator[bool]:
        """Keep other programs from writing in the same folder; a killed program leaves no lock behind.

        Training, inference, self-check and refinement hold the lock all the time. It can be taken again inside.

        Args:
            optional: Go on without the lock if another program holds it.

        Yields:
            Whether it is held.

        Raises:
            RunError: If another program holds it and it is not ``optional``, or the folder is gone.
        """
        if self._locked:
            yield True
            return
        with folder_lock(self.path, optional=optional) as held:
            self._locked = held
            try:
                if held:
                    self.clean()
                yield held
            finally:
                self._locked = False

    def refresh(self) -> None:
        """Read ``run.json`` again, since another program may have changed it."""
        self.info = read_info(self.path)

    def clean(self) -> None:
        """Delete the temporary files that a killed program left."""
        for entry in self.path.iterdir():
            if is_temporary(entry.name):
                # A link is removed, never its target.
                real = entry.is_dir() and not entry.is_symlink()
                shutil.rmtree(entry) if real else entry.unlink(missing_ok=True)

    # ------------------------------------------------------------------ private

    def _write(self) -> None:
        self.info = plain(self.info)
        write_json(self.path / RUN, self.info)

    def _remove_results(self) -> None:
        names = [MODEL, EARLY, REGRESSOR, EDGES, EDGES_METADATA, REPAIRS, REPORT]
        if not self.checkpoint_path.is_file():
            names.append(METRICS)
        for name in names:
            (self.path / name).unlink(missing_ok=True)
        if self.members_path.is_dir():
            shutil.rmtree(self.members_path)

    def _epochs_done(self) -> int:
        return len(self.metrics()) if self.metrics_path.is_file() else 0

    def _get(self, name: str) -> Any:  # noqa: ANN401 - a part of a JSON file
        if name not in self.info:
            raise RunError(f"{self.path} was stopped before its training began; run gsnn train --resume -o {self.path}")
        return self.info[name]

    def _need_complete(self) -> None:
        if not self.complete:
            raise RunError(f"the run {self.path} is not complete; finish it with gsnn train --resume -o {self.path}")

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, {self.status})"
