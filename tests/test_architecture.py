"""The rooms of the house: which stands on which, no circles, no private doors between them."""

import ast
import graphlib
from collections import defaultdict
from pathlib import Path

import pytest

import gsnn

ROOT = Path(gsnn.__file__).parent

# From the ground up: a room imports only from rooms before it. CONTRIBUTING says what is in each.
ROOMS = (
    "base",
    "graph",
    "nn",
    "metrics",
    "io",
    "simulation",
    "data",
    "datasets",
    "training",
    "edges",
    "discovery",
    "plot",
    "ask",
    "runs",
    "report",
    "sklearn",
    "cli",
)
# Neither of the two knows the other, though one stands above the other.
STRANGERS = [("training", "edges")]
# Doors of the package itself, and the paths of the research code.
OUTSIDE = {"__init__", "__main__", "_version", "models", "optim", "simulate"}


def modules():
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(("gsnn", *(parts[:-1] if parts[-1] == "__init__" else parts))), path


MODULES = dict(modules())


def imports():
    """(importing module, module a name is taken from, name) of every import, deferred and type-only ones included."""
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "gsnn":
                for name in node.names:
                    full = f"{node.module}.{name.name}"
                    yield (module, full, None) if full in MODULES else (module, node.module, name.name)
            elif isinstance(node, ast.Import):
                for name in node.names:
                    if name.name.split(".")[0] == "gsnn":
                        yield module, name.name, None


def room(module):
    return [*module.split("."), ""][1]


@pytest.fixture(scope="module")
def between():
    """The imports from rooms into rooms."""
    return [(a, b, name) for a, b, name in imports() if room(a) in ROOMS and room(b) in ROOMS]


def test_every_folder_and_module_of_the_top_level_is_a_room():
    there = {path.stem for path in ROOT.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert there - OUTSIDE == set(ROOMS)


def test_imports_run_down(between):
    up = [f"{a} -> {b} ({name})" for a, b, name in between if ROOMS.index(room(b)) > ROOMS.index(room(a))]
    up += [f"{a} -> {b} ({name})" for a, b, name in between for pair in STRANGERS if {room(a), room(b)} == set(pair)]
    assert up == []


def home(module, name):
    """The module that defines what a package's ``__init__`` hands on."""
    while name is not None and MODULES[module].name == "__init__.py":
        for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and any((each.asname or each.name) == name for each in node.names):
                if f"{node.module}.{name}" in MODULES:
                    return f"{node.module}.{name}"
                module = node.module
                break
        else:
            return module
    return module


def test_there_are_no_circles_of_modules(between):
    above = defaultdict(set)
    for a, b, name in between:
        target = home(b, name)
        if MODULES[a].name != "__init__.py" and target != a and MODULES[target].name != "__init__.py":
            above[a].add(target)
    try:
        list(graphlib.TopologicalSorter(above).static_order())
    except graphlib.CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(error.args[1])}")


def test_no_room_takes_what_another_keeps_for_itself(between):
    private = [
        f"{a} -> {b} ({name})"
        for a, b, name in between
        if room(a) != room(b) and any(part.startswith("_") for part in [*b.split("."), name or ""])
    ]
    assert private == []


def test_no_file_is_longer_than_a_concept():
    long = {module: n for module, path in MODULES.items() if (n := len(path.read_text().splitlines())) > 600}
    assert long == {}
