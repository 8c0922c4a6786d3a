"""Real processes on one machine."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

from ... import warm

THREADS = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


def torchrun(n, *args, cwd=None, timeout=300):
    """Run a program in n processes with torchrun."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(n)]
    # Port 0: the system picks a free one.
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1"]
    return subprocess.run(
        [*command, *map(str, args)], cwd=cwd, env=os.environ | THREADS, capture_output=True, text=True, timeout=timeout
    )


def srun(n, *args, cwd=None, wait=True, timeout=300):
    """Start n warm processes as SLURM does: told apart by the environment alone, nobody to end them."""
    port = str(free_port())
    started = []
    for rank in range(n):
        slurm = {"SLURM_STEP_NUM_TASKS": str(n), "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)}
        slurm |= {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "127.0.0.1", "MASTER_PORT": port, "SLURM_JOB_NAME": "x"}
        started.append(warm.Process(args, cwd, THREADS | slurm))
    if not wait:
        return started
    return [(one.communicate(timeout=timeout), one.returncode) for one in started]
