"""Without an extra everything else works, and what needs it says which one to install."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

# Extra -> the modules that it brings, and code that needs them.
EXTRAS = {
    "report": (
        ["jinja2", "plotly"],
        "from gsnn.plot.data import ReportData; from gsnn.report.html import render; render(ReportData(title='t'))",
    ),
    "plot": (["matplotlib"], "gsnn.plot.loss_curves(pd.DataFrame({'epoch': [1], 'train_loss': [1.0]}))"),
    "pyg": (["torch_geometric"], "graph.to_pyg()"),
    "parquet": (["pyarrow"], "gsnn.io.write_edges(edges, 'x.parquet')"),
    "graphml": (["defusedxml"], "gsnn.io.read_network(file('n.graphml', b'<graphml/>'))"),
    "anndata": (["h5py"], "gsnn.io.AnnDataResponses(file('c.h5ad', b'\\x89HDF'), perturbation='x')"),
}

# All are absent at once, in one process: importing is what takes time.
SCRIPT = """
import importlib, importlib.abc, json, os, pkgutil, sys, tempfile

extras = json.loads(sys.argv[1])
blocked = {name for names, _ in extras.values() for name in names}
blocked |= {"numba", "llvmlite"}  # where a platform has no machine code for us, torch does the work

class Without(importlib.abc.MetaPathFinder):
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        return None if name.split(".")[0] in blocked else self.finder.find_spec(name, path, target)

def file(name, content):
    with open(name, "wb") as handle:
        handle.write(content)
    return name

sys.meta_path[:] = map(Without, sys.meta_path)
os.chdir(tempfile.mkdtemp())
import gsnn, pandas as pd, torch
for module in pkgutil.iter_modules(gsnn.__path__):
    if not module.name.startswith("__") and module.name != "sklearn":
        found = importlib.import_module(f"gsnn.{module.name}")
        for name in getattr(found, "__all__", ()):
            getattr(found, name)
for name in gsnn.__all__:
    if name != "GSNNRegressor":
        getattr(gsnn, name)
assert not [name for name in sys.modules if name.split(".")[0] in blocked]

edges = pd.DataFrame({"source": ["a"], "target": ["b"]})
graph = gsnn.Graph.from_edges(
    [("x", "a"), ("a", "b"), ("b", "y")], input_nodes=["x"], function_nodes=["a", "b"], output_nodes=["y"]
)
assert gsnn.GSNN.from_graph(graph, channels=2, layers=2)(torch.ones(3, 1)).shape == (3, 1)
assert len(gsnn.io.read_edges(gsnn.io.write_edges(edges, "e.csv"))) == 1
told = {}
for extra, (_, code) in extras.items():
    try:
        exec(code, {"gsnn": gsnn, "pd": pd, "graph": graph, "edges": edges, "file": file})
        told[extra] = None
    except gsnn.base.errors.MissingExtraError as error:
        told[extra] = str(error)
print(json.dumps(told))
"""


@pytest.mark.slow
def test_everything_else_works_without_the_extras():
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, json.dumps(EXTRAS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    for extra, message in told.items():
        assert message is not None, f"{extra} is not needed where it should be"
        assert f"pip install 'gsnn[{extra}]'" in message
