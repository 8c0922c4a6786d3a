"""The page as text: complete, self-contained, and names are only ever text."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from gsnn.base.errors import DataError
from gsnn.plot.data import ReportData
from gsnn.report import write_report
from gsnn.report.html import render, script_json
from gsnn.report.page import page_data
from gsnn.report.text import number


class Page(HTMLParser):
    """Tags with their attributes, text outside scripts, and the scripts."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.text, self.scripts, self.open = [], [], [], None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.open = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self.open = None

    def handle_data(self, data):
        if self.open == "script":
            self.scripts[-1] += data
        elif self.open != "style":
            self.text.append(data)


@pytest.fixture(scope="module")
def html(report_data):
    return render(report_data)


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def test_asks_the_network_for_nothing(page):
    for tag, attributes in page.tags:
        assert tag not in {"img", "iframe", "object", "embed", "base"}
        for name in ("src", "href", "action", "srcset", "data"):
            value = attributes.get(name) or ""
            assert not value or value.startswith("#") or value == "data:,", (tag, name, value)
        if tag == "script":
            assert "src" not in attributes
    policy = next(a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a)
    assert "default-src 'none'" in policy
    allowed = policy.split("script-src ")[1].split(";")[0].split()
    for text in page.scripts[1:]:  # these and no other scripts run
        assert f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" in allowed
    assert len(allowed) == 2


def test_has_three_scripts_and_the_data_is_json(page, report_data):
    assert len(page.scripts) == 3
    data = json.loads(page.scripts[0])
    assert data["candidates"] == len(report_data.candidates)
    assert set(data["network"]["names"]) == set(report_data.functions)


def test_names_are_text(html, page, report_data):
    text = "".join(page.text)
    for name in report_data.candidates.head(25)["source"]:
        assert name in text
    for warning in report_data.warnings:
        assert warning in text
    assert report_data.title in text
    assert "<b>bold</b>" not in html.split("<script>")[0]
    assert not [a for t, a in page.tags if t == "b"]


def test_script_json_survives_any_name():
    value = ["</script><!--", "a&b", "\u2028\u2029", '"', "\\", "\x01", "__proto__"]
    text = script_json(value)
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == value


def test_script_json_refuses_nan():
    with pytest.raises(ValueError, match="Out of range"):
        script_json([float("nan")])


def test_every_column_head_and_control_is_labelled(page):
    heads = [a for t, a in page.tags if t == "th"]
    assert heads
    assert all(a.get("scope") in {"col", "row"} for a in heads)
    labels = {a.get("for") for t, a in page.tags if t == "label"}
    controls = [a["id"] for t, a in page.tags if t in {"input", "select"}]
    assert set(controls) <= labels
    assert sum(t == "table" for t, _ in page.tags) == sum(t == "caption" for t, _ in page.tags)
    assert [a["aria-sort"] for t, a in page.tags if "aria-sort" in a] == ["ascending"]
    levels = [int(t[1]) for t, _ in page.tags if t in {"h1", "h2", "h3", "h4"}]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    for _, attributes in page.tags:
        for name in ("aria-labelledby",):
            assert attributes.get(name, ids[0]) in ids
    links = [a["href"][1:] for t, a in page.tags if t == "a"]
    assert set(links) <= set(ids)


def test_tells_what_the_run_has_not_and_how_to_get_it():
    edges = pd.DataFrame({"source": ["a"], "target": ["b"], "score": [0.5], "rank": [1], "p": [np.nan], "q": [np.nan]})
    data = ReportData(title="t", edges=edges.assign(known=False), functions=["a", "b"], folder="runs/x")
    text = " ".join("".join(Page(render(data)).text).split())
    assert "gsnn selfcheck runs/x" in text
    assert "gsnn infer runs/x --known" in text
    assert "nothing here says how good the ranking is" in text
    assert "p and q test association, not an edge" not in text  # it has neither


def test_says_what_p_is_not_beside_the_table(page):
    text = " ".join("".join(page.text).split())
    assert "p and q test association, not an edge" in text


def test_an_empty_run_renders():
    page = Page(render(ReportData(title="nothing")))
    assert "No candidate edges have been ranked yet" in " ".join("".join(page.text).split())


def test_the_table_is_limited_and_says_so(report_data, monkeypatch):
    monkeypatch.setattr("gsnn.report.page.MAX_ROWS", 7)
    data = page_data(report_data)
    assert len(data["edges"]["source"]) == 7
    assert "lists the best 7" in " ".join("".join(Page(render(report_data)).text).split())


def test_more_points_than_a_page_can_draw_are_sampled_the_same_way_every_time(report_data, monkeypatch):
    monkeypatch.setattr("gsnn.report.page.MAX_POINTS", 20)
    first, second = (page_data(report_data)["predictions"] for _ in range(2))
    assert first == second
    assert len(first["observed"]) == 20
    whole = set(report_data.predictions["observed"].round(4))
    assert {round(value, 4) for value in first["observed"]} <= whole


def test_known_edges_are_no_candidates():
    edges = pd.DataFrame(
        {
            "source": ["a", "b", "c"],
            "target": ["b", "c", "a"],
            "score": [0.9, np.nan, 0.3],
            "rank": [np.nan, 2, 1],
            "p": [np.nan, np.nan, 0.1],
            "q": [np.nan, np.nan, 0.2],
            "known": [True, False, False],
        }
    )
    data = page_data(ReportData(title="t", edges=edges, functions=["a", "b", "c"]))
    assert data["edges"]["source"] == ["c", "b"]
    assert data["edges"]["score"] == [0.3, None]
    assert data["network"]["proposed"] == [[2, 0, 0]]


def test_a_missing_column_is_named():
    with pytest.raises(DataError, match=r"'edges' lacks the columns \['rank'"):
        ReportData(title="t", edges=pd.DataFrame({"source": [], "target": [], "score": []}))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.5, "0.500"),
        (-2.0, "-2.000"),
        (0.0, "0.000"),
        (1e-300, "1.0e-300"),
        (np.float64("inf"), "–"),
        (None, "–"),
        (np.int64(3), "3"),
        ("text", "text"),
    ],
)
def test_number(value, shown):
    assert number(value) == shown


def test_write_report_is_atomic_and_needs_a_path(report_data, tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    assert write_report(report_data, path) == path
    before = path.read_bytes()
    with pytest.raises(TypeError, match="path is missing"):
        write_report(report_data)
    monkeypatch.setattr("gsnn.report.html.render", lambda data: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_report(report_data, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
