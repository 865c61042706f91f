"""What is written is read back by readers that know nothing of strop: pyarrow, datasets, TRL."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import load_dataset
from pyarrow import parquet
from transformers import PreTrainedTokenizerFast
from trl import is_conversational, maybe_apply_chat_template

from strop.methods.preference.formats import SETS, pairs_by_set, published_row, write_formats, write_published
from strop.methods.preference.pairing import PairSettings, make_pairs
from strop.methods.preference.ratings import PRINCIPLES

HOSTILE = 'I said: "no",\nthen\tleft. \u201cWhy?\u201d \\n <|im_end|> \U0001f327 | `x`'


def _rows(count: int = 12, **settings: Any) -> list[dict[str, Any]]:
    """Speeches in all three splits; three responses each, of sums 35, 28 and 21 (33 in the third test speech)."""
    levels = {"a": 5, "b": 4, "c": 3}
    table = [
        {
            "id": f"s{n}",
            "speech": f"{HOSTILE} {n}",
            "topic": "loss",
            "split": ("train", "development", "test")[n % 3],
            "responses": [
                {
                    "id": name,
                    "text": f"{name}: {HOSTILE}",
                    "model": f"m-{name}",
                    "ratings": dict.fromkeys(PRINCIPLES, at),
                }
                for name, at in levels.items()
            ],
        }
        for n in range(count)
    ]
    table[2]["responses"][1]["ratings"] = {**dict.fromkeys(PRINCIPLES, 5), "clarity": 3}  # type: ignore[index]
    return list(make_pairs(table, PairSettings(**settings)).rows)


def test_published_columns_and_types(tmp_path: Path) -> None:
    """Names, order and types of the published files, as their card lists them."""
    path = tmp_path / "train.parquet"
    rows = _rows()
    assert write_published(path, rows) == len(rows)
    schema = parquet.read_schema(path)
    sides = [f"{side}_{key}_rating" for side in ("chosen", "rejected") for key in PRINCIPLES]
    texts = ["question", "chosen", "rejected", "chosen_model", "rejected_model"]
    assert schema.names == ["ID", "prefID", *texts, *sides]
    assert {name: str(schema.field(name).type) for name in schema.names} == {
        "ID": "string",
        "prefID": "int64",
        **dict.fromkeys(texts, "string"),
        **dict.fromkeys(sides, "int64"),
    }
    assert parquet.read_table(path).to_pylist() == [published_row(row) for row in rows]


def test_expected_ratings_are_floats_and_no_rows_are_a_table(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    write_published(path, _rows(expected=True), expected=True)
    assert str(parquet.read_schema(path).field("rejected_staging_rating").type) == "double"
    assert write_published(path, []) == 0
    assert parquet.read_table(path).num_rows == 0


def test_same_rows_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_formats(tmp_path / name, _rows())
    first, second = (
        {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.*")}
        for name in ("a", "b")
    )
    assert first == second


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("forms")
    rows = _rows()
    write_formats(folder, rows)
    return folder, dict(pairs_by_set(rows))


def test_sets_keep_close_pairs_apart(written: tuple[Path, dict[str, Any]]) -> None:
    """Four test speeches give an extreme pair each; one, whose second-best sums to 33, a close one (35 - 33)."""
    _, sets = written
    assert {name: len(sets[name]) for name in SETS} == {"train": 12, "development": 12, "test": 4, "test_close": 1}
    assert {row["kind"] for row in sets["test"]} == {"extreme"}


def test_datasets_reads_the_published_files_row_for_row(written: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, sets = written
    files = {name: str(folder / "published" / f"{name}.parquet") for name in sets}
    loaded = load_dataset("parquet", data_files=files, cache_dir=str(tmp_path))
    for name, rows in sets.items():
        assert list(loaded[name]) == [published_row(row) for row in rows]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    made = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({"x": 0}, unk_token="x")), eos_token="x")
    made.chat_template = (
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    return made


@pytest.mark.parametrize("form", ["trl", "openrlhf"])
def test_trl_takes_the_rows_as_conversations(form: str, written: tuple[Path, dict[str, Any]], tokenizer: Any) -> None:
    folder, sets = written
    loaded = load_dataset("json", data_files=str(folder / form / "train.jsonl"), split="train")
    assert loaded.column_names == ["prompt", "chosen", "rejected"]
    for row, pair in zip(loaded, sets["train"], strict=True):
        assert is_conversational(row)
        assert maybe_apply_chat_template(row, tokenizer) == {
            "prompt": f"<user>{pair['prompt']}</user><assistant>",
            "chosen": f"{pair['chosen']}</assistant>",
            "rejected": f"{pair['rejected']}</assistant>",
        }


def test_openrlhf_renders_what_trl_renders(written: tuple[Path, dict[str, Any]], tokenizer: Any) -> None:
    """OpenRLHF 0.5 with its three keys: template of prompt and response together, less the prompt's own."""
    folder, _ = written
    for line in (folder / "openrlhf" / "train.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        prompt = tokenizer.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True)
        rendered = maybe_apply_chat_template(row, tokenizer)
        for side in ("chosen", "rejected"):
            whole = tokenizer.apply_chat_template(row["prompt"] + row[side], tokenize=False)
            assert whole[: len(prompt)] == prompt
            assert whole[len(prompt) :] == rendered[side]


def test_llama_factory_finds_its_columns_by_its_registry(written: tuple[Path, dict[str, Any]]) -> None:
    """As LLaMA-Factory resolves an entry: file beside the registry, columns by name, `instruction` + `input`."""
    folder, sets = written
    registry = json.loads((folder / "llama_factory" / "dataset_info.json").read_text(encoding="utf-8"))
    assert set(registry) == {f"counselling_{name}" for name in SETS}
    for name, rows in sets.items():
        entry = registry[f"counselling_{name}"]
        assert entry["ranking"] is True
        columns = entry["columns"]
        read = json.loads((folder / "llama_factory" / entry["file_name"]).read_text(encoding="utf-8"))
        for row, pair in zip(read, rows, strict=True):
            assert (row[columns["prompt"]], row[columns["query"]]) == (pair["prompt"], "")
            assert (row[columns["chosen"]], row[columns["rejected"]]) == (pair["chosen"], pair["rejected"])


def test_a_set_without_pairs_has_no_file(tmp_path: Path) -> None:
    written = write_formats(tmp_path, [row for row in _rows() if row["split"] == "train"])
    assert {path.stem for path in written} == {"train", "dataset_info"}
