"""Where this process stands among others, from what torchrun or SLURM says in the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from gsnn.base.errors import RunError

# As Lightning does: the same port in every process of a job, seldom that of another job.
_FIRST_PORT, _PORTS = 15000, 10000


@dataclass(frozen=True)
class Place:
    """One of several processes.

    Attributes:
        rank: Which, from 0.
        size: How many.
        local_rank: Which on its machine, from 0.
        address: Where they meet: the host of process 0, or of torchrun.
        port: The port there.
        launcher: ``torchrun``, ``slurm`` or ``none``.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    address: str = ""
    port: int = 0
    launcher: str = "none"


def find_place(environ: Mapping[str, str] | None = None) -> Place:
    """Read the place of this process from the environment.

    ``torchrun`` (or whatever sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT) comes before SLURM's ``srun``. A
    program that a SLURM script starts without ``srun`` is alone.

    Args:
        environ: The environment; by default that of the process.

    Returns:
        The place; rank 0 of 1 where nothing is said.

    Raises:
        RunError: If only a part of it is said, or a number is none.

    Example:
        >>> find_place({}).size
        1
        >>> find_place({"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"})
        Place(rank=1, size=2, local_rank=1, address='localhost', port=29500, launcher='torchrun')
    """
    env = os.environ if environ is None else environ
    if "RANK" in env and "WORLD_SIZE" in env:
        missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if not env.get(name)]
        if missing:
            raise RunError(f"RANK and WORLD_SIZE are set, but not {' and '.join(missing)}; start with torchrun or srun")
        rank = _number(env, "RANK")
        local = _number(env, "LOCAL_RANK") if "LOCAL_RANK" in env else rank
        return _checked(
            Place(rank, _number(env, "WORLD_SIZE"), local, env["MASTER_ADDR"], _number(env, "MASTER_PORT"), "torchrun")
        )
    # Set by srun alone: SLURM_NTASKS is there in the batch script too, where there is one process.
    if env.get("SLURM_STEP_NUM_TASKS", "1") == "1" or env.get("SLURM_JOB_NAME") in ("bash", "interactive"):
        return Place()
    from lightning.fabric.plugins.environments import SLURMEnvironment

    nodes = env.get("SLURM_STEP_NODELIST") or env.get("SLURM_JOB_NODELIST") or env.get("SLURM_NODELIST", "127.0.0.1")
    address = env.get("MASTER_ADDR") or SLURMEnvironment.resolve_root_node_address(nodes)
    job, step = (_number(env, name) if name in env else 0 for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
    port = _number(env, "MASTER_PORT") if "MASTER_PORT" in env else _FIRST_PORT + (job + 997 * step) % _PORTS
    size, rank = _number(env, "SLURM_STEP_NUM_TASKS"), _number(env, "SLURM_PROCID")
    return _checked(Place(rank, size, _number(env, "SLURM_LOCALID"), address, port, "slurm"))


def _number(env: Mapping[str, str], name: str) -> int:
    try:
        return int(env[name])
    except (KeyError, ValueError) as error:
        raise RunError(f"{name} must be a whole number in the environment, got {env.get(name)!r}") from error


def _checked(place: Place) -> Place:
    if not 0 <= place.rank < place.size:
        raise RunError(f"process {place.rank} of {place.size} cannot be: ranks go from 0 to {place.size - 1}")
    return place
