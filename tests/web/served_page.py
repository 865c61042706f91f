"""Pairs made for tests, and the annotation page behind a real server in a thread of this process."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from strop.judging.pairs import HumanPair, read_pairs
from strop.judging.rubric import load_rubric
from strop.web.annotations import AnnotationFile, annotations_for
from strop.web.serving import bind

WINDOW, OTHER_WINDOW = "window-one", "window-two"
HOSTILE = "<script>document.title = 'owned'</script><img src=x onerror=\"document.title='owned'\"> & so on"


def write_pairs(folder: Path, count: int = 6, *, name: str = "pairs.jsonl") -> Path:
    """Write pairs whose better response says "good", three to a group; the third one's worse response is hostile."""
    rows = [
        {
            "id": number,
            "group": f"client {number // 3}",
            "prompt": f"Message {number}: I want to die." if number == 1 else f"Message {number}: I feel low.",
            "better": f"good {number}: that sounds hard.",
            "worse": f"bad {number}: {HOSTILE if number == 2 else 'cheer up.'}",
            "better_origin": "human: a counsellor",
            "worse_origin": "some model",
        }
        for number in range(count)
    ]
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@dataclass
class ServedPage:
    """A page that is being served."""

    base: str
    file: AnnotationFile
    pairs: list[HumanPair]
    source: Path

    def url(self, annotator: str) -> str:
        """Return the address that is meant for an annotator."""
        return f"{self.base}#{self.file.tokens()[annotator]}"

    def post(
        self, path: str, annotator: str = "anna", *, session: str = WINDOW, token: str | None = None, **payload: Any
    ) -> httpx2.Response:
        """Ask as the page does."""
        token = self.file.tokens()[annotator] if token is None else token
        headers = {"authorization": f"Bearer {token}"}
        return httpx2.post(f"{self.base}api/{path}", json={"session": session, **payload}, headers=headers)


@contextmanager
def serve(
    folder: Path,
    *,
    count: int = 6,
    annotators: Sequence[str] = ("anna", "ben"),
    ties: bool = False,
    rubric: str | None = None,
    port: int = 0,
) -> Iterator[ServedPage]:
    """Serve pairs of `folder` until the block ends; a second time, go on with the same marks."""
    source = folder / "pairs.jsonl"
    if not source.exists():
        write_pairs(folder, count)
    pairs = read_pairs(source)
    loaded = None if rubric is None else load_rubric(rubric)
    with annotations_for(pairs, source, folder / "marks.sqlite", ties=ties, rubric=loaded) as file:
        file.add_annotators(annotators)
        bound = bind(pairs, file, port=port)
        thread = threading.Thread(target=bound.run, daemon=True)
        thread.start()
        while not bound.server.started:
            time.sleep(0.005)
        try:
            yield ServedPage(bound.base, file, pairs, source)
        finally:
            bound.server.should_exit = True
            thread.join()
