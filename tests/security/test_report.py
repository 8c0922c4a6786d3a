"""Names from files are text in the report, whatever they mean to HTML, JavaScript or a drawing library."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import pandas as pd
import pytest

pytest.importorskip("jinja2")
pytest.importorskip("plotly")

from gsnn.plot.data import ReportData
from gsnn.report import write_report
from gsnn.report.html import render

ATTACKS = [
    "<script>window.owned = 1</script>",
    "</script><script>window.owned = 1</script>",
    "<img src=x onerror='window.owned = 1'>",
    "<svg/onload=window.owned=1>",
    '"><script>window.owned = 1</script>',
    "' autofocus onfocus='window.owned = 1",
    "<a href='javascript:window.owned=1'>click</a>",
    "<a href='https://192.0.2.1/'>click</a>",
    "<iframe srcdoc='<script>parent.owned=1</script>'></iframe>",
    "<!--",
    "]]>",
    "<base href='https://192.0.2.1/'>",
    "<meta http-equiv='refresh' content='0;url=https://192.0.2.1/'>",
    "<style>body{display:none}</style>",
    "{{ cycler.__init__.__globals__ }}",
    "{% raw %}",
    "${window.owned = 1}",
    "constructor",
    "__proto__",
    "javascript:window.owned=1",
]


def attacked() -> ReportData:
    """A report in which everything that a user's file may name is an attack."""
    n = len(ATTACKS)
    ends = list(zip(ATTACKS, ATTACKS[1:] + ATTACKS[:1], strict=True))
    others = list(zip(ATTACKS, ATTACKS[2:] + ATTACKS[:2], strict=True))
    edges = pd.DataFrame(others, columns=["source", "target"]).assign(
        score=[1 - i / n for i in range(n)], rank=range(1, n + 1), known=False, sign=1, p=0.5, q=0.5
    )
    return ReportData(
        title=ATTACKS[1],
        config={"graph": ATTACKS[0], ATTACKS[2]: ATTACKS[3]},
        command=ATTACKS[4],
        summary={ATTACKS[2]: ATTACKS[1]},
        warnings=list(ATTACKS),
        notes=list(ATTACKS),
        history=pd.DataFrame({"epoch": [1, 2], "train_loss": [1.0, 0.5], f"{ATTACKS[2]} loss": [1.0, 0.5]}),
        fit=pd.DataFrame({"readout": ATTACKS, "n": 3, "model": 0.5, "ridge": 0.4, "mean": 0.0}),
        pooled={"model": 0.5, "ridge": 0.4, "mean": 0.0},
        predictions=pd.DataFrame({"readout": ATTACKS, "condition": ATTACKS, "observed": 1.0, "predicted": 0.5}),
        edges=edges,
        network=pd.DataFrame(ends, columns=["source", "target"]).assign(sign=1),
        functions=list(ATTACKS),
        treated={name: [name] for name in ATTACKS},
        measured={name: [name] for name in ATTACKS},
        method=ATTACKS[2],
        folder=ATTACKS[4],
    )


class Tags(HTMLParser):
    """Every tag with its attributes, and what stands in the scripts."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.scripts, self._inside = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._inside = tag == "script"
        if self._inside:
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._inside = False

    def handle_data(self, data):
        if self._inside:
            self.scripts[-1] += data


@pytest.fixture(scope="module")
def report():
    return attacked()


def test_no_name_makes_an_element_or_an_attribute(report):
    harmless = [f"K{i}" for i in range(len(ATTACKS))]
    plain = dict(zip(ATTACKS, harmless, strict=True))

    def renamed(table):
        return table.map(lambda value: plain.get(value, value) if isinstance(value, str) else value)

    tables = ("fit", "predictions", "edges", "network")
    tame = replace(
        report, title="t", config={}, command="c", summary={"a": "b"}, warnings=harmless, notes=harmless,
        functions=harmless, treated={k: [k] for k in harmless}, measured={k: [k] for k in harmless}, method="m",
        folder="f", **{name: renamed(getattr(report, name)) for name in tables},
    )  # fmt: skip
    wild, expected = Tags(render(report)).tags, Tags(render(tame)).tags
    assert [tag for tag, _ in wild] == [tag for tag, _ in expected]
    for tag, attributes in wild:
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        assert not str(attributes.get("href", "")).startswith(("javascript", "http")), (tag, attributes)


def test_the_policy_lets_only_our_scripts_run(report):
    page = Tags(render(report))
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    sources = re.search(r"script-src ([^;]*)", policy)[1].split()
    assert len(sources) == 2
    assert all(re.fullmatch(r"'sha256-[A-Za-z0-9+/=]+'", source) for source in sources)
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy


def test_the_names_are_there_as_they_were(report):
    page = Tags(render(report))
    data = next(json.loads(text) for text in page.scripts if text.lstrip().startswith('{"'))
    assert data["edges"]["source"] == ATTACKS


@pytest.mark.browser
def test_nothing_runs_in_a_browser(report, tmp_path):
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = os.environ.get("GSNN_CHROMIUM") or shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium found; install it or set GSNN_CHROMIUM")
    path = write_report(report, tmp_path / "report.html")
    troubles = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(offline=True)
        page.on("dialog", lambda d: (troubles.append(d.message), d.dismiss()))
        page.on("pageerror", lambda e: troubles.append(str(e)))
        page.on("console", lambda m: troubles.append(m.text) if m.type == "error" else None)
        page.on("request", lambda r: None if r.url.startswith(("file:", "data:", "blob:")) else troubles.append(r.url))
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready]", state="attached")
        page.locator("#network-details").evaluate("(details) => { details.open = true; }")
        page.wait_for_selector("#network-plot .textpoint text")
        for row in (1, 5, 9):
            page.click(f"#edge-table tbody tr:nth-child({row}) button:not(.link)")
            page.select_option("#network-node", index=row)
        page.hover("#fit-plot")
        assert page.evaluate("typeof window.owned") == "undefined"
        assert (
            page.evaluate("document.querySelectorAll('img, iframe, base, [onerror], [onload], [onfocus]').length") == 0
        )
        links = page.evaluate(
            "[...document.querySelectorAll('a')].map((a) => a.getAttribute('href') || a.href.baseVal)"
        )
        assert not [link for link in links if link and link.startswith(("javascript", "http"))]
        browser.close()
    assert troubles == []
