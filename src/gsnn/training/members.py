"""Members: models of one training set, each with its own seed and conditions drawn with replacement."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gsnn.base.arrays import IntArray
from gsnn.base.errors import DataError, RunError
from gsnn.base.files import write_json
from gsnn.data import PerturbationData
from gsnn.data.split import conditions
from gsnn.nn import GSNN, load_model, save_model
from gsnn.training.config import TrainConfig
from gsnn.training.early import with_weights
from gsnn.training.loop import train_model
from gsnn.training.order import MEMBER, derived_seed
from gsnn.training.prepare import Prepared, new_model

LEAST_CONDITIONS = 5
"""The fewest conditions of the training part that members are drawn from."""

_STREAMED = (
    "members are drawn from samples in memory, and these are streamed from their files; leave members out, or read a "
    "part of the samples into memory"
)
_MODEL, _EARLY, _INFO = "model.safetensors", "model-early.safetensors", "member.json"


@dataclass(frozen=True, eq=False)
class Member:
    """A model of some of the conditions.

    Attributes:
        model: With its last weights, on the CPU, in eval mode; predicts standardised responses.
        early: With its early weights (:mod:`gsnn.training.early`); None if the loss never fell.
        times: (M,) how often each training sample was drawn; 0 is out of the bag.
        seed: Fixed the weights, the order of the samples and the dropout.
    """

    model: GSNN
    early: GSNN | None
    times: IntArray
    seed: int

    def write(self, folder: Path, run: str) -> None:
        """Write the member into a folder, which is replaced; the one above it must exist.

        Args:
            folder: The folder.
            run: The training that the member belongs to.
        """
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        save_model(self.model, folder / _MODEL, extra={"run": run})
        if self.early is not None:
            save_model(self.early, folder / _EARLY, extra={"run": run})
        info = {"run": run, "seed": self.seed, "early": self.early is not None, "times": self.times.tolist()}
        write_json(folder / _INFO, info)  # last: without it the member is not finished

    @staticmethod
    def finished(folder: Path, run: str) -> bool:
        """Whether the folder has a whole member of this training."""
        try:
            info = json.loads((folder / _INFO).read_text(encoding="utf-8"))
            return bool(info["run"] == run) and (folder / _MODEL).is_file()
        except (OSError, ValueError, LookupError, TypeError):
            return False

    @classmethod
    def read(cls, folder: Path) -> Member:
        """Read what :meth:`write` wrote.

        Raises:
            RunError: If it is damaged.
        """
        try:
            info = json.loads((folder / _INFO).read_text(encoding="utf-8"))
            times, seed, has_early = np.array(info["times"], np.int64), int(info["seed"]), bool(info["early"])
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise RunError(f"{folder / _INFO} is damaged ({error}); delete {folder} and train with --resume") from error
        early = load_model(folder / _EARLY).eval() if has_early else None
        return cls(load_model(folder / _MODEL).eval(), early, times, seed)


def draw_conditions(condition: IntArray, seed: int) -> IntArray:
    """How often each sample is in a bootstrap of the conditions.

    As many conditions are drawn as there are, with replacement, and a sample is drawn as often as its condition. So
    about 37 % of the conditions are out of the bag, with all of their replicates. A draw that leaves none out is
    drawn again.

    Args:
        condition: (M,) number of the condition of each sample, from 0.
        seed: Fixes the draw.

    Returns:
        (M,) counts.

    Example:
        >>> draw_conditions(np.array([0, 0, 1, 2, 3, 4]), seed=1).tolist()
        [1, 1, 0, 2, 1, 1]
    """
    n, rng = int(condition.max()) + 1, np.random.default_rng(seed)
    times = np.ones(n, np.int64)
    while times.all():
        times = np.bincount(rng.integers(n, size=n), minlength=n)
    return times[condition]


def check_members(prepared: Prepared, count: int) -> None:
    """Refuse numbers of members, and data, that do not allow members.

    Raises:
        DataError: If there are fewer than 2 members or than :data:`LEAST_CONDITIONS` conditions.
        RunError: If the samples are streamed.
    """
    if count < 2:
        raise DataError(f"members must be at least 2, got {count}; 5 are usual")
    if not isinstance(prepared.data, PerturbationData):
        raise RunError(_STREAMED)
    n = len(np.unique(conditions(prepared.data.x[prepared.split.train])))
    if n < LEAST_CONDITIONS:
        raise DataError(
            f"the training part has {n} distinct treatments, and members are drawn from at least {LEAST_CONDITIONS}; "
            "give more conditions, or leave members out"
        )


def train_member(prepared: Prepared, config: TrainConfig, number: int, device: str = "cpu") -> Member:
    """Train one member; the result does not depend on the others.

    Args:
        prepared: What the run is trained on, in memory.
        config: The settings of the run; their seed and the number give the seed of the member.
        number: From 1.
        device: Where to train.
    """
    seed = derived_seed(config.seed, MEMBER, number)
    config = replace(config, seed=seed)
    if not isinstance(prepared.data, PerturbationData) or not isinstance(prepared.train, tuple):
        raise RunError(_STREAMED)
    x, y = prepared.train
    times = draw_conditions(conditions(prepared.data.x[prepared.split.train]), seed)
    rows = np.repeat(np.arange(len(x)), times)
    model = new_model(prepared.data.graph, config)
    watched = prepared.validation if config.uses_validation else None
    done = train_model(model, (x[rows], y[rows]), watched, config, progress=None, device=device)
    early = None if done.early is None else with_weights(model, done.early[1])
    return Member(model, early, times, seed)


def read_members(folder: Path, count: int, run: str) -> list[Member]:
    """The members of a run.

    Args:
        folder: The folder of the members, in the folder of the run.
        count: Number of members.
        run: The training that they belong to.

    Raises:
        RunError: If one is missing or damaged.
    """
    folders = [folder / str(number) for number in range(1, count + 1)]
    missing = sum(not Member.finished(each, run) for each in folders)
    if missing:
        raise RunError(
            f"{missing} of the {count} members of {folder.parent} are not trained; finish them with gsnn train "
            f"--resume -o {folder.parent}"
        )
    return [Member.read(each) for each in folders]
