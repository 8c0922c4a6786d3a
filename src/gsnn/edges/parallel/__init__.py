"""Edge inference by several processes: samples or targets shared, one result, and no work lost when one dies.

Processes are started by ``torchrun`` or by SLURM's ``srun``; exchanges go over ``torch.distributed``. A program started
by itself runs the same code alone.
"""

from __future__ import annotations

from gsnn.base.launch import Place, find_place
from gsnn.base.processes import ProcessError, Processes, Stopped, processes
from gsnn.edges.parallel.checkpoint import Checkpoint
from gsnn.edges.parallel.fit_parts import Pass, fit
from gsnn.edges.parallel.ranking import top_edges

__all__ = [
    "Checkpoint",
    "Pass",
    "Place",
    "ProcessError",
    "Processes",
    "Stopped",
    "find_place",
    "fit",
    "processes",
    "top_edges",
]
