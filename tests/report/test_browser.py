"""The page in a real browser: no error, no request, no overflow; the table and the network react."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import replace

import pytest

from gsnn.report import write_report

from .conftest import HOSTILE, make_report

pytestmark = pytest.mark.browser

# Contrast of a text with the first ground behind it that is not transparent, as WCAG 2 defines it.
CONTRAST = """(selector) => {
  const parse = (c) => c.match(/[\\d.]+/g).map(Number);
  const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = (c) => {
    const [r, g, b] = parse(c).map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const element = document.querySelector(selector);
  let ground = element;
  const clear = (node) => parse(getComputedStyle(node).backgroundColor)[3] === 0;
  while (ground.parentElement && clear(ground)) ground = ground.parentElement;
  const [a, b] = [light(getComputedStyle(element).color), light(getComputedStyle(ground).backgroundColor)];
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}"""

# Milliseconds that each step of filtering, sorting and turning pages keeps the page busy, layout included.
BUSY = """async () => {
  const box = document.getElementById('edge-search'), took = {};
  const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)));
  const step = async (name, act) => {
    await frame();
    const start = performance.now();
    act();
    document.body.offsetHeight;
    took[name] = performance.now() - start;
  };
  const search = (text) => { box.value = text; box.dispatchEvent(new Event('input')); };
  for (const text of ['k', 'k1', 'k12', '']) await step(`search ${text}`, () => search(text));
  for (const head of document.querySelectorAll('#edge-table th[data-column] button')) {
    await step(`sort ${head.textContent}`, () => head.click());
    await step(`sort ${head.textContent} again`, () => head.click());
  }
  for (let k = 0; k < 3; k += 1) await step(`page ${k}`, () => document.getElementById('edge-next').click());
  return took;
}"""

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
        page.set_default_timeout(120_000)  # on a busy machine
        page.goto(url)
        page.wait_for_selector("html[data-ready]", state="attached")
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
@pytest.mark.parametrize("width", [360, 800, 1400])
def test_opens_offline_without_error_or_overflow(opened, width, scheme):
    page = opened(width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.title() == "Edges missing from <the> network"
    page.locator("#network-details").evaluate("(details) => { details.open = true; }")  # closed on a phone
    page.wait_for_selector("#network-plot .textpoint text")
    for plot in ("fit", "predictions", "loss", "network", "check", "scores", "places"):
        assert page.locator(f"#{plot}-plot .main-svg").count() >= 1
    assert page.locator("#agreement-plot-0 .main-svg").count() >= 1
    assert page.evaluate("document.documentElement.scrollWidth") <= width
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


def test_table_filters_by_any_name(opened, report_data):
    page = opened()
    wanted = report_data.candidates.head(5000)
    text = (wanted["source"] + "\n" + wanted["target"]).str.lower()
    for name in HOSTILE:
        page.fill("#edge-search", name)
        words = name.lower().split()
        keep = text.map(lambda t, words=words: all(word in t for word in words))
        assert f"of {int(keep.sum())} matching" in page.inner_text("#edge-count")
        found = list(zip(cells(page, 1), cells(page, 2), strict=True))
        assert found == list(zip(wanted[keep].head(25)["source"], wanted[keep].head(25)["target"], strict=True))
        # The drawing and the text beside it hold the name as text, too.
        page.click("#edge-table tbody tr:first-child button:not(.link)")
        assert page.inner_text("#around-title").split() == " → ".join(found[0]).split()
    assert page.title() == "Edges missing from <the> network"  # no name ran as a script
    page.fill("#edge-search", "no such node")
    assert cells(page, 1) == []


def until(page, expression, seconds=10):
    """Wait for an expression; the page's policy lets no library evaluate one inside the page."""
    deadline = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, expression
        page.wait_for_timeout(20)


def count(page):
    return page.inner_text("#edge-count")


def test_pages_turn(opened, report_data):
    page = opened()
    assert count(page) == "Rows 1 to 25 of 5,000"
    assert page.is_disabled("#edge-previous")
    page.click("#edge-next")
    assert cells(page, 0)[0] == "26"
    page.select_option("#edge-size", "100")
    assert cells(page, 0) == [str(k) for k in range(1, 101)]
    page.fill("#edge-search", report_data.candidates["source"].iloc[30])
    assert cells(page, 0)[0] != "26"
    assert not page.is_hidden("#edge-reset")
    page.click("#edge-reset")
    assert count(page) == "Rows 1 to 100 of 5,000"
    assert page.evaluate("document.activeElement.id") == "edge-search"


def test_filters_by_side_precision_q_and_aliases(opened, report_data):
    page = opened()
    listed = report_data.candidates.head(5000)
    page.fill("#edge-search", "k5")
    page.select_option("#edge-side", "target")
    hit = listed["target"].str.lower().str.contains("k5", regex=False)
    assert f"of {int(hit.sum())} matching" in count(page)
    page.click("#edge-reset")
    page.select_option("#edge-least", "0.2")
    assert f"of {int((listed['expected_precision'] >= 0.2).sum())} matching" in count(page)
    page.click("#edge-reset")
    page.select_option("#edge-q", "0.05")
    assert f"of {int((listed['q'] <= 0.05).sum()):,} matching" in count(page)
    page.click("#edge-reset")
    page.check("#edge-alias")
    best = listed.drop_duplicates("alias_group")
    assert f"of {len(best):,} matching" in count(page)
    assert cells(page, 1) == list(best["source"].head(25))
    page.click("#edge-reset")
    row = int((listed["alias_size"] > 1).to_numpy().nonzero()[0][0])
    page.click("#edge-table tbody button.link")
    group = listed[listed["alias_group"] == listed["alias_group"].iloc[row]]
    assert cells(page, 1) == list(group["source"])
    assert "look-alike group" in count(page)


def test_every_kind_of_column_sorts(opened, report_data):
    page = opened()
    for column in ("source", "expected_precision", "sign", "q", "rank_other"):
        sorts(page, report_data, column)


def sorts(page, report_data, column):
    heads = page.eval_on_selector_all("#edge-table thead th", "(all) => all.map((h) => h.dataset.column || null)")
    button = f"#edge-table th[data-column={column}] button"
    listed = report_data.candidates.head(5000)
    page.click(button)
    first = cells(page, heads.index(column))
    descending = page.get_attribute(f"#edge-table th[data-column={column}]", "aria-sort") == "descending"
    assert descending == (column == "expected_precision")
    if column == "rank_other":
        assert first == [str(int(v)) for v in listed[column].sort_values().head(25)]
    if column == "sign":
        assert set(first) == {"inhibits"}
    page.click(button)
    assert cells(page, heads.index(column)) != first
    assert page.locator("#edge-table th[aria-sort]").count() == 1


def test_the_surroundings_of_an_edge_are_drawn(opened, report_data):
    page = opened()
    known = report_data.network
    for row in (1, 4):
        best = report_data.candidates.iloc[row - 1]
        ends = {best["source"], best["target"]}
        page.click(f"#edge-table tbody tr:nth-child({row}) button:not(.link)")
        assert page.inner_text("#around-title") == f"{best['source']} → {best['target']}"
        assert page.evaluate("document.activeElement.id") == "around-title"
        names = page.eval_on_selector_all("#around .node title", "(all) => all.map((t) => t.textContent)")
        touching = known[known["source"].isin(ends) | known["target"].isin(ends)]
        near = {*touching["source"], *touching["target"], *ends}
        assert ends <= set(names) <= near
        assert len(names) == len(set(names))
        sign = {1: ".h-proposed.full", 0: ".h-proposed:not(.full)", -1: ".e-proposed.thick"}[int(best["sign"])]
        assert page.locator(f"#around svg.drawing {sign}").count() == 1
        assert page.locator("#around svg.drawing .e-known").count() >= len(names) - 2
    # A node lists the candidates that touch it, with the keyboard too.
    page.focus("#around .node.end")
    page.keyboard.press("Enter")
    assert page.input_value("#edge-search") in {best["source"], best["target"]}
    assert "matching" in count(page)


def test_the_self_check_follows_its_controls(opened):
    page = opened()
    drawn = "document.getElementById('check-plot').data.map((t) => [t.name, t.y])"
    before = dict(page.evaluate(drawn))
    assert set(before) == {"hidden known edges", "guessing", "control: shuffled samples"}
    page.select_option("#check-method", label="second")
    after = dict(page.evaluate(drawn))
    assert after["hidden known edges"] != before["hidden known edges"]


def test_plots_follow_the_scheme(opened):
    page = opened()
    colour = "document.getElementById('loss-plot').layout.font.color"
    light = page.evaluate(colour)
    page.emulate_media(color_scheme="dark")
    until(page, f"{colour} !== '{light}'")


def test_the_commands_can_be_copied(opened, report_data):
    page = opened()
    page.click("button[data-copy=command-text]")
    until(page, "document.getElementById('copy-status').textContent !== ''")
    if page.inner_text("#copy-status").startswith("Selected"):
        assert page.evaluate("getSelection().toString()") == report_data.command


def test_keyboard_reaches_everything_in_order(opened):
    page = opened()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    seen = []
    for _ in range(40):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.id || document.activeElement.textContent.slice(0, 12)"))
    order = ["edge-search", "edge-side", "edge-least", "edge-q", "edge-alias"]
    assert [name for name in seen if name in order] == order
    assert "Rank" in seen


def test_text_stands_out_from_its_ground(opened):
    page = opened()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for selector in (".note", "figcaption", ".cards h3", "caption", "nav a", "dt", ".warning", "#edge-count"):
            ratio = page.evaluate(CONTRAST, selector)
            assert ratio >= 4.5, (scheme, selector, ratio)


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
    page.click("#edge-table tbody tr:nth-child(2) button:not(.link)")
    best = report_data.candidates.iloc[1]
    until(page, f"document.getElementById('network-text').innerText.includes({json.dumps(best['source'])})")
    assert best["target"] in page.inner_text("#network-text")
    page.select_option("#network-node", value="")
    assert page.inner_text("#network-text") == ""


def test_an_edge_outside_the_drawn_network_still_has_surroundings(opened, tmp_path):
    data = make_report(900, n_edges=20000)
    page = opened(url=write_report(data, tmp_path / "large.html").as_uri())
    drawn = set(page.eval_on_selector_all("#network-node option", "(all) => all.map((o) => o.textContent)"))
    outside = data.candidates.head(5000)
    row = outside[~outside["source"].isin(drawn)].iloc[0]
    page.fill("#edge-search", f"{row['source']} {row['target']}")
    page.click("#edge-table tbody tr:first-child button:not(.link)")
    until(page, "document.getElementById('network-text').innerText.includes('outside')")
    assert page.locator("#around .node.end").count() == 2


def test_without_candidates_the_rest_is_there(opened, tmp_path):
    data = replace(make_report(30), edges=make_report(30).edges.head(0), check=None)
    page = opened(url=write_report(data, tmp_path / "bare.html").as_uri())
    assert page.locator("#edge-table").count() == 0
    assert page.locator("#loss-plot .main-svg").count() >= 1
    assert "No candidate edges" in page.inner_text("#edges")


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
    assert count(page) == "Rows 1 to 25 of 5,000"
    took = page.evaluate(BUSY)
    # Around 10 ms each on an idle machine; the median holds on a busy one too.
    assert sorted(took.values())[len(took) // 2] < 100, took
    assert max(took.values()) < 500, took


@pytest.mark.parametrize("width", [390, 800, 1400])
def test_every_column_of_every_table_can_be_reached(opened, width):
    page = opened(width)
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    if width == 390:
        page.get_by_label("all columns").check()
    unreached = page.evaluate(
        """() => [...document.querySelectorAll('table thead tr:last-child th')].filter((head) => {
          head.scrollIntoView({inline: 'nearest', block: 'center', behavior: 'instant'});
          const box = head.getBoundingClientRect();
          return box.width === 0 || box.left < -1 || box.right > innerWidth + 1;
        }).map((head) => head.textContent.trim())"""
    )
    assert unreached == []
    assert page.locator("table thead th").count() > 20
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", [390, 700, 900, 1400])
def test_the_cards_at_a_glance_fill_their_row(opened, width):
    page = opened(width)
    row, *cards = page.evaluate(
        """() => [document.querySelector('.cards'), ...document.querySelectorAll('.cards li')].map((node) => {
          const {left, right, top} = node.getBoundingClientRect();
          return [left, right, top];
        })"""
    )
    assert len(cards) >= 3
    for top in {card[2] for card in cards}:
        line = [card for card in cards if card[2] == top]
        assert min(card[0] for card in line) == pytest.approx(row[0], abs=1)
        assert max(card[1] for card in line) == pytest.approx(row[1], abs=1)


@pytest.mark.parametrize("width", [390, 1400])
def test_the_toolbar_of_the_heatmap_covers_no_cell(opened, width):
    page = opened(width)
    plot = page.locator("#agreement-plot-0")
    plot.scroll_into_view_if_needed()
    plot.hover()
    cell, *bars = page.evaluate(
        """() => ['.heatmaplayer image', '.modebar']
          .flatMap((name) => [...document.querySelectorAll(`#agreement-plot-0 :is(${name})`)])
          .map((node) => { const b = node.getBoundingClientRect(); return [b.left, b.right, b.top, b.bottom]; })"""
    )
    assert cell[1] > cell[0]
    assert len(bars) == (width > 640)  # a phone has none
    for left, right, top, bottom in bars:
        assert right > left
        assert left >= cell[1] or right <= cell[0] or bottom <= cell[2] or top >= cell[3]
