"""The page in a real browser: no error, no request, no overflow; the table and the network react."""

from __future__ import annotations

import os
import shutil

import pytest

from gsnn.report import write_report

from .conftest import HOSTILE, make_report

pytestmark = pytest.mark.browser

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync "
    "--no-first-run"
).split()


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = os.environ.get("GSNN_CHROMIUM") or shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium found; install it or set GSNN_CHROMIUM")
    with sync_api.sync_playwright() as playwright:
        instance = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield instance
        instance.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory, report_data):
    return write_report(report_data, tmp_path_factory.mktemp("report") / "report.html").as_uri()


@pytest.fixture
def opened(browser, address):
    """Open the page at a width and a scheme; afterwards nothing may have gone wrong."""
    pages, troubles = [], []

    def open_page(width=1400, scheme="light", url=address):
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
        page.on("console", lambda m: troubles.append(m.text) if m.type in {"error", "warning"} else None)
        page.on("pageerror", lambda e: troubles.append(str(e)))
        page.on("request", lambda r: None if r.url.startswith(("file:", "data:", "blob:")) else troubles.append(r.url))
        page.goto(url)
        page.wait_for_selector("#network-plot .textpoint text")
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert troubles == []


def cells(page, column):
    return page.eval_on_selector_all(
        "#edge-table tbody tr", "(rows, k) => rows.map((row) => row.cells[k].textContent)", column
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 820, 1400])
def test_opens_offline_without_error_or_overflow(opened, width, scheme):
    page = opened(width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.title() == "Edges missing from <the> network"
    for plot in ("fit", "predictions", "loss", "network"):
        assert page.locator(f"#{plot}-plot .main-svg").count() >= 1
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")


def test_table_sorts(opened, report_data):
    page = opened()
    candidates = report_data.candidates
    assert cells(page, 1) == list(candidates.head(25)["source"])
    page.click("#edge-table th[data-column=score] button")
    assert cells(page, 0)[0] == "1"
    page.click("#edge-table th[data-column=score] button")
    lowest = candidates.head(5000).tail(1)  # the page lists no more
    assert cells(page, 0)[0] == str(int(lowest["rank"].iloc[0]))
    assert page.get_attribute("#edge-table th[data-column=score]", "aria-sort") == "ascending"
    assert page.get_attribute("#edge-table th[data-column=rank]", "aria-sort") is None
    # With the keyboard alone, too.
    page.focus("#edge-table th[data-column=rank] button")
    page.keyboard.press("Enter")
    assert cells(page, 0)[0] == "1"


@pytest.mark.parametrize("name", HOSTILE)
def test_table_filters_by_any_name(opened, report_data, name):
    page = opened()
    page.fill("#edge-search", name)
    wanted = report_data.candidates.head(5000)
    text = (wanted["source"] + "\n" + wanted["target"]).str.lower()
    keep = text.map(lambda t: all(word in t for word in name.lower().split()))
    assert f"of {int(keep.sum())} matching" in page.inner_text("#edge-count")
    found = list(zip(cells(page, 1), cells(page, 2), strict=True))
    assert found == list(zip(wanted[keep].head(25)["source"], wanted[keep].head(25)["target"], strict=True))
    page.fill("#edge-search", "no such node")
    assert cells(page, 1) == []


def test_more_rows(opened):
    page = opened()
    page.click("#edge-more")
    assert len(cells(page, 0)) == 225


def test_network_shows_the_neighbourhood_of_a_node_and_of_an_edge(opened, report_data):
    page = opened()
    page.select_option("#network-node", label="__proto__")
    known = report_data.network
    text = page.inner_text("#network-text")
    for name in known.loc[(known["source"] == "__proto__") & (known["target"] != "__proto__"), "target"]:
        assert name in text
    assert page.locator("#network-text dt", has_text="Node").count() == 1
    labels = "(all) => all.map((t) => t.textContent)"
    for name in ("K50", "K17"):
        page.select_option("#network-node", label=name)
        near = {*known.loc[known["source"] == name, "target"], *known.loc[known["target"] == name, "source"], name}
        shown = page.eval_on_selector_all("#network-plot .textpoint text", labels)
        assert {short for short in near if len(short) <= 14} <= set(shown)
        assert len(shown) < len(report_data.functions) / 2
    page.click("#edge-table tbody tr:nth-child(2) button")
    best = report_data.candidates.iloc[1]
    text = page.inner_text("#network-text")
    assert best["source"] in text
    assert best["target"] in text
    page.select_option("#network-node", value="")
    assert page.inner_text("#network-text") == ""


def test_drawn_names_are_text(opened):
    page = opened()
    page.select_option("#predictions-readout", index=2)
    shown = page.eval_on_selector_all("#network-plot .textpoint text", "(all) => all.map((t) => t.textContent)")
    for name in ("<b>bold</b>", "__proto__", "%{x}", "${1}", "{{ 7 * 7 }}", "\\u003c"):
        assert name in shown
    assert page.evaluate("document.querySelectorAll('#network-plot .textpoint tspan[style*=bold]').length") == 0


def test_nothing_offers_to_send_the_data_away(opened):
    page = opened()
    page.hover("#fit-plot")
    titles = page.eval_on_selector_all(".modebar-btn", "(all) => all.map((b) => b.dataset.title || b.dataset.attr)")
    assert titles
    assert not [title for title in titles if "loud" in str(title) or "hare" in str(title)]
    assert page.locator(".modebar a[href], a[href^=http]").count() == 0


def test_every_control_has_a_name_and_the_focus_is_visible(opened):
    page = opened()
    nameless = page.evaluate(
        """[...document.querySelectorAll('main button, main input, main select, main [role=region]')].filter((e) =>
        !e.textContent.trim() && !(e.labels && e.labels.length) && !e.getAttribute('aria-label')).length"""
    )
    assert nameless == 0
    page.focus("#edge-search")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_a_large_network_is_cut_to_its_best_part_and_stays_quick(opened, tmp_path):
    path = write_report(make_report(900, n_edges=20000), tmp_path / "large.html")
    page = opened(url=path.as_uri())
    assert "of 900 function nodes" in page.inner_text("#network-caption")
    assert page.locator("#network-plot .scatterlayer .textpoint").count() <= 300
    took = page.evaluate(
        """() => { const start = performance.now(); const box = document.getElementById('edge-search');
        box.value = 'k1'; box.dispatchEvent(new Event('input')); return performance.now() - start; }"""
    )
    assert took < 500
