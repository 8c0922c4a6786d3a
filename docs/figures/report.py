"""Photograph the report of a demo for the first page: its head, and the network with the best candidates.

    python docs/figures/report.py            # runs gsnn demo and a self-check first, about five minutes
    python docs/figures/report.py runs/demo  # of a run that is there

Writes report.png and report-network.png into docs/_static. Needs playwright, and a chromium (`GSNN_CHROMIUM`, or on the
path), as the browser tests do.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from gsnn.report.html import report_run
from gsnn.runs import Run

STATIC = Path(__file__).resolve().parents[1] / "_static"
WIDTH, HEIGHT = 1180, 900
COLOURS = 96  # of the palette of a PNG, which needs no more for text and lines


def demo() -> Path:
    """Make a run on bundled data, with a self-check, in a folder that is called as in the documentation."""
    os.chdir(tempfile.mkdtemp())
    for command in ("demo", "selfcheck runs/demo --repeats 2 --no-controls"):
        subprocess.run([sys.executable, "-m", "gsnn", *command.split()], check=True)
    return Path("runs/demo")


def save(shot: bytes, name: str) -> None:
    """Write a picture with few colours."""
    Image.open(BytesIO(shot)).convert("RGB").quantize(COLOURS).save(STATIC / name, optimize=True)


def main() -> None:
    """Write the report, open it, take the two pictures."""
    page_file = report_run(Run.open(sys.argv[1] if len(sys.argv) > 1 else demo()))
    chromium = os.environ.get("GSNN_CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--headless", "--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light", offline=True)
        page.goto(page_file.resolve().as_uri())
        page.wait_for_selector("#network-plot .textpoint text", state="attached")
        box = page.locator("#glance").bounding_box() or {"y": 0, "height": HEIGHT}
        clip = {"x": 0, "y": 0, "width": WIDTH, "height": box["y"] + box["height"] + 20}
        save(page.screenshot(clip=clip, full_page=True), "report.png")
        save(page.locator("#network figure").first.screenshot(), "report-network.png")
        browser.close()


if __name__ == "__main__":
    main()
