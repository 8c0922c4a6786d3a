"""The API reference leaves no public name out: its page is built and its inventory compared with the package."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
from pathlib import Path

import pytest

import gsnn

from .. import warm

ROOT = Path(__file__).resolve().parents[2]
# Not for import: the command line is documented by its own page.
NOT_DOCUMENTED = {"gsnn.cli", "gsnn.__main__"}

CONF = """
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
myst_enable_extensions = ["colon_fence", "dollarmath", "deflist"]
root_doc = "api"
suppress_warnings = ["ref.python"]
"""
# What an inventory would list; no page is written.
READ = """
import json, sys
from sphinx.application import Sphinx
source, built = sys.argv[1:]
app = Sphinx(source, source, built, built, "dummy", status=None)
app.build()
print(json.dumps([name for name, *_ in app.env.get_domain("py").get_objects()]))
sys.exit(app.statuscode)
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
    source = tmp_path / "source"
    source.mkdir()
    (source / "conf.py").write_text(CONF, encoding="utf-8")
    (source / "api.md").write_text((ROOT / "docs" / "api.md").read_text(encoding="utf-8"), encoding="utf-8")
    done = warm.run(["-c", READ, source, tmp_path / "built"], timeout=400)
    assert done.returncode == 0, done.stderr[-4000:]
    listed = set(json.loads(done.stdout))
    missing = sorted(public_names() - listed)
    assert not missing, f"add to docs/api.md: {', '.join(missing)}"
