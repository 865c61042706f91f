"""Take the picture of the annotation page that docs/annotation.md shows, in a headless Chromium.

python scripts/annotation_picture.py docs/annotate.png
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import threading
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from strop.judging.pairs import read_pairs
from strop.judging.rubric import load_rubric
from strop.web.annotations import annotations_for
from strop.web.serving import bind

QUESTION = "Which reply would you rather see a counsellor give?"
PROMPT = (
    "Since my father died in spring I keep cancelling on people. I tell them I am busy, but really I just sit in the "
    "kitchen. My wife says I should be over it by now. Maybe she is right?"
)
BETTER = (
    "It sounds as if the kitchen is the one place where you do not have to pretend. Half a year is not long to miss a "
    "father, and grief keeps no timetable that you could fall behind on.\n\nWhen your wife says that you should be "
    "over it, what happens in you? And I wonder what you would want her to know about those hours at the table."
)
WORSE = (
    "I am sorry for your loss. Grief has five stages: denial, anger, bargaining, depression and acceptance. Here are "
    "some tips:\n\n1. Exercise regularly.\n2. Accept invitations.\n3. Keep a gratitude journal.\n4. Talk to a "
    "professional.\n\nWith time you will feel better."
)


def _pairs(folder: Path) -> Path:
    rows = [{"id": 0, "prompt": PROMPT, "better": BETTER, "worse": WORSE}]
    rows += [{"id": number, "prompt": f"{number}", "better": "a", "worse": "b"} for number in range(1, 40)]
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _show_the_pair(page: Page) -> None:
    page.locator("#panel-buttons .primary").click()
    while page.locator("#prompt").text_content() != PROMPT:
        page.wait_for_timeout(300)
        page.keyboard.press("0")
        page.keyboard.press("Enter")
        page.wait_for_timeout(300)
    better, other = ("left", "right") if page.locator("#left-text").text_content() == BETTER else ("right", "left")
    for principle, choice in (("empathy", better), ("relevance", better), ("clarity", other), ("safety", "tie")):
        page.locator(f'.segments [data-key="{principle}"][data-choice="{choice}"]').click()
        page.wait_for_timeout(200)
    page.keyboard.press("1" if better == "left" else "2")
    page.mouse.move(0, 0)
    page.wait_for_timeout(500)


def main(out: Path) -> None:
    """Serve one pair among forty, mark it, and take the picture."""
    with tempfile.TemporaryDirectory() as folder:
        source = _pairs(Path(folder))
        pairs, rubric = read_pairs(source), load_rubric("principles-v1")
        marks = Path(folder) / "marks.sqlite"
        with annotations_for(pairs, source, marks, question=QUESTION, ties=True, rubric=rubric) as file:
            file.add_annotators(["anna"])
            bound = bind(pairs, file, port=0)
            thread = threading.Thread(target=bound.run)
            thread.start()
            try:
                with sync_playwright() as playwright:
                    browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
                    page = browser.new_page(viewport={"width": 1280, "height": 900})
                    page.goto(f"{bound.base}#{file.tokens()['anna']}")
                    _show_the_pair(page)
                    page.screenshot(path=out)
                    browser.close()
            finally:
                bound.server.should_exit = True
                thread.join()
    # Sixty-four colours are enough for a page of two, and half the bytes.
    Image.open(out).convert("RGB").quantize(64).save(out, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
