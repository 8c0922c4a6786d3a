"""Every shell and Python block of README and the documentation runs, as a reader would run it.

The blocks of a page run in order, in one folder of their own: ``bash`` with the installed ``gsnn``, Python blocks that
follow one another as one script with warnings as errors. ``{code-cell}`` blocks are left to the build of the
documentation, which executes them. HTML comments before a block, which nobody sees on a page, say what it needs::

    <!-- test: with network.sif responses.csv -->   small files (or a trained run, runs/mine) of these names
    <!-- test: after                                lines to run first, in the same process
    import gsnn
    -->
    <!-- test: skip REASON -->                      not run here

The files of ``with`` are put there only once, so later blocks see what earlier ones did to them.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from gsnn.cli import main

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(p for p in DOCS.rglob("*.md") if "_build" not in p.parts)]
RUN = ("bash", "python")
# What else a fence may hold; nothing can hide from this test in a fence without a language.
OTHER = ("text", "toml", "json")
TIMEOUT = 400
# One command without anything that a shell would do.
SIMPLE = re.compile(r"gsnn [^|&;<>$`*\\\n]*\n?")

MARK = re.compile(r"<!--\s*test:\s*(\w+)\s*(.*?)\s*-->", re.DOTALL)
BLOCK = re.compile(
    r"(?P<marks>(?:<!--\s*test:.*?-->\s*\n)*)^(?P<fence>`{3,}|~{3,})(?P<info>[^\n]*)\n(?P<code>.*?)^(?P=fence)\s*$",
    re.DOTALL | re.MULTILINE,
)


@dataclass
class Block:
    """A fenced block and what stands before it."""

    line: int
    language: str
    code: str
    needs: list[str] = field(default_factory=list)
    before: str = ""
    skip: str = ""


def blocks_of(text: str) -> list[Block]:
    """All fenced blocks of a page."""
    found = []
    for match in BLOCK.finditer(text):
        block = Block(text.count("\n", 0, match.start("fence")) + 1, match["info"].strip(), match["code"])
        for kind, value in MARK.findall(match["marks"]):
            if kind == "with":
                block.needs += value.split()
            elif kind == "after":
                block.before += value + "\n"
            elif kind == "skip":
                block.skip = " ".join(value.split())
            else:
                raise ValueError(f"line {block.line}: no mark '{kind}'; use with, after or skip")
        found.append(block)
    return found


def runnable(page: Path) -> list[Block]:
    return [block for block in blocks_of(page.read_text(encoding="utf-8")) if block.language in RUN]


def names(pages: list[Path]) -> list[str]:
    return [page.relative_to(ROOT).as_posix() for page in pages]


def execute(block: Block, folder: Path) -> None:
    """Run a block: Python and plain gsnn commands here, where torch is imported already, other shell as a process."""
    code = block.before + block.code
    if block.language == "python":
        module = types.ModuleType("__main__")
        here(lambda: exec(compile(code, f"line {block.line}", "exec"), vars(module)), block, folder, module)
        return
    if SIMPLE.fullmatch(code):
        here(lambda: command(code), block, folder)
        return
    env = os.environ | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "OMP_NUM_THREADS": "1",
        "MPLBACKEND": "agg",
        "PYTHONUTF8": "1",
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, f"line {block.line}:\n{code}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def here(run: Callable[[], object], block: Block, folder: Path, main: types.ModuleType | None = None) -> None:
    """Run something in the folder; what it raises is told with the block."""
    printed, before = io.StringIO(), sys.modules["__main__"]
    sys.modules["__main__"] = main or before  # where classes of the block are looked up, as in a script
    try:
        with contextlib.chdir(folder), contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            run()
    except Exception as error:
        raise AssertionError(f"line {block.line}:\n{block.code}\n{printed.getvalue()[-4000:]}") from error
    finally:
        sys.modules["__main__"] = before


def command(code: str) -> None:
    """Run a line of shell that is one command of gsnn."""
    with pytest.raises(SystemExit) as stopped:
        main(shlex.split(code, comments=True)[1:])
    if stopped.value.code:
        raise RuntimeError(f"exit code {stopped.value.code}")


NETWORK = """\
egf\t1\tegfr
tnf\t1\ttnfr
egfr\t1\tras
egfr\t1\tpi3k
ras\t1\traf
raf\t1\terk
tnfr\t1\tjnk
pi3k\t-1\tjnk
"""


def write_network(folder: Path) -> None:
    (folder / "network.sif").write_text(NETWORK, encoding="utf-8")


def write_responses(folder: Path) -> None:
    """MIDAS: 12 conditions of two stimuli and an inhibitor, two readouts."""
    rng = np.random.default_rng(0)
    rows = ["TR:egf,TR:tnf,TR:rafi,DA:erk,DA:jnk,DV:erk,DV:jnk"]
    for egf in (0, 0.5, 1):
        for tnf in (0, 1):
            for rafi in (0, 1):
                erk, jnk = np.array([egf * (1 - rafi), tnf * (1 - 0.5 * egf)]) + rng.normal(scale=0.05, size=2)
                rows.append(f"{egf},{tnf},{rafi},30,30,{erk:.4f},{jnk:.4f}")
    (folder / "responses.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def write_cells(folder: Path) -> None:
    """The layout of AnnData 0.8 on: a drug and its dose in obs, two readouts in X, a layer 'lognorm'."""
    h5py = pytest.importorskip("h5py")
    rng = np.random.default_rng(1)
    drug = np.array(["control", "egf", "tnf", "rafi"] * 12)
    dose = np.where(drug == "control", 0.0, rng.choice([0.5, 1.0], size=len(drug)))
    values = rng.normal(size=(len(drug), 2)).astype(np.float32) + dose[:, None].astype(np.float32)
    text = h5py.string_dtype("utf-8")

    def table(file, name, index, **columns):
        group = file.create_group(name)
        group.attrs.update({"encoding-type": "dataframe", "encoding-version": "0.2.0", "_index": "_index"})
        group.attrs.create("column-order", list(columns), dtype=text)
        for key, column in {"_index": index, **columns}.items():
            if isinstance(column[0], str):
                group.create_dataset(key, data=np.array(column, dtype=object), dtype=text)
            else:
                group.create_dataset(key, data=column)

    with h5py.File(folder / "cells.h5ad", "w") as file:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        table(file, "obs", [f"cell{k}" for k in range(len(drug))], drug=list(drug), uM=dose)
        table(file, "var", ["erk", "jnk"])
        file.create_dataset("X", data=values)
        file.create_dataset("layers/lognorm", data=values)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """Makes what a block needs, the first time it is asked for, and tells where it lies."""
    folder = tmp_path_factory.mktemp("prepared")
    writers = {"network.sif": write_network, "responses.csv": write_responses, "cells.h5ad": write_cells}

    def find(name: str) -> Path:
        if not (folder / name).exists():
            if name == "runs/mine":
                find("network.sif"), find("responses.csv")
                train = "gsnn train --graph network.sif --data responses.csv -o runs/mine --epochs 5 --layers 3 --quiet"
                execute(Block(0, "bash", f"{train}\ngsnn infer runs/mine --quiet\n"), folder)
            else:
                writers[name](folder)
        return folder / name

    return find


def put(source: Path, place: Path) -> None:
    if place.exists():
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    (shutil.copytree if source.is_dir() else shutil.copy)(source, place)


@pytest.fixture(scope="session")
def seen():
    """What a page's folder held after its first blocks, by these blocks: pages that begin alike share the work."""
    return {}


def steps_of(page: Path) -> list[Block]:
    """The blocks to run; Python blocks that follow one another are one script, so that names carry over."""
    steps: list[Block] = []
    for block in runnable(page):
        if block.skip:
            continue
        lines = block.code.replace("\\\n", " ").splitlines(keepends=True)
        if block.language == "bash" and all(line.startswith("gsnn ") for line in lines) and "&" not in block.code:
            # One command a line: pages that begin with the same command share it.
            steps += [
                Block(block.line + 1 + k, "bash", line, block.needs, block.before) for k, line in enumerate(lines)
            ]
            continue
        last = steps[-1] if steps else None
        if last is not None and block.language == last.language == "python":
            last.needs += block.needs
            last.code += block.before + block.code
        else:
            steps.append(block)
    return steps


@pytest.mark.slow
@pytest.mark.parametrize("name", names([page for page in PAGES if steps_of(page)]))
def test_the_blocks_of_a_page_run(name, prepared, seen, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    done: tuple[object, ...] = ()
    for step in steps_of(ROOT / name):
        for need in step.needs:
            put(prepared(need), folder / need)
        done = (*done, (step.language, step.before + step.code, *step.needs))
        if done in seen:
            shutil.copytree(seen[done], folder, dirs_exist_ok=True)
            continue
        execute(step, folder)
        if step.language == "bash":
            seen[done] = shutil.copytree(folder, tmp_path_factory.mktemp("seen") / "page")


SKIPPED = [
    pytest.param(block.skip, id=f"{name}:{block.line}")
    for page, name in zip(PAGES, names(PAGES), strict=True)
    for block in runnable(page)
    if block.skip
]


@pytest.mark.parametrize("reason", SKIPPED)
def test_blocks_that_are_not_run_say_why(reason):
    assert len(reason.split()) > 2
    pytest.skip(reason)


@pytest.mark.parametrize("name", names(PAGES))
def test_every_fence_says_what_it_holds(name):
    for block in blocks_of((ROOT / name).read_text(encoding="utf-8")):
        known = block.language in (*RUN, *OTHER) or block.language.startswith("{")
        assert known, f"line {block.line}: '{block.language}'; use one of {', '.join((*RUN, *OTHER))}"


def test_marks_are_read():
    text = (
        "<!-- test: with a.csv b.csv -->\n<!-- test: after\nx = 1\n-->\n\n```python\nprint(x)\n```\n~~~bash\nls\n~~~\n"
    )
    first, second = blocks_of(text)
    assert (first.needs, first.before, first.code, first.line) == (["a.csv", "b.csv"], "x = 1\n", "print(x)\n", 6)
    assert (second.language, second.code, second.needs) == ("bash", "ls\n", [])
    with pytest.raises(ValueError, match="no mark 'wiht'"):
        blocks_of("<!-- test: wiht a -->\n```python\n```\n")


def test_a_block_that_fails_is_told(tmp_path):
    for block in (Block(7, "bash", "false\ntrue\n"), Block(7, "python", "import warnings\nwarnings.warn('no')\n")):
        with pytest.raises(AssertionError, match="line 7"):
            execute(block, tmp_path)


def test_extras_that_are_named_exist():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    told = {
        extra.strip()
        for page in PAGES
        for group in re.findall(r"gsnn\[([a-z, ]+)\]", page.read_text(encoding="utf-8"))
        for extra in group.split(",")
    }
    assert told
    assert told <= set(extras)
