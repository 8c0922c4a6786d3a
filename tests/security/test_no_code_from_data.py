"""Nothing in the package turns data into code: the source is searched for every way that is known."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "gsnn"
FORBIDDEN_MODULES = {
    "pickle",
    "cPickle",
    "dill",
    "cloudpickle",
    "joblib",
    "marshal",
    "shelve",
    "yaml",
    "subprocess",
    "pty",
}
FORBIDDEN_NAMES = {"eval", "exec", "compile", "__import__", "execfile", "input"}
# Module -> functions that run what they are given, or load what may.
FORBIDDEN_CALLS = {
    "os": {"system", "popen", "execv", "execvp", "execve", "spawnl", "spawnv", "startfile"},
    "torch": {"load"},
    "torch.jit": {"load"},
    "torch.hub": {"load"},
    "pd": {"read_pickle", "eval", "read_hdf"},
    "pandas": {"read_pickle", "eval", "read_hdf"},
    "joblib": {"load"},
    "importlib": {"import_module"},
    "runpy": {"run_path", "run_module"},
}
# Where a module is imported by name, the name comes from the package itself.
ALLOWED_IMPORT_BY_NAME = {"errors.py", "lazy.py", "compiled.py"}


def _dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def offences(code: str, name: str) -> list[str]:
    """What a module does that could run code from data."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [f"imports {m}" for m in modules if m.split(".")[0] in FORBIDDEN_MODULES]
        if not isinstance(node, ast.Call):
            continue
        what = _dotted(node.func)
        owner, _, last = what.rpartition(".")
        if what in FORBIDDEN_NAMES:
            found.append(f"calls {what}")
        if last in FORBIDDEN_CALLS.get(owner, ()) and not (last == "import_module" and name in ALLOWED_IMPORT_BY_NAME):
            found.append(f"calls {what}")
        for keyword in node.keywords:
            value = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
            if keyword.arg == "allow_pickle" and value is not False:
                found.append(f"{what} allows pickle")
            if keyword.arg == "shell" and value is not False:
                found.append(f"{what} runs a shell")
            if keyword.arg == "autoescape" and value is not True:
                found.append(f"{what} does not escape")
        if (
            last in {"load", "loads"}
            and owner in {"np", "numpy"}
            and not any(k.arg == "allow_pickle" for k in node.keywords)
        ):
            found.append(f"{what} without allow_pickle=False")
    return found


def test_the_package():
    files = sorted(SOURCE.rglob("*.py"))
    assert len(files) > 100
    found = {str(path.relative_to(SOURCE)): offences(path.read_text(encoding="utf-8"), path.name) for path in files}
    assert {path: what for path, what in found.items() if what} == {}


@pytest.mark.parametrize(
    "code",
    [
        "import pickle", "from pickle import loads", "import yaml", "import subprocess", "eval(x)", "exec(x)",
        "torch.load(p)", "torch.load(p, weights_only=True)", "pd.read_pickle(p)", "np.load(p)", "os.system(x)",
        "np.load(p, allow_pickle=True)", "f(shell=True)", "f(shell=x)", "importlib.import_module(x)", "__import__(x)",
        "jinja2.Environment(autoescape=False)",
    ],
)  # fmt: skip
def test_the_search_finds_it(code):
    assert offences(code, "x.py")


def test_the_search_lets_the_rest_pass():
    assert offences("np.load(p, allow_pickle=False)\nmodel.eval()\nre.compile(x)\njson.load(f)", "x.py") == []
