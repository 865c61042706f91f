"""The page: complete, escaped, self-contained, the same every time."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from strop.records.document import Answer
from strop.report import Document, Product, Sample, SampleGroup, Verdict, read_report, rebuild_html, write_report
from strop.report.html import render

VOID = {"meta", "br", "hr", "img", "link", "input", "wbr", "area", "base", "col", "embed", "source", "track"}


class _Page(HTMLParser):
    """Collects elements and checks that they nest."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: Counter[str] = Counter()
        self.attributes: list[tuple[str, str | None]] = []
        self.text: list[str] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        self.attributes += attrs
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def close(self) -> None:
        super().close()
        assert self._open == []


def _parse(html: str) -> _Page:
    page = _Page()
    page.feed(html)
    page.close()
    return page


@pytest.fixture(scope="session")
def html(document: Document) -> str:
    return render(document)


def test_elements_nest_and_ids_are_unique(html: str) -> None:
    page = _parse(html)
    repeated = [
        name for name, count in Counter(value for key, value in page.attributes if key == "id").items() if count > 1
    ]
    assert repeated == []


def test_model_text_is_escaped(html: str) -> None:
    """The hostile sample holds a script element; it is shown, and no script element exists."""
    page = _parse(html)
    assert page.elements["script"] == 0
    assert "<script>alert(1)</script>" in "".join(page.text)
    assert not any(key.startswith("on") for key, _ in page.attributes)


def test_what_was_made_is_shown(document: Document, html: str) -> None:
    assert "What was made" not in html
    made = Product("dpo", "reward_model", "seed1-dpo", "model", "hf:org/base", final=True, note="<b>the last</b>")
    page = _parse(render(replace(document, products=(made,))))
    text = " ".join("".join(page.text).split())
    for part in ("What was made", "reward model", "seed1-dpo/model", "hf:org/base", "<b>the last</b>", "strop export"):
        assert part in text


@pytest.mark.parametrize(
    "hostile", ["</pre></article><script>x()</script>", "{{ 7 * 7 }}", '" onload="x()', "</style><b>"]
)
def test_no_text_leaves_its_place(hostile: str, document: Document) -> None:
    group = SampleGroup(hostile, hostile, (Sample(hostile, (Answer(hostile, hostile),), "kept", hostile, hostile),))
    changed = replace(
        document, title=hostile, command=hostile, verdicts=(Verdict(hostile),), samples=(group,), warnings=(hostile,)
    )
    before, after = _parse(render(replace(document, samples=(replace(group, title="t"),)))), _parse(render(changed))
    assert after.elements["script"] == 0
    assert after.elements["b"] == before.elements["b"]
    assert not any(key == "onload" for key, _ in after.attributes)
    assert hostile in "".join(after.text)


def test_nothing_is_fetched(html: str) -> None:
    """Neither an attribute nor the style holds the address of another file or host."""
    fetching = [
        value for key, value in _parse(html).attributes if key in {"src", "href", "xlink:href", "srcset", "data"}
    ]
    assert [value for value in fetching if value and not value.startswith("#")] == []
    assert re.findall(r"url\((?!#)|@import|https?://", html) == []


def test_same_document_gives_same_bytes(document: Document, html: str) -> None:
    assert render(document) == html


def test_figures_are_well_formed_and_named(html: str) -> None:
    drawings = re.findall(r"<svg viewBox[^>]*role=\"img\".*?</svg>", html, flags=re.DOTALL)
    assert len(drawings) == 3
    for drawing in drawings:
        root = ElementTree.fromstring(drawing.replace("<svg ", '<svg xmlns:xlink="urn:x" ', 1))
        assert [child.tag for child in root][:2] == ["title", "desc"]
        assert root[1].text


def test_figures_follow_the_theme(html: str) -> None:
    """No colour is written into a drawing: each is a variable of the page."""
    for drawing in re.findall(r"<svg viewBox[^>]*role=\"img\".*?</svg>", html, flags=re.DOTALL):
        assert re.findall(r"#[0-9a-fA-F]{6}\b", drawing) == []


def test_missing_is_a_dash(html: str) -> None:
    assert "\N{EN DASH}" in html
    assert "not measured" in html
    assert not re.search(r"\b(nan|None|inf)\b", "".join(_parse(html).text))


def test_rebuilt_from_json(document: Document, tmp_path: Path) -> None:
    path = write_report(document, tmp_path)
    first = path.read_bytes()
    path.unlink()
    assert rebuild_html(tmp_path).read_bytes() == first
    assert read_report(tmp_path).title == document.title


def test_an_empty_report_is_a_page(document: Document) -> None:
    bare = Document(title="t", method="m", command="c", verdicts=(), numbers=())
    assert _parse(render(bare)).elements["h1"] == 1
