"""What is fuzzed: valid files of every format, how each is changed, and what reads it."""

from __future__ import annotations

import gzip
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from gsnn.data import build_data
from gsnn.edges import MagnitudeEdgeRegressor
from gsnn.io import AnnDataResponses, Network, read_edges, read_network, read_responses, write_edges
from gsnn.nn import load_model
from gsnn.nn.files import read_metadata
from gsnn.runs import Run, Sources, train_run
from gsnn.training import TrainConfig
from gsnn.training.checkpoint import SafetensorsCheckpointIO

from . import _binary as binary
from . import _mutate as mutate

SIF = "# a comment\negf\tactivates\traf1\nraf1\t1\tmek1\nmek1\t1\terk\njnk\t-1\terk\nerk\tinhibits\traf1\tjnk\nalone\n"
EDGES = 'source,target,sign,weight\negf,raf1,1,0.5\nraf1,mek1,-1,1e3\n"mek, 1",erk,1,\nerk,erk,,2\negf,raf1,-1,\n'
OMNIPATH = (
    "source\ttarget\tsource_genesymbol\ttarget_genesymbol\tis_directed\tis_stimulation\tis_inhibition\t"
    "consensus_direction\tconsensus_stimulation\tconsensus_inhibition\n"
    "P1\tP2\tA\tB\t1\t1\t0\t1\t1\t0\nP2\tP3\tB\tC\t0\t1\t1\t1\t0\t1\nP3\tP1\tC\tA\t1\t0\t0\t0\t0\t0\n"
)
SIGNOR = (
    "ENTITYA\tTYPEA\tENTITYB\tTYPEB\tEFFECT\tMECHANISM\nEGF\tprotein\tEGFR\tprotein\tup-regulates activity\tbinding\n"
    "EGFR\tprotein\tRAF1\tprotein\tdown-regulates\tunknown\nRAF1\tprotein\tEGF\tprotein\tform complex\tx\n"
)
MIDAS = (
    "TR:a:CellLine,TR:egf,TR:mek1i,TR:jnk:Inhibitors,DA:erk,DA:jnk,DV:erk,DV:jnk\n"
    "1,0,0,0,0,0,0.1,0.2\n1,1,0,0,10,10,0.9,NA\n1,1,1,0,10,10,0.2,0.4\n1,0,0,1,10,30,,0.3\n1,1,0,1,30,30,0.5,0.6\n1,0,1,0,30,30,0.3,0.1\n1,0,0,0,30,30,0,0\n1,1,1,1,30,30,1,1\n"
)
PREFIXED = "sample;TR:egf;TR:mek1i;DV:erk;DV:jnk\ns1;0;0;0.1;1\ns2;1;0;0.7;2\ns3;1;1;;3\n"
INPUTS, OUTPUTS = "sample,egf,mek1i\ns1,0,0\ns2,1,0\ns3,1,1\n", "id\terk\tjnk\ns1\t0.1\t1\ns3\t0.7\t2\ns2\tNA\t3\n"
GRAPHML = """<?xml version='1.0' encoding='utf-8'?>
<graphml xmlns="http://graphml.graphdrawing.org/xmlns"><key id="d0" for="node" attr.name="name" attr.type="string"/>
<key id="d1" for="edge" attr.name="sign" attr.type="int"><default>0</default></key>
<graph edgedefault="directed"><node id="n0"><data key="d0">egf</data></node><node id="n1"><data key="d0">raf1</data>
</node><node id="n2"><data key="d0">erk</data></node><edge source="n0" target="n1"><data key="d1">1</data></edge>
<edge source="n1" target="n2" directed="false"><data key="d1">-1</data></edge></graph></graphml>
"""
CONFIG = """run = "runs/mine"
quiet = true

[data]
graph = "net.sif"
data = "midas.csv"
time = 10

[train]
epochs = 3
lr = 1e-3
norm = "layer"

[infer]
method = ["magnitude"]
top = 5
"""


@dataclass(frozen=True)
class Target:
    """A reader with valid files.

    Attributes:
        files: Name -> content. One of them is changed for each input.
        mutate: How.
        read: What is called with the folder of the files.
        share: How many inputs it gets, relative to the others.
        fixed: Files that are never changed.
    """

    files: dict[str, bytes]
    mutate: mutate.Mutator
    read: Callable[[Path], object]
    share: float = 1.0
    fixed: frozenset[str] = frozenset()


def make_targets(folder: Path) -> dict[str, Target]:
    """Every target, with valid files made in a folder.

    Args:
        folder: Where files may be made; a small run is trained there.

    Returns:
        Targets by name.
    """
    found: dict[str, Target] = {}

    def add(name: str, files: dict[str, str | bytes], how: mutate.Mutator, read: Callable[[Path], object],
            share: float = 1.0, fixed: tuple[str, ...] = ()) -> None:  # fmt: skip
        content = {key: text.encode() if isinstance(text, str) else text for key, text in files.items()}
        found[name] = Target(content, how, read, share, frozenset(fixed))

    for name, file, text in (
        ("network-sif", "n.sif", SIF),
        ("network-csv", "n.csv", EDGES),
        ("network-omnipath", "n.tsv", OMNIPATH),
        ("network-signor", "n.tsv", SIGNOR),
    ):
        add(name, {file: text}, mutate.table, lambda f, file=file: read_network(f / file), 2)
    add("network-gz", {"n.csv.gz": gzip.compress(EDGES.encode(), mtime=0)}, mutate.packed(mutate.table),
        lambda f: read_network(f / "n.csv.gz"))  # fmt: skip
    add("network-graphml", {"n.graphml": GRAPHML}, mutate.markup, lambda f: read_network(f / "n.graphml"), 3)
    table = pd.DataFrame({"source": ["a", "b"], "target": ["b", "c"], "sign": [1, -1], "is_directed": [True, False]})
    add("network-parquet", {"n.parquet": _parquet(table)}, binary.parquet,
        lambda f: read_network(f / "n.parquet"), 2)  # fmt: skip
    add("midas", {"m.csv": MIDAS}, mutate.table, lambda f: read_responses(f / "m.csv"), 3)
    add("responses-prefixed", {"m.csv": PREFIXED}, mutate.table, lambda f: read_responses(f / "m.csv"), 2)
    add("responses-matrices", {"i.csv": INPUTS, "o.tsv": OUTPUTS}, mutate.table,
        lambda f: read_responses(inputs=f / "i.csv", outputs=f / "o.tsv"), 2)  # fmt: skip
    wide = pd.DataFrame({"TR:egf": [0, 1], "TR:mek1i": [0.0, 1.5], "DV:erk": [0.5, np.nan]}, index=["s1", "s2"])
    add("responses-parquet", {"r.parquet": _parquet(wide)}, binary.parquet,
        lambda f: read_responses(f / "r.parquet"), 2)  # fmt: skip
    add("whole-data", {"n.sif": SIF, "m.csv": MIDAS}, mutate.table, lambda f: build_data(
        read_network(f / "n.sif"), read_responses(f / "m.csv"), on_unmatched="drop"), 2)  # fmt: skip
    _add_h5ad(add, folder)
    _add_edges(add, folder)
    _add_run(add, folder)
    add("config-toml", {"gsnn.toml": CONFIG}, mutate.raw, _config, 2)
    return found


def _parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    return buffer.getvalue()


def _h5ad(sparse: bool) -> bytes:
    import h5py

    def table(file: h5py.File, name: str, index: list[str], columns: dict[str, np.ndarray]) -> h5py.Group:
        group = file.create_group(name)
        group.attrs.update({"encoding-type": "dataframe", "_index": "_index", "column-order": list(columns)})
        group["_index"] = index
        for key, values in columns.items():
            group[key] = values
        return group

    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        doses = np.array([1.0, 2.0, 0.5, 1.0])
        obs = table(file, "obs", ["c1", "c2", "c3", "c4"], {"drug": np.array([b"EGF", b"control", b"TNF", b"EGF"])})
        obs["dose"] = doses
        obs["batch/codes"], obs["batch/categories"] = np.array([0, 1, 0, 1], np.int8), [b"x", b"y"]
        obs["n/values"], obs["n/mask"] = np.array([1, 2, 3, 4]), np.array([False] * 4)
        obs.attrs["column-order"] = ["drug", "dose", "batch", "n"]
        table(file, "var", ["ERK", "JNK", "RAF"], {"symbol": np.array([b"E", b"J", b"R"])})
        file["obsm/treated"] = np.eye(4, 2)
        if sparse:
            file["X/data"], file["X/indices"] = np.array([1.0, 2.0, 3.0]), np.array([0, 2, 1])
            file["X/indptr"] = np.array([0, 1, 2, 3, 3])
            file["X"].attrs.update({"encoding-type": "csr_matrix", "shape": [4, 3]})
        else:
            file["X"] = np.arange(12.0).reshape(4, 3)
    return buffer.getvalue()


def _add_h5ad(add: Callable[..., None], folder: Path) -> None:
    def streamed(path: Path, **options: object) -> None:
        with AnnDataResponses(path, chunk_size=3, **options) as responses:  # type: ignore[arg-type]
            _ = [responses[len(responses) - 1] if len(responses) else None, *responses.chunks()]

    options = {"perturbation": ["drug", "batch", "n"], "dose": "dose", "var_names": "symbol"}
    add("h5ad", {"r.h5ad": _h5ad(False)}, binary.hdf5,
        lambda f: read_responses(f / "r.h5ad", anndata={"perturbation": "drug"}), 2)  # fmt: skip
    add("h5ad-sparse", {"r.h5ad": _h5ad(True)}, binary.hdf5, lambda f: streamed(f / "r.h5ad", **options), 2)
    add("h5ad-obsm", {"r.h5ad": _h5ad(False)}, binary.hdf5,
        lambda f: streamed(f / "r.h5ad", obsm="treated", treatment_names=["a", "b"]))  # fmt: skip


def _add_edges(add: Callable[..., None], folder: Path) -> None:
    edges = pd.DataFrame(
        {
            "source": ["MEK", "=1+1", "naïve, ∂"],
            "target": ["JUN", "AKT", 'a "b"'],
            "score": [0.5, 0.25, np.nan],
            "sign": pd.array([1, -1, None], "Int8"),
            "rank": [1, 2, 3],
            "p": [1e-8, 0.5, np.nan],
            "q": [1e-7, 0.5, np.nan],
            "alias_group": [1, 1, 2],
            "checked": [True, False, True],
        }
    )
    prior = Network.from_edges([("RAF", "MEK", 1), ("MEK", "AKT", -1)])
    (folder / "base.h5ad").write_bytes(_h5ad(False))
    hows = {"csv": mutate.table, "tsv": mutate.table, "sif": mutate.table, "graphml": mutate.markup,
            "parquet": binary.parquet, "h5ad": binary.hdf5}  # fmt: skip
    for format, how in hows.items():
        options = {"h5ad": folder / "base.h5ad"} if format == "h5ad" else {}
        path = write_edges(edges, folder / f"edges.{format}", graph=prior, **options)
        add(f"edges-{format}", {path.name: path.read_bytes()}, how, lambda f, name=path.name: read_edges(f / name))


def _add_run(add: Callable[..., None], folder: Path) -> None:
    (folder / "net.sif").write_text(SIF)
    rng = np.random.default_rng(0)
    rows = [
        f"{e:.2f},{m:.0f},{0.5 * e:.3f},{e - m:.3f}" for e, m in zip(rng.random(24), rng.random(24) > 0.5, strict=True)
    ]
    (folder / "data.csv").write_text("TR:egf,TR:mek1i,DV:erk,DV:jnk\n" + "\n".join(rows) + "\n")
    given = Sources.from_files(folder / "net.sif", folder / "data.csv")
    run = folder / "run"
    train_run(run, given, TrainConfig(epochs=2, channels=2, layers=2, batch_size=8, norm="layer"), progress=False)
    edges = pd.DataFrame({"source": ["egf"], "target": ["erk"], "score": [0.5], "rank": [1], "known": [False]})
    Run.open(run).write_edges(edges, {"method": "magnitude", "options": {}, "n": 3, "samples": "train", "top": None})
    content = {path.name: path.read_bytes() for path in run.iterdir()}
    info = json.loads(content["run.json"])

    def described(path: Path) -> None:
        opened = Run.open(path)
        _ = (opened.complete, opened.config, opened.sources, opened.warnings, opened.split(), opened.standardiser())
        opened.fit_report()

    def sources(path: Path) -> None:
        opened = Run.open(path)
        # The files lie beside the run; a changed run.json may name any others.
        for entry in opened.sources.files.values():
            if str(entry.get("path")).startswith(str(folder)):
                entry["path"] = str(path / Path(entry["path"]).name)  # type: ignore[index]
        opened.data()

    def tables(path: Path) -> None:
        opened = Run.open(path)
        _ = (opened.metrics(), opened.edges())

    add("run-json", {"run.json": content["run.json"]}, mutate.tree, described, 3)
    data = {name: (folder / name).read_bytes() for name in ("net.sif", "data.csv")}
    add("run-sources", {"run.json": json.dumps({k: info[k] for k in ("format", "status", "sources", "data")}), **data},
        mutate.tree, sources, 2, tuple(data))  # fmt: skip
    add("run-tables", {name: content[name] for name in ("run.json", "metrics.csv", "edges.csv")}, mutate.table, tables,
        2, ("run.json",))  # fmt: skip
    model = content["model.safetensors"]

    def loaded(path: Path) -> None:
        _ = (load_model(path / "model.safetensors"), read_metadata(path / "model.safetensors"))

    add("model", {"model.safetensors": model}, mutate.header, loaded, 3)
    add("checkpoint", {"c.safetensors": content["checkpoint.safetensors"]}, mutate.header,
        lambda f: SafetensorsCheckpointIO().load_checkpoint(f / "c.safetensors"), 2)  # fmt: skip
    regressor = MagnitudeEdgeRegressor(load_model(run / "model.safetensors"), Run.open(run).data().graph)
    regressor.save(run / "r.safetensors")
    add("regressor", {"r.safetensors": (run / "r.safetensors").read_bytes()}, mutate.header,
        lambda f: regressor.load(f / "r.safetensors"), 2)  # fmt: skip
    shutil.rmtree(run)


def _config(folder: Path) -> object:
    from gsnn.cli.commands import app
    from gsnn.cli.config import command_keys, read_config

    commands = {
        str(command.name or command.callback.__name__): command_keys(command.callback)
        for command in app.registered_commands
        if command.callback is not None
    }
    return read_config(folder / "gsnn.toml", commands)
