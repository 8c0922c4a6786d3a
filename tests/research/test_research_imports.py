"""The import paths of the research code give today's very objects, silently."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

# Written out from the reference: the path and name of the research code, and where the object is today.
HOMES = {
    ("gsnn.models.GSNN", "GSNN"): "gsnn.nn",
    ("gsnn.simulate.simulate", "simulate"): "gsnn.simulation",
    ("gsnn.simulate.simulate", "simulate_sde"): "gsnn.simulation.research_sde",
    ("gsnn.simulate.nx2pyg", "nx2pyg"): "gsnn.graph",
    ("gsnn.simulate.nx2pyg", "pyg2nx"): "gsnn.graph",
    ("gsnn.optim.MagnitudeEdgeInferer", "MagnitudeEdgeInferer"): "gsnn.edges",
    ("gsnn.optim.FunctionEdgeInferer", "FunctionEdgeInferer"): "gsnn.edges",
    ("gsnn.optim.FunctionEdgeInferer", "mrr"): "gsnn.edges",
    ("gsnn.optim.MagnitudeEdgeRegressor", "MagnitudeEdgeRegressor"): "gsnn.edges",
    ("gsnn.optim.MagnitudeEdgeRegressor", "MagnitudeEdgeInferer"): "gsnn.edges",
    ("gsnn.optim.MagnitudeEdgeKGE", "MagnitudeEdgeKGE"): "gsnn.edges",
}
CASES = [(module, name, home) for (module, name), home in HOMES.items()]


@pytest.mark.parametrize(("module", "name", "home"), CASES)
def test_old_path_gives_the_very_object(module, name, home):
    old = getattr(importlib.import_module(module), name)
    assert old is getattr(importlib.import_module(home), name)


@pytest.mark.slow
def test_in_a_fresh_interpreter_without_a_sound():
    lines = [f"from {module} import {name}" for module, name, _ in CASES]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(lines)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_unknown_old_module_is_still_an_import_error():
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("gsnn.optim.NoSuchThing")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("gsnn.nothing")


def test_no_function_is_called_simulate_at_the_top():
    import gsnn

    assert "simulate" not in gsnn.__all__
