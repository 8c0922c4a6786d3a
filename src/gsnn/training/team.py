"""How many processes train together, and which of them this is; imports neither torch nor Lightning."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from gsnn.base.errors import DataError, RunError
from gsnn.training.config import TrainConfig

# The others take statistics over the batch, of which every process sees its own part only.
SHARED_NORMS = ("none", "layer", "rms", "softmax")


@dataclass(frozen=True)
class Team:
    """The processes of one training.

    Attributes:
        devices: Processes on each machine.
        num_nodes: Machines.
        rank: Which of them this is, from 0.
    """

    devices: int = 1
    num_nodes: int = 1
    rank: int = 0

    @property
    def size(self) -> int:
        """How many processes there are."""
        return self.devices * self.num_nodes

    @property
    def first(self) -> bool:
        """Whether this one writes the run folder and speaks for all."""
        return self.rank == 0

    def check(self, config: TrainConfig) -> None:
        """Refuse settings that several processes cannot share.

        Args:
            config: The settings.

        Raises:
            DataError: With what to do instead.
        """
        if self.size == 1:
            return
        if config.norm not in SHARED_NORMS:
            raise DataError(
                f"norm '{config.norm}' has statistics over the batch, which {self.size} processes would each take over "
                f"their own part; use one of {', '.join(SHARED_NORMS)} (--norm), or one process"
            )
        if config.batch_size < self.size:
            raise DataError(
                f"{self.size} processes share every batch, and batch_size is {config.batch_size}; raise it "
                "(--batch-size), or use fewer processes"
            )


def find_team(
    devices: int | None = None, num_nodes: int | None = None, environ: Mapping[str, str] | None = None
) -> Team:
    """Find the team from what the user asked for and from what torchrun or SLURM's ``srun`` started.

    Args:
        devices: Processes on each machine; None takes what was started, else 1. Without torchrun or ``srun`` the first
            process starts the others.
        num_nodes: Machines likewise.
        environ: The environment; by default that of the process.

    Returns:
        The team.

    Raises:
        DataError: If a number is below 1, or several machines are asked for by a program that was started alone.
        RunError: If other numbers of processes were started than asked for.

    Example:
        >>> find_team(environ={})
        Team(devices=1, num_nodes=1, rank=0)
        >>> env = {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}
        >>> find_team(environ=env | {"MASTER_ADDR": "localhost", "MASTER_PORT": "29500"})
        Team(devices=2, num_nodes=2, rank=3)
    """
    env = os.environ if environ is None else environ
    for name, value in (("devices", devices), ("num_nodes", num_nodes)):
        if value is not None and value < 1:
            raise DataError(f"{name} must be at least 1, got {value}")
    place = None
    if {"RANK", "SLURM_STEP_NUM_TASKS"} & set(env):
        from gsnn.base.launch import find_place  # brings torch, which one process need not wait for yet

        place = find_place(env)
    if place is None or place.size == 1:
        if (num_nodes or 1) > 1:
            raise DataError(
                f"num_nodes is {num_nodes}, and this program was started alone; start it on every machine with "
                "torchrun or srun"
            )
        # Lightning starts the others by running the program again with this variable.
        local = int(env.get("LOCAL_RANK", "0")) if (devices or 1) > 1 else 0
        return Team(devices or 1, 1, local)
    if place.launcher == "slurm":
        nodes = int(env.get("SLURM_STEP_NUM_NODES") or env.get("SLURM_NNODES") or 1)
    else:
        nodes = place.size // int(env.get("LOCAL_WORLD_SIZE") or place.size)
    team = Team(devices or place.size // max(nodes, 1), num_nodes or nodes, place.rank)
    if team.size != place.size or team.num_nodes != nodes:
        raise RunError(
            f"{team.devices} processes on each of {team.num_nodes} machines were asked for, and {place.launcher} "
            f"started {place.size} on {nodes}; leave --devices and --num-nodes out, or start as many"
        )
    return team
