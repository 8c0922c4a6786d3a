"""The registry: every method by its name, one registered here, and one that an installed package offers."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from gsnn.base.errors import DataError
from gsnn.discovery import DEFAULT_METHOD, METHODS, Method, refine, register, self_check
from gsnn.discovery import methods as methods_module
from gsnn.discovery.methods import method_names, of_function
from gsnn.discovery.retrain import resolve_scorers
from gsnn.edges import EdgeInferer, MagnitudeEdgeInferer, ScoredPairs
from gsnn.edges.capture import iterate_batches
from gsnn.training import TrainConfig

from .conftest import simulated

DOCS = Path(__file__).parents[2] / "docs"
QUICK = TrainConfig(epochs=2, channels=2, layers=3, batch_size=64)


class Alphabet(EdgeInferer):
    """Ranks by name; ``train`` shows what it was offered."""

    def __init__(self, model, data, train=None):
        super().__init__(model, data)
        self.train = train

    def fit(self, dataloader, crit=None, device="cpu", verbose=True):
        self.n = sum(len(batch.x) for batch in iterate_batches(dataloader))
        return self.n

    def scored(self, *, sign=1.0):
        place = np.argsort(np.argsort(self.function_nodes)).astype(float)
        return ScoredPairs(self.prior, sign * (place[:, None] + 0 * place))


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    """What a test registers is gone after it, and installed packages are searched anew."""
    registry = methods_module.METHODS
    monkeypatch.setattr(registry, "_added", {})
    monkeypatch.setattr(registry, "_searched", False)


def test_the_research_methods_are_there_and_what_trains_is_not_taken_by_default():
    assert list(METHODS) == [
        "learned",
        "combined",
        "gradient",
        "gradient-explained",
        "magnitude",
        "magnitude-partial",
        "measured",
        "rank",
        "regressor",
        "embedding",
        "embedding-directed",
        "stacked",
        "stability",
        "structure",
    ]
    assert [name for name, method in METHODS.items() if method.by_default] == ["learned", *list(METHODS)[2:6]]
    assert DEFAULT_METHOD in METHODS
    assert len(METHODS) == 14
    assert all(method.summary for method in METHODS.values())


def test_one_from_outside_is_a_method_like_the_others():
    register("alphabet", Method(Alphabet, {"sign": -1.0}, "by name"))
    assert method_names("alphabet,magnitude") == ["alphabet", "magnitude"]
    assert list(METHODS)[-1] == "alphabet"
    data = simulated(6)
    check = self_check(data, QUICK, ["alphabet", "magnitude"], fraction=0.3, repeats=1, controls=())
    assert list(check.methods) == ["alphabet", "magnitude"]
    found = refine(data, QUICK, "alphabet", rounds=1, per_round=2, decision="none", control=False)
    # The first in the alphabet that has an unknown target.
    assert found.table()["source"].iloc[0] == min(data.graph.functions)
    inferer = METHODS["alphabet"].make(None, data.graph, {"train": QUICK, "memory_budget": 1})
    assert inferer.train is QUICK, "a class gets what it has a name for, and no more"
    register("alphabet", Alphabet)
    assert METHODS["alphabet"].options == {}


def test_what_cannot_be_registered():
    with pytest.raises(ValueError, match="one of gsnn's own"):
        register("magnitude", Alphabet)
    for name in ("", "a,b", "a b", "-x", None):
        with pytest.raises(ValueError, match="name must be letters"):
            register(name, Alphabet)
    for method in ("alphabet", Alphabet(None, simulated(4).graph), dict):
        with pytest.raises(TypeError, match="subclass of"):
            register("other", method)
    with pytest.raises(DataError, match="did you mean 'rank'"):
        method_names("rnak")
    with pytest.raises(DataError, match="unknown method"):
        resolve_scorers("magnitude, nothing")
    with pytest.raises(TypeError, match="must be a Method, an EdgeInferer class or a function"):
        resolve_scorers({"three": 3})
    assert "other" not in METHODS


def installed(folder, module, text, **points):
    """A package in a folder, with its entry points, as pip leaves it."""
    (folder / f"{module}.py").write_text(text)
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    lines = "".join(f"{name} = {module}:{value}\n" for name, value in points.items())
    (info / "entry_points.txt").write_text(f"[gsnn.methods]\n{lines}")


def example():
    """The module that docs/methods.md shows for a method of one's own."""
    text = (DOCS / "methods.md").read_text(encoding="utf-8")
    section = text[text.index("(your-own)=") :]
    return re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]


def test_the_example_of_the_docs_as_an_installed_package(tmp_path, monkeypatch):
    source = example()
    assert len(source.splitlines()) <= 32
    installed(tmp_path, "covariance_edges", source, covariance="METHOD")
    monkeypatch.syspath_prepend(tmp_path)
    assert "covariance" in METHODS
    assert issubclass(METHODS["covariance"].inferer, EdgeInferer)
    data = simulated(6)
    scorer = resolve_scorers("covariance")["covariance"]
    from gsnn.discovery.retrain import train_on

    trained = train_on(data, data.graph, QUICK)
    score = scorer(trained.model, data.graph, trained.batches)
    plain = MagnitudeEdgeInferer(trained.model, data.graph)
    plain.fit(trained.batches, verbose=False)
    # A covariance is a correlation but for the scales of source and target.
    assert score.shape == plain.score_matrix().shape
    assert np.isfinite(score).all()
    sys.modules.pop("covariance_edges")


def test_a_broken_package_is_left_out_and_told_of(tmp_path, monkeypatch):
    text = "from gsnn.edges import MagnitudeEdgeInferer as Good\nBad = 3\n"
    installed(tmp_path, "broken_edges", text, good="Good", bad="Bad", gone="Gone", magnitude="Good")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.warns(UserWarning, match="was left out") as told:
        names = list(METHODS)
    assert "good" in names
    assert not {"bad", "gone"} & set(names)
    assert METHODS["magnitude"].inferer is MagnitudeEdgeInferer
    text = " ".join(str(warning.message) for warning in told)
    assert sorted(re.findall(r"method '(\w+)' \(", text)) == ["bad", "gone", "magnitude"]
    sys.modules.pop("broken_edges")


def test_a_function_is_a_method():
    graph = simulated(5).graph

    def reach(model, data, batches):
        """Further from the first function is better."""
        return np.add.outer(np.arange(data.N), np.zeros(data.N)) + sum(len(x) for x, _ in batches)

    register("reach", reach)
    method = METHODS["reach"]
    assert method.summary == "Further from the first function is better."
    inferer = method.make(None, graph)
    assert inferer.fit([(torch.zeros(4, graph.I), torch.zeros(4, graph.O))], verbose=False) == 4
    assert inferer.score_matrix()[3, 0] == 7
    wrong = of_function(lambda model, data, batches: np.zeros(3)).make(None, graph)
    with pytest.raises(ValueError, match="the function must give an array"):
        wrong.fit([(torch.zeros(4, graph.I), torch.zeros(4, graph.O))])
