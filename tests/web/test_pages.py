"""The page's answers over HTTP, from a real server: what is on the wire, who may ask, what a conflict leaves behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.web.served_page import OTHER_WINDOW, WINDOW, ServedPage, serve

from strop.web.marks import fold


def _mark(page: ServedPage, state: dict[str, Any], choice: str | None = "left", **more: Any) -> httpx2.Response:
    payload = {"version": state["version"], "position": state["position"], "kind": "choice", "choice": choice}
    return page.post("save", **{**payload, "seconds": 2.5, "advance": True, **more})


def test_files_carry_the_policy_and_load_nothing_from_elsewhere(page: ServedPage) -> None:
    for name in ("", "annotate.css", "annotate.js", "icon.svg"):
        answer = httpx2.get(page.base + name)
        assert answer.status_code == 200
        assert answer.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "server" not in answer.headers
        assert "http" not in answer.text.replace("http://www.w3.org/2000/svg", "")
    assert httpx2.get(page.base + "../pages.py").status_code == 404


def test_the_script_never_writes_html() -> None:
    """Texts of pairs reach the page through textContent alone."""
    script = (Path(__file__).parents[2] / "src/strop/web/annotate.js").read_text(encoding="utf-8")
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "srcdoc"):
        assert way not in script


def test_no_label_is_on_the_wire(page: ServedPage) -> None:
    """Neither better nor worse, nor who wrote what, nor ids, groups or sources."""
    state = page.post("open").json()
    seen = [json.dumps(page.post("show", position=position).json()) for position in range(state["total"])]
    for word in (
        "better_",
        "worse",
        "chosen",
        "rejected",
        "counsellor",
        "some model",
        "client",
        "pairs.jsonl",
        "first",
    ):
        assert not any(word in text for text in seen), word
    assert set(state["item"]) == {"prompt", "left", "right", "risk", "mark"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 403),
        ({"host": "127.0.0.1:1"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"authorization": "Bearer guess"}, 401),
        ({"authorization": "Basic guess"}, 401),
        ({"authorization": ""}, 401),
        ({"authorization": b"Bearer \xff"}, 401),
    ],
)
def test_strangers_are_turned_away(page: ServedPage, headers: dict[str, Any], status: int) -> None:
    known = {"authorization": f"Bearer {page.file.tokens()['anna']}"}
    answer = httpx2.post(f"{page.base}api/open", json={"session": WINDOW}, headers={**known, **headers})
    assert answer.status_code == status
    assert "Message" not in answer.text
    assert answer.headers["cache-control"] == "no-store"


def test_a_mark_is_saved_and_the_next_pair_follows(page: ServedPage) -> None:
    state = page.post("open").json()
    assert (state["position"], state["done"], state["total"], state["risk"]) == (0, 0, 6, True)
    after = _mark(page, state, "right").json()
    assert (after["position"], after["done"]) == (1, 1)
    (event,) = page.file.events()
    assert (event.annotator, event.kind, event.body) == ("anna", "choice", {"choice": "right", "seconds": 2.5})
    undone = page.post("undo", version=after["version"]).json()
    assert (undone["position"], undone["done"], undone["undone"]) == (0, 0, "choice")
    nothing = page.post("undo", version=undone["version"]).json()
    assert (nothing["undone"], nothing["version"]) == (None, undone["version"])


def test_all_done_and_again_after_undo(page: ServedPage) -> None:
    state = page.post("open").json()
    for _ in range(6):
        state = _mark(page, state, "cannot").json()
    assert (state["position"], state["item"], state["done"], state["cannot"]) == (None, None, 6, 6)
    assert page.post("undo", version=state["version"]).json()["position"] == 5
    assert page.post("next", after=0).json()["position"] == 5


def test_skipped_pairs_come_back(page: ServedPage) -> None:
    state = page.post("show", position=3).json()
    state = _mark(page, state).json()
    assert state["position"] == 4
    state = page.post("show", position=5).json()
    assert _mark(page, state).json()["position"] == 0


def test_an_old_version_is_a_conflict_and_changes_nothing(page: ServedPage) -> None:
    state = page.post("open").json()
    _mark(page, state, "left")
    answer = _mark(page, state, "right")
    assert (answer.status_code, answer.json()["error"]) == (409, "outdated")
    assert len(page.file.events()) == 1


def test_two_windows_with_one_token(page: ServedPage) -> None:
    """The second window is told, takes over when it says so, and then the first is told; nothing is lost."""
    state = page.post("open").json()
    state = _mark(page, state).json()
    answer = page.post("open", session=OTHER_WINDOW)
    assert (answer.status_code, answer.json()["error"]) == (409, "elsewhere")
    assert "saved" in answer.json()["message"]
    taken = page.post("open", session=OTHER_WINDOW, take=True).json()
    assert (taken["position"], taken["done"]) == (1, 1)
    refused = _mark(page, state, "right")
    assert (refused.status_code, refused.json()["error"]) == (409, "elsewhere")
    assert page.post("beat").status_code == 409
    assert page.post("leave", session=OTHER_WINDOW).status_code == 200
    assert page.post("beat").status_code == 200
    assert len(page.file.events()) == 1


def test_annotators_do_not_see_each_other(page: ServedPage) -> None:
    _mark(page, page.post("open").json())
    state = page.post("open", "ben", session=OTHER_WINDOW).json()
    assert (state["annotator"], state["done"], state["version"]) == ("ben", 0, 0)


@pytest.mark.parametrize(
    "change",
    [
        {"choice": "tie"},
        {"choice": "both"},
        {"choice": None},
        {"position": 6},
        {"position": -1},
        {"position": "0"},
        {"version": None},
        {"kind": "undo"},
        {"kind": "principle", "principle": "safety"},
        {"kind": "note"},
        {"kind": "note", "text": "x" * 10_001},
        {"seconds": -1},
        {"who": "ben"},
        {"session": "x"},
    ],
)
def test_what_is_not_offered_is_refused(page: ServedPage, change: dict[str, Any]) -> None:
    state = page.post("open").json()
    answer = _mark(page, state, **change)
    assert answer.status_code == 400
    assert answer.json()["message"]
    assert page.file.events() == []


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff\xfe", b'{"session": "' + b"x" * 200_000])
def test_hostile_bodies(page: ServedPage, body: bytes) -> None:
    headers = {"authorization": f"Bearer {page.file.tokens()['anna']}"}
    answer = httpx2.post(f"{page.base}api/save", content=body, headers=headers)
    assert answer.status_code in (400, 413)
    assert answer.json()["error"] == "request"


def test_principles_and_ties_where_they_are_offered(tmp_path: Path) -> None:
    with serve(tmp_path, ties=True, rubric="principles-v1") as page:
        state = page.post("open").json()
        assert [each["key"] for each in state["criteria"]][:2] == ["empathy", "relevance"]
        for principle, choice in (("safety", "right"), ("empathy", "tie"), ("safety", None)):
            state = _mark(page, state, choice, kind="principle", principle=principle, advance=False).json()
        state = _mark(page, state, "tie", advance=False).json()
        assert state["item"]["mark"] == {"choice": "tie", "principles": {"empathy": "tie"}, "note": ""}
        (mark,) = fold(page.file.events("anna")).values()
        assert mark.verdict == "tie"


def test_a_restarted_server_goes_on(tmp_path: Path) -> None:
    with serve(tmp_path) as page:
        token = page.file.tokens()["anna"]
        state = _mark(page, page.post("open").json()).json()
    with serve(tmp_path) as page:
        assert page.file.tokens()["anna"] == token
        after = _mark(page, state).json()
        assert after["done"] == 2


def test_a_file_that_cannot_be_written_is_said_and_not_lost(page: ServedPage) -> None:
    """Status 500 makes the page keep the mark and try again."""
    state = page.post("open").json()
    with page.file._writing() as connection:
        connection.execute("CREATE TRIGGER full BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'disk is full'); END")
    answer = _mark(page, state)
    assert answer.status_code == 500
    assert "disk is full" in answer.json()["message"]
    with page.file._writing() as connection:
        connection.execute("DROP TRIGGER full")
    assert _mark(page, state).json()["done"] == 1
