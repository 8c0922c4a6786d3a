"""The place of this process among others, from the environment that torchrun or SLURM sets."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from gsnn.base.errors import DataError, RunError

# As Lightning does: the same port in every process of a job, seldom that of another job.
_FIRST_PORT, _PORTS = 15000, 10000


@dataclass(frozen=True)
class Place:
    """One of several processes.

    Attributes:
        rank: Its number, from 0.
        size: Number of processes.
        local_rank: Its number on its machine, from 0.
        address: Where they meet: the host of process 0, or of torchrun.
        port: The port there.
        launcher: ``torchrun``, ``slurm`` or ``none``.
        machines: Number of machines.

    Raises:
        RunError: If ``rank`` is not from 0 to ``size`` - 1.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    address: str = ""
    port: int = 0
    launcher: str = "none"
    machines: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.size:
            raise RunError(f"process {self.rank} of {self.size} cannot be: ranks go from 0 to {self.size - 1}")

    @property
    def first(self) -> bool:
        """Whether this is process 0, which writes and speaks for all."""
        return self.rank == 0


def find_place(environ: Mapping[str, str] | None = None) -> Place:
    """Read the place of this process from the environment.

    ``torchrun`` (or whatever sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT) takes precedence over SLURM's
    ``srun``. A program that a SLURM script starts without ``srun`` is alone.

    Args:
        environ: The environment; by default that of the process.

    Returns:
        The place; rank 0 of 1 where no variable is set.

    Raises:
        RunError: If only some of the variables are set, or one is not a number.

    Example:
        >>> find_place({}).size
        1
        >>> find_place({"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"})
        Place(rank=1, size=2, local_rank=1, address='localhost', port=29500, launcher='torchrun', machines=1)
    """
    env = os.environ if environ is None else environ
    if "RANK" in env and "WORLD_SIZE" in env:
        missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if not env.get(name)]
        if missing:
            raise RunError(f"RANK and WORLD_SIZE are set, but not {' and '.join(missing)}; start with torchrun or srun")
        rank = _number(env, "RANK")
        local = _number(env, "LOCAL_RANK") if "LOCAL_RANK" in env else rank
        size, port = _number(env, "WORLD_SIZE"), _number(env, "MASTER_PORT")
        machines = size // max(1, _number(env, "LOCAL_WORLD_SIZE")) if env.get("LOCAL_WORLD_SIZE") else 1
        return Place(rank, size, local, env["MASTER_ADDR"], port, "torchrun", machines)
    # Only srun sets it; SLURM_NTASKS is also set in the batch script, where there is one process.
    if env.get("SLURM_STEP_NUM_TASKS", "1") == "1" or env.get("SLURM_JOB_NAME") in ("bash", "interactive"):
        return Place()
    from lightning.fabric.plugins.environments import SLURMEnvironment

    nodes = env.get("SLURM_STEP_NODELIST") or env.get("SLURM_JOB_NODELIST") or env.get("SLURM_NODELIST", "127.0.0.1")
    address = env.get("MASTER_ADDR") or SLURMEnvironment.resolve_root_node_address(nodes)
    job, step = (_number(env, name) if name in env else 0 for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
    port = _number(env, "MASTER_PORT") if "MASTER_PORT" in env else _FIRST_PORT + (job + 997 * step) % _PORTS
    size, rank = _number(env, "SLURM_STEP_NUM_TASKS"), _number(env, "SLURM_PROCID")
    machines = next((_number(env, n) for n in ("SLURM_STEP_NUM_NODES", "SLURM_NNODES") if env.get(n)), 1)
    return Place(rank, size, _number(env, "SLURM_LOCALID"), address, port, "slurm", machines)


def training_place(
    devices: int | None = None, num_nodes: int | None = None, environ: Mapping[str, str] | None = None
) -> Place:
    """The place of this process in a training, from what the user asked for and from what was started.

    Args:
        devices: Processes on each machine; None takes what was started, else 1. Without torchrun or ``srun`` the first
            process starts the others.
        num_nodes: Machines, likewise.
        environ: The environment; by default that of the process.

    Returns:
        The place; every machine has the same number of processes.

    Raises:
        DataError: If a number is below 1, or several machines are asked for by a program that was started alone.
        RunError: If other numbers of processes were started than asked for.

    Example:
        >>> training_place(environ={}).size
        1
        >>> env = {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}
        >>> place = training_place(environ=env | {"MASTER_ADDR": "localhost", "MASTER_PORT": "29500"})
        >>> place.rank, place.size, place.machines
        (3, 4, 2)
    """
    env = os.environ if environ is None else environ
    for name, value in (("devices", devices), ("num_nodes", num_nodes)):
        if value is not None and value < 1:
            raise DataError(f"{name} must be at least 1, got {value}")
    place = find_place(env)
    if place.size == 1:
        if (num_nodes or 1) > 1:
            raise DataError(
                f"num_nodes is {num_nodes}, and this program was started alone; start it on every machine with "
                "torchrun or srun"
            )
        # Lightning starts the others by running the program again with this variable.
        local = int(env.get("LOCAL_RANK", "0")) if (devices or 1) > 1 else 0
        return Place(local, devices or 1, local)
    machines = num_nodes or place.machines
    devices = devices or place.size // max(place.machines, 1)
    if devices * machines != place.size or machines != place.machines:
        raise RunError(
            f"{devices} processes on each of {machines} machines were asked for, and {place.launcher} "
            f"started {place.size} on {place.machines}; leave --devices and --num-nodes out, or start as many"
        )
    return place


def _number(env: Mapping[str, str], name: str) -> int:
    try:
        return int(env[name])
    except (KeyError, ValueError) as error:
        raise RunError(f"{name} must be a whole number in the environment, got {env.get(name)!r}") from error
