"""The import paths of the research code give today's very objects, silently."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from gsnn._research_imports import OLD_MODULES

CASES = [(module, name, home) for module, names in OLD_MODULES.items() for name, home in names.items()]

# Written out from the reference, so that the table cannot drift from it.
EXPECTED = {
    ("gsnn.models.GSNN", "GSNN"),
    ("gsnn.simulate.simulate", "simulate"),
    ("gsnn.simulate.simulate", "simulate_sde"),
    ("gsnn.simulate.nx2pyg", "nx2pyg"),
    ("gsnn.simulate.nx2pyg", "pyg2nx"),
    ("gsnn.optim.MagnitudeEdgeInferer", "MagnitudeEdgeInferer"),
    ("gsnn.optim.FunctionEdgeInferer", "FunctionEdgeInferer"),
    ("gsnn.optim.FunctionEdgeInferer", "mrr"),
    ("gsnn.optim.MagnitudeEdgeRegressor", "MagnitudeEdgeRegressor"),
    ("gsnn.optim.MagnitudeEdgeRegressor", "MagnitudeEdgeInferer"),
    ("gsnn.optim.MagnitudeEdgeKGE", "MagnitudeEdgeKGE"),
}


def test_every_old_name_is_there():
    assert {(module, name) for module, name, _ in CASES} >= EXPECTED


@pytest.mark.parametrize(("module", "name", "home"), CASES)
def test_old_path_gives_the_very_object(module, name, home):
    old = getattr(importlib.import_module(module), name)
    assert old is getattr(importlib.import_module(home), name)


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
