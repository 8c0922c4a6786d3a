"""Edge inference by several processes: samples or targets shared, one result, and no work lost when one dies.

Processes are started by ``torchrun`` or by SLURM's ``srun``; exchanges go over ``torch.distributed``. A program started
by itself runs the same code alone.
"""

from __future__ import annotations

from gsnn.distributed._checkpoint import Checkpoint
from gsnn.distributed._fit import Pass, fit
from gsnn.distributed._job import Job
from gsnn.distributed._place import Place, find_place
from gsnn.distributed._processes import ProcessError, Processes, Stopped, processes
from gsnn.distributed._ranking import top_edges

__all__ = [
    "Checkpoint",
    "Job",
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
