"""The text: documents of the user's own, or the documentation that comes with every Python; and what is held back.

Python's standard library brings more than a megabyte of English: the docstrings of its modules and the pages behind
`help()`. They are under Python's own licence and on every machine that runs strop, so strop ships no text. The same
Python version gives the same bytes; their hash stands in the report.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from strop.errors import UserError
from strop.evaluation.contamination import contamination
from strop.records.rows import identifier
from strop.records.tables import iter_table
from strop.runs import stream

LEFT_OUT = frozenset(
    {"test", "idlelib", "lib2to3", "distutils", "tkinter", "turtle", "turtledemo", "antigravity", "this"}
)
"""Parts of the library that some installations lack, or that hold no documentation."""
SHORTEST = 400
"""Characters below which a module's documentation is no document."""
RUN_OF_WORDS = 13
"""Words in a row that a training passage may not share with held-back text (Brown et al., 2020)."""


@dataclass(frozen=True, slots=True)
class Document:
    """A text in passages, as the docstrings of one module.

    Attributes:
        name: Unique.
        passages: In order.
    """

    name: str
    passages: tuple[str, ...]

    @property
    def text(self) -> str:
        """All passages, with an empty line between them."""
        return "\n\n".join(self.passages)


@dataclass(frozen=True, slots=True)
class Split:
    """Documents to learn from and documents that no training sees.

    Attributes:
        train: Without what they share with held-back ones.
        held_back: As they are.
        removed: Passages that were taken out of `train`.
        digest: Hash of all documents before the split.
    """

    train: tuple[Document, ...]
    held_back: tuple[Document, ...]
    removed: int
    digest: str


def read_files(files: Iterable[Path]) -> list[Document]:
    """Return the documents of tables of `id` and `text`; a passage is a paragraph.

    Raises:
        UserError: A row has no text, or two have one id.
    """
    documents: dict[str, Document] = {}
    for file in files:
        for row in iter_table(file):
            name, text = str(identifier(row)), row.get("text")
            if not isinstance(text, str) or not text.strip():
                raise UserError("a document needs text", value=f"{file}, id {name}", fix="give the field 'text'")
            if name in documents:
                raise UserError("two documents have one id", value=name, fix="give each document an id of its own")
            documents[name] = Document(name, tuple(part for part in text.split("\n\n") if part.strip()))
    return list(documents.values())


def standard_library() -> list[Document]:
    """Return the documentation of Python itself: a document for each module or package, and for each page of `help()`.

    Modules are read and never imported.
    """
    root = Path(sysconfig.get_paths()["stdlib"])
    names = sorted(sys.stdlib_module_names - LEFT_OUT)
    modules = [Document(name, tuple(_passages(_sources(root, name)))) for name in names]
    return [one for one in (*modules, *_topics()) if len(one.text) >= SHORTEST]


def _sources(root: Path, name: str) -> list[Path]:
    module = root / f"{name}.py"
    if module.is_file():
        return [module]
    return [path for path in sorted((root / name).rglob("*.py")) if not {"test", "tests"} & set(path.parts)]


def _passages(files: Iterable[Path]) -> Iterator[str]:
    for file in files:
        try:
            tree = ast.parse(file.read_bytes())
        except (SyntaxError, ValueError):
            continue
        yield from _docstrings(tree)


def _docstrings(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    """Yield the docstrings of a module, its classes and their methods, in the order of the source."""
    text = ast.get_docstring(node)
    if text and text.strip():
        yield text.strip()
    if isinstance(node, (ast.Module, ast.ClassDef)):
        for child in node.body:
            if isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                yield from _docstrings(child)


def _topics() -> Iterator[Document]:
    try:
        from pydoc_data.topics import topics
    except ImportError:
        return
    for name, text in sorted(topics.items()):
        paragraphs = inspect.cleandoc(text).split("\n\n")
        yield Document(f"help/{name}", tuple(part for part in paragraphs if part.strip()))


def split(documents: Sequence[Document], *, held_back: float, seed: int) -> Split:
    """Hold whole documents back at random, and take out of the others what they share with them.

    Args:
        documents: All of them.
        held_back: Share of the documents, above 0 and below 1; at least two documents, and at least one is left.
        seed: Of the draw.

    Raises:
        UserError: There are fewer than three documents, or nothing is left to learn from.
    """
    if len(documents) < 3:
        raise UserError(
            "the text has too few documents to hold some back", value=len(documents), fix="give at least three"
        )
    count = min(max(2, round(held_back * len(documents))), len(documents) - 1)
    chosen = set(stream(seed, "held back").sample([one.name for one in documents], count))
    kept = [one for one in documents if one.name in chosen]
    train, removed = _without_shared([one for one in documents if one.name not in chosen], kept)
    if not train:
        raise UserError("every training passage is in the held-back text too", value=f"{removed} passages")
    digest = hashlib.sha256("\0".join(f"{one.name}\0{one.text}" for one in documents).encode()).hexdigest()
    return Split(tuple(train), tuple(kept), removed, digest)


def _without_shared(train: Sequence[Document], held_back: Sequence[Document]) -> tuple[list[Document], int]:
    """Drop training passages that share a run of words with a held-back document."""
    numbered = [((one.name, place), text) for one in train for place, text in enumerate(one.passages)]
    names = [f"{name}#{place}" for (name, place), _ in numbered]
    found = contamination(
        zip(names, (text for _, text in numbered), strict=True),
        ((one.name, one.text) for one in held_back),
        words=RUN_OF_WORDS,
        # Unlike a benchmark's wording, what many held-back documents say is still what is held back.
        template_items=len(held_back),
    )
    hit = set(found.texts_hit)
    left: dict[str, list[str]] = {one.name: [] for one in train}
    for name, ((document, _), text) in zip(names, numbered, strict=True):
        if name not in hit:
            left[document].append(text)
    return [Document(name, tuple(passages)) for name, passages in left.items() if passages], len(hit)
