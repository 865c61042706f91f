"""What the page asks for, without the web: which pair an annotator sees, what they mark, what they take back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, assert_never

from pydantic import BaseModel, ConfigDict, Field

from strop.errors import UserError
from strop.judging.pairs import HumanPair
from strop.web.annotations import AnnotationFile
from strop.web.blinding import Item, blinded_items
from strop.web.marks import Choice, Kind, Mark, choice_of, fold
from strop.web.sittings import Sittings

LONGEST_NOTE = 10_000
Session = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{8,64}$")]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    session: Session


class Open(_Request):
    """A window wants to begin or to go on."""

    take: bool = False


class Show(_Request):
    """A window wants to see the pair at a position, counted from 0 in the annotator's order."""

    position: int = Field(ge=0)


class Next(_Request):
    """A window wants the next pair without a verdict."""

    after: int = Field(ge=0)


class _Write(_Request):
    version: int = Field(ge=0)


class Save(_Write):
    """A window keeps one mark on the pair at a position."""

    position: int = Field(ge=0)
    kind: Literal["choice", "principle", "note"]
    choice: Choice | None = None
    principle: str | None = None
    text: str | None = Field(default=None, max_length=LONGEST_NOTE)
    seconds: float | None = Field(default=None, ge=0, le=86_400)
    advance: bool = False


class Undo(_Write):
    """A window takes back the annotator's last mark."""


class Desk:
    """The pairs and the annotations behind one page.

    Every answer is the whole state of one window: it shows what is on the disk and nothing else.
    """

    def __init__(self, pairs: Sequence[HumanPair], file: AnnotationFile) -> None:
        self._pairs = pairs
        self._file = file
        self._settings = file.settings
        self._items: dict[str, list[Item]] = {}
        self.sittings = Sittings()

    def annotator_of(self, token: str) -> str | None:
        """Return whose token it is; None for an unknown one."""
        return self._file.annotator_of(token)

    def open(self, annotator: str, request: Open) -> dict[str, Any]:
        """Begin, or go on at the first pair without a mark.

        Raises:
            Elsewhere: The annotator works in another window.
        """
        self.sittings.claim(annotator, request.session, take=request.take)
        return self.state(annotator, self._unmarked(annotator, after=-1))

    def show(self, annotator: str, request: Show) -> dict[str, Any]:
        """Return the state at a position."""
        self.sittings.claim(annotator, request.session)
        self._item(annotator, request.position)
        return self.state(annotator, request.position)

    def next(self, annotator: str, request: Next) -> dict[str, Any]:
        """Return the state at the next pair without a verdict."""
        self.sittings.claim(annotator, request.session)
        self._item(annotator, request.after)
        return self.state(annotator, self._unmarked(annotator, after=request.after))

    def save(self, annotator: str, request: Save) -> dict[str, Any]:
        """Keep a mark and return the state after it.

        Raises:
            Elsewhere: The annotator works in another window.
            Outdated: The annotator has written since; nothing was kept.
            UserError: The mark is none that is offered.
        """
        self.sittings.claim(annotator, request.session)
        item = self._item(annotator, request.position)
        self._file.add(
            annotator,
            version=request.version,
            key=item.key,
            kind=request.kind,
            body=self._body(request),
            shown_left=item.shown_left,
        )
        position = self._unmarked(annotator, after=request.position) if request.advance else request.position
        return self.state(annotator, position)

    def undo(self, annotator: str, request: Undo) -> dict[str, Any]:
        """Take back the last mark and return the state at its pair; `undone` names what was taken back.

        Raises:
            Elsewhere: The annotator works in another window.
            Outdated: The annotator has written since; nothing was changed.
        """
        self.sittings.claim(annotator, request.session)
        event = self._file.undo(annotator, version=request.version)
        if event is None:
            return {**self.state(annotator, self._unmarked(annotator, after=-1)), "undone": None}
        positions = [position for position, item in enumerate(self._blinded(annotator)) if item.key == event.key]
        return {**self.state(annotator, positions[0]), "undone": event.kind}

    def state(self, annotator: str, position: int | None) -> dict[str, Any]:
        """Return what a window shows at a position; None for the page that says that all is done."""
        # The version comes first: a mark that another window makes in between shows as an outdated write, never less.
        version = self._file.version(annotator)
        marks = fold(self._file.events(annotator))
        items = self._blinded(annotator)
        verdicts = [mark.verdict for mark in marks.values() if mark.verdict is not None]
        shown = None if position is None else items[position]
        return {
            "annotator": annotator,
            "version": version,
            "total": len(items),
            "done": len(verdicts),
            "cannot": verdicts.count("cannot"),
            "question": self._settings.question,
            "ties": self._settings.ties,
            "criteria": [
                {"key": key, "name": name, "description": description}
                for key, name, description in self._settings.criteria
            ],
            "risk": any(item.risk for item in items),
            "position": position,
            "item": None if shown is None else _item_row(shown, marks.get(shown.key, Mark())),
        }

    def _blinded(self, annotator: str) -> list[Item]:
        if annotator not in self._items:
            self._items[annotator] = blinded_items(self._pairs, annotator)
        return self._items[annotator]

    def _item(self, annotator: str, position: int) -> Item:
        items = self._blinded(annotator)
        if position >= len(items):
            raise UserError("there is no such pair", value=position, why=f"there are {len(items)}")
        return items[position]

    def _unmarked(self, annotator: str, *, after: int) -> int | None:
        """Return the next position without a verdict, from the beginning again at the end; None where there is none."""
        marks = fold(self._file.events(annotator))
        items = self._blinded(annotator)
        positions = [*range(after + 1, len(items)), *range(after + 1)]
        return next((place for place in positions if marks.get(items[place].key, Mark()).verdict is None), None)

    def _body(self, request: Save) -> dict[str, Any]:
        kind: Kind = request.kind
        match request.kind:
            case "note":
                if request.text is None:
                    raise UserError("a note needs its text")
                return {"text": request.text}
            case "choice":
                offered: tuple[Choice, ...] = ("left", "right", "cannot", *(("tie",) if self._settings.ties else ()))
                if request.choice not in offered:
                    raise UserError("this choice is not offered", value=request.choice, alternatives=offered)
                return {"choice": request.choice, "seconds": request.seconds}
            case "principle":
                keys = [key for key, _, _ in self._settings.criteria]
                if request.principle not in keys or request.choice == "cannot":
                    raise UserError("this mark is not offered", value=[request.principle, request.choice])
                return {"principle": request.principle, "choice": request.choice}
            case _:
                assert_never(kind)


def _item_row(item: Item, mark: Mark) -> dict[str, Any]:
    turns = [("", item.prompt)] if isinstance(item.prompt, str) else [(turn.role, turn.content) for turn in item.prompt]
    return {
        "prompt": [{"role": role, "text": text} for role, text in turns],
        "left": item.left,
        "right": item.right,
        "risk": item.risk,
        "mark": _mark_row(item, mark),
    }


def _mark_row(item: Item, mark: Mark) -> Mapping[str, Any]:
    return {
        "choice": None if mark.verdict is None else choice_of(mark.verdict, item.shown_left),
        "principles": {name: choice_of(verdict, item.shown_left) for name, verdict in mark.principles.items()},
        "note": mark.note,
    }
