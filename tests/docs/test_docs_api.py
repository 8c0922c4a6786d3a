"""The API reference leaves no public name out: its page is built and its inventory compared with the package."""

from __future__ import annotations

import importlib
import os
import pkgutil
import re
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

import gsnn

ROOT = Path(__file__).resolve().parents[2]
# Not for import: the command line is documented by its own page.
NOT_DOCUMENTED = {"gsnn.cli", "gsnn.__main__"}

CONF = """
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
myst_enable_extensions = ["colon_fence", "dollarmath", "deflist"]
root_doc = "api"
suppress_warnings = ["ref.python"]
"""


def public_names() -> set[str]:
    """gsnn._PUBLIC under its own module, and everything in the __all__ of a public module."""
    found = {f"gsnn.{module}.{name}" for name, module in gsnn._PUBLIC.items()}
    for module in pkgutil.iter_modules(gsnn.__path__, "gsnn."):
        if module.name in NOT_DOCUMENTED or module.name.split(".")[-1].startswith("_"):
            continue
        found |= {f"{module.name}.{name}" for name in getattr(importlib.import_module(module.name), "__all__", ())}
    return found


def test_constants_that_are_named_exist():
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    found = re.findall(r"^\.\. data::((?:\s+[A-Z_]+\n)+)\s+:module: (\S+)$", text, re.MULTILINE)
    assert len(found) == text.count(".. data::") > 5
    for names, module in found:
        for name in names.split():
            assert hasattr(importlib.import_module(module), name), f"{module}.{name}"


@pytest.mark.slow
def test_every_public_name_is_in_the_reference(tmp_path):
    for module in ("sphinx", "myst_parser"):
        pytest.importorskip(module)
    source, built = tmp_path / "source", tmp_path / "built"
    source.mkdir()
    (source / "conf.py").write_text(CONF, encoding="utf-8")
    (source / "api.md").write_text((ROOT / "docs" / "api.md").read_text(encoding="utf-8"), encoding="utf-8")
    command = [sys.executable, "-m", "sphinx", "-q", "-b", "html", str(source), str(built)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=400, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    head, _, body = (built / "objects.inv").read_bytes().partition(b"using zlib.\n")
    assert head.startswith(b"# Sphinx inventory version 2")
    listed = {line.split()[0] for line in zlib.decompress(body).decode().splitlines() if " py:" in line}
    missing = sorted(public_names() - listed)
    assert not missing, f"add to docs/api.md: {', '.join(missing)}"
