"""The rules of the verdicts, on figures and on constructed results."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gsnn.base.verdict import Verdict
from gsnn.discovery import SelfCheck
from gsnn.discovery.refinement.result import Refinement
from gsnn.discovery.verdicts import Arm, Recovery, check_next, check_verdict, infer_next, refine_verdict
from gsnn.metrics.auc import auc_difference, auc_interval

FINDS = Recovery(40, 0.8, 0.7, 0.9, 14, "structure", 0.2, 0.05, 0.35, 12)


@pytest.mark.parametrize(
    ("changed", "short", "tone"),
    [
        ({}, "finds 14 of 40", "good"),
        ({"n": 9}, "cannot be judged", "unsure"),
        ({"n": 10}, "finds 14 of 10", "good"),
        ({"auc": 0.28, "low": 0.18, "high": 0.38}, "worse than guessing", "bad"),
        ({"auc": 0.4, "low": 0.3, "high": 0.5}, "no better than guessing", "bad"),
        ({"difference_low": -0.01}, "no better than topology", "bad"),
        ({"difference": -0.2, "difference_low": -0.3, "difference_high": -0.1}, "no better than topology", "bad"),
        ({"low": 0.5}, "no better than guessing", "bad"),
        ({"topology": "", "difference_low": float("nan")}, "finds 14 of 40", "good"),
        ({"failed": ("rewired",)}, "finds where nothing is", "bad"),
        ({"low": float("nan"), "high": float("nan")}, "cannot be judged", "unsure"),
    ],
)
def test_the_rule(changed, short, tone):
    verdict = check_verdict(replace(FINDS, **changed))
    assert (verdict.short, verdict.tone) == (short, tone)
    assert f"{changed.get('n', 40)} hidden edges" in verdict.text


GOOD, BAD, UNJUDGED = (Verdict(short, "", tone) for short, tone in (("finds 3 of 4", "good"), ("no", "bad"),
                                                                   ("cannot be judged", "unsure")))  # fmt: skip
FUNCTIONS, INPUTS, OUTPUTS = "function->function", "input->function", "function->output"


@pytest.mark.parametrize(
    ("found", "options", "after"),
    [
        ({FUNCTIONS: {"a": BAD, "b": GOOD}}, {}, "gsnn infer RUN --method b, "),
        ({FUNCTIONS: {"a": GOOD}}, {}, "gsnn infer RUN, "),
        ({FUNCTIONS: {"b": GOOD}}, {"inferred": "a"}, "gsnn infer RUN --method b, "),
        ({FUNCTIONS: {"a": GOOD}}, {"inferred": "a"}, "gsnn refine RUN, "),
        ({FUNCTIONS: {"a": BAD}, OUTPUTS: {"a": GOOD}}, {}, "gsnn refine RUN --kinds output, "),
        ({FUNCTIONS: {"a": BAD}}, {}, "gsnn selfcheck RUN --kinds input,output, "),
        ({FUNCTIONS: {"a": UNJUDGED}}, {}, "gsnn selfcheck RUN --repeats 10 --overwrite, "),
        ({FUNCTIONS: {"a": BAD}, INPUTS: {"a": BAD}, OUTPUTS: {"a": UNJUDGED}}, {}, "other perturbations or"),
    ],
)
def test_nothing_is_built_on_a_ranking_that_failed(found, options, after):
    assert check_next(found, "a", **options).startswith(after)


def test_an_inference_is_followed_by_a_self_check_and_by_a_refinement_only_where_that_found():
    assert infer_next(None).startswith("gsnn selfcheck RUN")
    assert infer_next(GOOD).startswith("gsnn refine RUN")
    for failed in (BAD, UNJUDGED):
        assert "do not build" in infer_next(failed)
        assert "refine" not in infer_next(failed)


def test_what_finds_says_what_chance_finds_and_what_fails_says_why():
    assert "14 of 40 hidden edges are among the best tenth of the candidates, where chance puts 4" in str(
        check_verdict(FINDS)
    )
    worse = check_verdict(replace(FINDS, auc=0.28, low=0.18, high=0.38))
    assert "12 of them have a bypass" in worse.text
    assert "do not use this ranking" in worse.text


def made(shares, structure=None, n=12, repeats=2, **record):
    """A self-check whose hidden edges stand where they are told to; no two share a node."""
    records = []
    for r in range(repeats):
        edges = [[f"s{r}-{i}", f"t{r}-{i}"] for i in range(n)]
        methods = {"m": ("inferer", shares), **({"structure": ("baseline", structure)} if structure else {})}
        real = {
            "testable": edges, "cut_off": [], "holes": [], "n_eligible": 100,
            "methods": {
                name: {
                    "by": by,
                    "placement": dict.fromkeys(("all", "degree-matched"), place),
                    "negative_variance": dict.fromkeys(("all", "degree-matched"), 1e-4),
                    "metrics": {"all": {"roc_auc": float(np.mean(place))}, "degree-matched": {}},
                    "rank": [1.0] * n,
                }
                for name, (by, place) in methods.items()
            },
            **record,
        }  # fmt: skip
        records.append({"repeat": r, "conditions": {"real": real}})
    settings = {"fraction": 0.1, "repeats": repeats, "controls": [], "methods": ["m"], "n_candidates": 1000}
    return SelfCheck(settings, records)


def test_a_self_check_is_judged_by_its_own_figures():
    low, high = list(np.linspace(0.1, 0.4, 12)), list(np.linspace(0.7, 1, 12))
    assert made(low).verdicts()["m"].short == "worse than guessing"
    assert made(high, low).verdicts()["m"].short == "finds 8 of 24"  # .9 and above, in both repeats
    assert made(high, high).verdicts()["m"].short == "no better than topology"
    assert "structure, which knows the graph alone" in made(high, high).verdicts()["m"].text
    assert made(low[:4], n=4).verdicts()["m"].short == "cannot be judged"
    assert made([], repeats=0).verdicts() == {}
    check = made(low, bypassed=[["s0-1", "t0-1"]])
    assert "1 of them has a bypass" in check.verdicts()["m"].text
    assert check.content()["verdicts"]["m"] == check.verdicts()["m"].to_dict()


def test_the_difference_is_the_interval_of_the_differences():
    rng = np.random.default_rng(0)
    edges = [(f"a{i % 5}", f"b{i}") for i in range(30)]
    own, other = rng.random((2, 30))
    found = auc_difference(edges, own, other, 3e-4)
    mean, low, high = auc_interval(edges, (own - other + 1) / 2, 3e-4 / 4)
    assert found == pytest.approx((2 * mean - 1, 2 * low - 1, 2 * high - 1))


@pytest.mark.parametrize(
    ("inferred", "random", "tested", "short"),
    [
        (Arm(0, 0), Arm(0, 0), True, "nothing was proposed"),
        (Arm(18, 0), Arm(18, 0), True, "no proposed edge helped"),
        (Arm(18, 3), None, True, "not compared"),
        (Arm(18, 3), Arm(18, 3), True, "random edges did as well"),
        (Arm(18, 3), Arm(18, 0), True, "not told from random edges"),
        (Arm(18, 8), Arm(18, 1), True, "better than random edges"),
        (Arm(18, 18, 0.1), Arm(18, 18, 0.2), False, "random edges did as well"),
        (Arm(18, 18, 0.2), Arm(18, 18, 0.1), False, "better than random edges"),
    ],
)
def test_the_rule_of_a_refinement(inferred, random, tested, short):
    found = refine_verdict(inferred, random, tested=tested)
    assert found.short == short
    assert ("keep the network" in found.next) == (found.tone == "bad")
    assert found.next


def test_a_refinement_is_judged_by_its_own_edges():
    def arm(kept):
        edges = [{"source": "a", "target": f"b{i}", "score": 1.0, "kept": i < kept, "true": None} for i in range(6)]
        return [{"round": 1, "edges": edges, "test_before": 1.0, "test_after": 0.9, "loss_before": 1, "loss_after": 1}]

    found = Refinement({"rounds": 1, "decision": "single"}, {"inferred": arm(2), "random": arm(2)})
    assert found.verdict().short == "random edges did as well"
    assert "test loss 10.0% lower" in found.verdict().text
    assert found.content()["verdict"]["tone"] == "bad"
