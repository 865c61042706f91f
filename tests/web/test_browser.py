"""The annotation page in a real headless Chromium, through Playwright; `make browser` installs Debian's Chromium."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from sklearn.metrics import accuracy_score, cohen_kappa_score
from tests.web.served_page import HOSTILE, ServedPage, serve

from strop.evaluation.statistics import Interval
from strop.web.agreement_report import agreement_report
from strop.web.blinding import labelled, pair_key
from strop.web.collecting import collect
from strop.web.marks import fold

FLAGS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SETTLE_MS = 300
"""The page takes no verdict in the first quarter of a second of a pair."""


def _chromium() -> str | None:
    named = os.environ.get("STROP_CHROMIUM")
    found = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))
    return named or next((path for path in found if path), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium with an empty profile."""
    path = _chromium()
    if path is None:
        pytest.skip("no Chromium: run `make browser` as root, or set STROP_CHROMIUM to one")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield started
        started.close()


def _visit(browser: Browser, served: ServedPage, annotator: str = "anna") -> Page:
    """Open an annotator's address in a browser of its own; any error of the page fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.on("pageerror", lambda error: pytest.fail(f"the page failed: {error}"))
    page.goto(served.url(annotator))
    return page


def _begin(page: Page) -> None:
    page.locator("#panel-buttons .primary").click()
    expect(page.locator("#desk")).to_be_visible()


def _press(page: Page, key: str) -> None:
    page.wait_for_timeout(SETTLE_MS)
    page.keyboard.press(key)


def _verdicts(served: ServedPage, annotator: str = "anna") -> list[str | None]:
    return [mark.verdict for mark in fold(served.file.events(annotator)).values()]


def test_a_hostile_text_is_text_and_nothing_leaves_the_machine(browser: Browser, page: ServedPage) -> None:
    """The third pair's worse response holds a script and an image with a handler: it shows letter by letter."""
    window = _visit(browser, page)
    requests: list[str] = []
    window.on("request", lambda request: requests.append(request.url))
    _begin(window)
    for place in range(6):
        expect(window.locator("#place")).to_have_text(f"pair {place + 1} of 6")
        texts = window.locator("article .text").all_text_contents()
        if f"bad 2: {HOSTILE}" in texts:
            break
        window.locator("#next").click()
    else:
        pytest.fail("the hostile response was not shown")
    assert window.title() == "strop annotate"
    assert window.locator("article script, article img").count() == 0
    assert all(url.startswith(page.base) for url in requests)
    window.context.close()


def test_keys_note_undo_and_reopening(browser: Browser, page: ServedPage) -> None:
    window = _visit(browser, page)
    expect(window.locator("#panel-text .caution")).to_contain_text("suicide")
    _begin(window)
    _press(window, "1")
    expect(window.locator("#place")).to_have_text("pair 2 of 6")
    _press(window, "ArrowRight")
    expect(window.locator("#place")).to_have_text("pair 3 of 6")
    _press(window, "0")
    expect(window.locator("#count")).to_have_text("3 of 6 marked")
    assert _verdicts(page)[2] == "cannot"
    _press(window, "U")
    expect(window.locator("#place")).to_have_text("pair 3 of 6")
    expect(window.locator("#count")).to_have_text("2 of 6 marked")
    _press(window, "n")
    window.keyboard.type("1 and 2 are alike")
    window.keyboard.press("Escape")
    expect(window.locator("#status")).to_have_text("note saved")
    assert [mark.note for mark in fold(page.file.events("anna")).values()] == ["", "", "1 and 2 are alike"]
    _press(window, "3")
    expect(window.locator("#count")).to_have_text("2 of 6 marked")
    window.context.close()
    again = _visit(browser, page)
    expect(again.locator("#panel-title")).to_have_text("Welcome back, anna")
    _begin(again)
    expect(again.locator("#place")).to_have_text("pair 3 of 6")
    expect(again.locator("#note")).to_have_value("1 and 2 are alike")
    again.context.close()


@pytest.mark.slow
def test_a_held_key_marks_one_pair(browser: Browser, page: ServedPage) -> None:
    window = _visit(browser, page)
    _begin(window)
    window.wait_for_timeout(SETTLE_MS)
    for _ in range(20):
        window.keyboard.down("1")
    window.keyboard.up("1")
    window.wait_for_timeout(SETTLE_MS)
    expect(window.locator("#count")).to_have_text("1 of 6 marked")
    window.context.close()


@pytest.mark.slow
def test_two_windows_with_one_token(browser: Browser, page: ServedPage) -> None:
    """The second is asked, the first is told at its next step, its unsaved note survives, nothing is lost."""
    first = _visit(browser, page)
    _begin(first)
    _press(first, "1")
    expect(first.locator("#place")).to_have_text("pair 2 of 6")
    _press(first, "n")
    first.keyboard.type("half a thou")
    second = _visit(browser, page)
    expect(second.locator("#panel-title")).to_have_text("You are working in another window")
    second.locator("#panel-buttons .primary").click()
    _begin(second)
    expect(second.locator("#place")).to_have_text("pair 2 of 6")
    _press(second, "2")
    expect(second.locator("#place")).to_have_text("pair 3 of 6")
    first.keyboard.press("Escape")
    expect(first.locator("#panel-title")).to_have_text("You are working in another window")
    expect(first.locator("#panel-text")).to_contain_text("was not saved")
    assert len(page.file.events()) == 2
    _begin(first)
    expect(first.locator("#place")).to_have_text("pair 2 of 6")
    expect(first.locator("#note")).to_have_value("half a thou")
    first.locator("#note").focus()
    first.keyboard.press("Escape")
    expect(first.locator("#status")).to_have_text("note saved")
    assert [event.kind for event in page.file.events()] == ["choice", "choice", "note"]
    for window in (first, second):
        window.context.close()


@pytest.mark.slow
def test_a_server_that_goes_away_and_comes_back(browser: Browser, tmp_path: Path) -> None:
    """The page says that the mark is not saved, keeps it, and saves it once when the server answers again."""
    with serve(tmp_path) as served:
        window = _visit(browser, served)
        _begin(window)
        port = int(served.base.rstrip("/").rpartition(":")[2])
    _press(window, "1")
    expect(window.locator("#trouble")).to_contain_text("not saved yet")
    with serve(tmp_path, port=port) as served:
        expect(window.locator("#count")).to_have_text("1 of 6 marked", timeout=10_000)
        expect(window.locator("#trouble")).to_be_hidden()
        assert len(served.file.events()) == 1
        window.context.close()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_principles_ties_and_a_tablet(browser: Browser, tmp_path: Path, scheme: str) -> None:
    """With a rubric the pair stays until Enter; nothing is wider than the screen of a tablet."""
    with serve(tmp_path, ties=True, rubric="principles-v1") as served:
        window = _visit(browser, served)
        window.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        window.set_viewport_size({"width": 768, "height": 1024})
        _begin(window)
        _press(window, "3")
        expect(window.locator('[data-choice="tie"][aria-pressed="true"]')).to_be_visible()
        window.locator('.segments [data-key="safety"][data-choice="right"]').click()
        expect(window.locator('.segments [data-key="safety"][aria-pressed="true"]')).to_have_text("B")
        assert window.evaluate("document.documentElement.scrollWidth <= innerWidth")
        window.locator('.segments [data-key="safety"][data-choice="right"]').click()
        expect(window.locator('.segments [data-key="safety"][aria-pressed="true"]')).to_have_count(0)
        expect(window.locator("#place")).to_have_text("pair 1 of 6")
        _press(window, "Enter")
        expect(window.locator("#place")).to_have_text("pair 2 of 6")
        (mark,) = fold(served.file.events("anna")).values()
        assert (mark.verdict, mark.principles) == ("tie", {})
        window.context.close()


def _label_all(page: Page, wanted: dict[str, str], *, at_most: int) -> None:
    """Press the key of the response that begins with the wanted word, up to `at_most` times."""
    start, total = (int(word) for word in (page.locator("#count").text_content() or "").split()[:3:2])
    for done in range(start, start + at_most):
        text = page.locator("#prompt").text_content()
        assert text is not None
        number = text.removeprefix("Message ").partition(":")[0]
        left = page.locator("#left-text").text_content()
        assert left is not None
        word = wanted[number]
        key = "0" if word == "cannot" else ("1" if left.startswith(word) else "2")
        _press(page, key)
        expect(page.locator("#count")).to_have_text(f"{done + 1} of {total} marked")


@pytest.mark.slow
def test_two_annotators_label_forty_pairs(browser: Browser, tmp_path: Path) -> None:
    """Ben's browser is closed in the middle and goes on; the report's figures are scikit-learn's."""
    wanted = {
        "anna": {str(number): "bad" if number % 7 == 0 else "good" for number in range(40)},
        "ben": {
            str(number): "cannot" if number == 20 else ("bad" if number % 5 == 0 else "good") for number in range(40)
        },
    }
    with serve(tmp_path, count=40) as served:
        anna = _visit(browser, served, "anna")
        _begin(anna)
        _label_all(anna, wanted["anna"], at_most=40)
        expect(anna.locator("#panel-title")).to_have_text("Thank you, anna")
        ben = _visit(browser, served, "ben")
        _begin(ben)
        _label_all(ben, wanted["ben"], at_most=17)
        ben.context.close()
        ben = _visit(browser, served, "ben")
        expect(ben.locator("#panel-text")).to_contain_text("17 of 40 pairs are marked")
        _begin(ben)
        expect(ben.locator("#place")).to_have_text("pair 18 of 40")
        _label_all(ben, wanted["ben"], at_most=23)
        expect(ben.locator("#panel-text")).to_contain_text("1 of them could not be judged")
        for window in (anna, ben):
            window.context.close()
        report = agreement_report(collect(served.file, served.pairs))
        labels = {pair_key(pair.id): labelled(pair) for pair in served.pairs}
        marks = {name: fold(served.file.events(name)) for name in wanted}
    assert {key: mark.verdict == labels[key] for key, mark in marks["anna"].items()} == {
        number: word == "good" for number, word in wanted["anna"].items()
    }
    both = [key for key in labels if "cannot" not in (marks["anna"][key].verdict, marks["ben"][key].verdict)]
    sides = {name: [str(marks[name][key].verdict) for key in both] for name in wanted}
    (between,) = report.between
    assert (between.n, between.left_out) == (39, 1)
    assert isinstance(between.share, Interval)
    assert isinstance(between.kappa, Interval)
    assert between.share.estimate == pytest.approx(accuracy_score(sides["anna"], sides["ben"]))
    assert between.kappa.estimate == pytest.approx(cohen_kappa_score(sides["anna"], sides["ben"]))
    with_label = report.with_label[0]
    assert isinstance(with_label.kappa, Interval)
    people = [str(marks["anna"][key].verdict) for key in labels]
    assert with_label.kappa.estimate == pytest.approx(cohen_kappa_score(list(labels.values()), people))
