"""Exported examples and pairs whose prompts are conversations, read by what knows nothing of strop."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from strop.records.document import Document, Product, Verdict
from strop.records.tables import read_table
from strop.report import write_report
from strop.report.exporting import export_run
from strop.runs import Config, Run, Stage
from tiny_llama import build_tokenizer

EXPERT = {"role": "system", "content": "You are an expert in psychiatry."}
EXAMPLES: list[dict[str, Any]] = [
    {"id": f"c{number}#0/diagnosis", "prompt": [EXPERT, {"role": "user", "content": story}], "response": illness}
    for number, (story, illness) in enumerate(
        (("\u201cI cannot sleep.\u201d\u2028Which illness?", "Insomnia"), ("I check the door.", "OCD \U0001f6aa"))
    )
]
PLANS: list[dict[str, Any]] = [
    {"id": f"c{number}#0/treatment", "prompt": row["prompt"], "chosen": "CBT.\nIt helps.", "rejected": "\tRest."}
    for number, row in enumerate(EXAMPLES)
]
TEMPLATE = (
    "{% for turn in messages %}<{{ turn.role }}>{{ turn.content }}</>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
LEARNED = {"counts": {"sessions": 4, "pairs": 2}}


class Settings(Config):
    """No settings."""


def collect(stage: Stage) -> None:
    stage.write_rows(EXAMPLES, "examples.jsonl")
    stage.write_rows(PLANS, "preferences.jsonl")
    (stage.folder / "counts.json").write_text(json.dumps(LEARNED))


def leave(stage: Stage, rows: list[dict[str, Any]]) -> None:
    stage.write_rows(rows, "examples.jsonl")


def document(*made: Product) -> Document:
    return Document("A run", "Self-play", "strop run x", (Verdict("It is so."),), (), products=made)


def contents(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


class TestConversations:
    """Self-play leaves examples and pairs whose prompts are a system and a user message."""

    @pytest.fixture(scope="class")
    def exported(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        workspace = tmp_path_factory.mktemp("selfplay")
        run_folder = workspace / "first"
        with Run.open(run_folder, config=Settings(), origins={}, seed=0, workspace=workspace, quiet=True) as run:
            run.stage(collect, name="learned")
        made = (
            Product("round-1-examples", "examples", "learned", "examples.jsonl", final=True, note="what is learned"),
            Product("round-1-plans", "pairs", "learned", "preferences.jsonl", final=True),
        )
        write_report(document(*made), run_folder)
        export_run(run_folder, workspace / "out")
        return workspace / "out"

    def test_files(self, exported: Path) -> None:
        forms = ("trl/{}.jsonl", "openrlhf/{}.jsonl", "openai/{}.jsonl", "llama_factory/{}.json")
        for product, name in (("round-1-examples", "examples"), ("round-1-plans", "preferences")):
            wanted = {form.format(name) for form in forms} | {f"{name}.jsonl", "llama_factory/dataset_info.json"}
            assert contents(exported / product) == wanted | {"README.md", "export.json"}
            assert json.loads((exported / product / "export.json").read_text())["notes"] == []
        assert read_table(exported / "round-1-examples" / "examples.jsonl") == EXAMPLES

    def test_datasets_and_trl_read_every_row(self, exported: Path, tmp_path: Path) -> None:
        """The template puts `<role>` before and `</>` behind each message; a response begins behind `<assistant>`."""
        from datasets import load_dataset
        from trl import apply_chat_template, is_conversational

        tokenizer = build_tokenizer()
        tokenizer.chat_template = TEMPLATE
        sides = {"round-1-examples": ("completion",), "round-1-plans": ("chosen", "rejected")}
        for product, table in (("round-1-examples", EXAMPLES), ("round-1-plans", PLANS)):
            for form in ("trl", "openrlhf"):
                (file,) = (exported / product / form).iterdir()
                loaded = load_dataset("json", data_files=str(file), split="train", cache_dir=str(tmp_path))
                assert loaded.column_names == ["prompt", *sides[product]]
                for row, source in zip(loaded, table, strict=True):
                    assert is_conversational(row)
                    rendered = apply_chat_template(row, tokenizer)
                    asked = "".join(f"<{turn['role']}>{turn['content']}</>" for turn in source["prompt"])
                    assert rendered["prompt"] == asked + "<assistant>"
                    for side in sides[product]:
                        assert rendered[side] == source["response" if side == "completion" else side] + "</>"

    def test_openai_takes_the_messages(self, exported: Path) -> None:
        from openai.types.chat import ChatCompletionMessageParam
        from pydantic import TypeAdapter

        messages = TypeAdapter(list[ChatCompletionMessageParam])
        examples = read_table(exported / "round-1-examples" / "openai" / "examples.jsonl")
        pairs = read_table(exported / "round-1-plans" / "openai" / "preferences.jsonl")
        for row, source in zip(examples, EXAMPLES, strict=True):
            assert list(row) == ["messages"]
            messages.validate_python(row["messages"])
            assert row["messages"][:-1] == source["prompt"]
            assert row["messages"][-1] == {"role": "assistant", "content": source["response"]}
        for row, source in zip(pairs, PLANS, strict=True):
            assert list(row) == ["input", "preferred_output", "non_preferred_output"]
            assert row["input"] == {"messages": source["prompt"]}
            for side, name in (("preferred_output", "chosen"), ("non_preferred_output", "rejected")):
                messages.validate_python(row[side])
                assert [turn["content"] for turn in row[side]] == [source[name]]

    def test_llama_factory_finds_its_columns_by_its_registry(self, exported: Path, tmp_path: Path) -> None:
        from datasets import load_dataset

        for product, table in (("round-1-examples", EXAMPLES), ("round-1-plans", PLANS)):
            folder = exported / product / "llama_factory"
            registry = json.loads((folder / "dataset_info.json").read_text())
            assert list(registry) == [product]
            entry = registry[product]
            file = str(folder / entry["file_name"])
            loaded = load_dataset("json", data_files=file, split="train", cache_dir=str(tmp_path))
            for row, source in zip(loaded, table, strict=True):
                assert read_by_registry(row, entry) == (
                    [(turn["role"], turn["content"]) for turn in source["prompt"]],
                    [source[side] for side in ("response", "chosen", "rejected") if side in source],
                )

    def test_the_card(self, exported: Path) -> None:
        card = (exported / "round-1-examples" / "README.md").read_text()
        assert "Examples for supervised fine-tuning" in card
        assert "What is learned." in card
        assert "that the licences of its texts allow" in card
        assert "| counts, sessions | 4 |" in card
        front = yaml.safe_load(card.split("---")[1])
        assert [each["config_name"] for each in front["configs"]] == ["default", "openai", "openrlhf", "trl"]
        assert "pipeline_tag" not in front


def read_by_registry(row: dict[str, Any], entry: dict[str, Any]) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the prompt's turns and the responses of a row, found as LLaMA-Factory finds them: by column and tag."""
    columns, tags = entry["columns"], entry["tags"]
    assert entry["formatting"] == "sharegpt"
    names = {tags[f"{role}_tag"]: role for role in ("system", "user", "assistant")}
    turns = [(names[turn[tags["role_tag"]]], turn[tags["content_tag"]]) for turn in row[columns["messages"]]]
    if entry.get("ranking"):
        return turns, [row[columns[side]][tags["content_tag"]] for side in ("chosen", "rejected")]
    return turns[:-1], [turns[-1][1]]


class TestOddPrompts:
    def export(self, folder: Path, rows: list[dict[str, Any]]) -> tuple[Path, list[str]]:
        with Run.open(folder / "a", config=Settings(), origins={}, seed=0, workspace=folder, quiet=True) as run:
            run.stage(leave, rows, name="odd")
        write_report(document(Product("odd", "examples", "odd", "examples.jsonl")), folder / "a")
        (made,) = export_run(folder / "a", folder / "out")
        return made.folder, made.record["notes"]

    def test_what_a_trainer_would_skip_or_refuse_is_left_out_and_counted(self, tmp_path: Path) -> None:
        """Of five prompts TRL takes four, LLaMA-Factory three (two user messages in a row), OpenAI four (a tool)."""
        user, system, tool = ({"role": role, "content": role} for role in ("user", "system", "tool"))
        prompts = ["plain", [user], [system, user], [system], [tool, user, user]]
        rows = [{"id": at, "prompt": prompt, "response": f"r{at}"} for at, prompt in enumerate(prompts)]
        folder, notes = self.export(tmp_path, rows)
        assert [note.partition(":")[0] for note in notes] == [
            "trl holds 4 of 5 rows",
            "openrlhf holds 4 of 5 rows",
            "llama_factory holds 3 of 5 rows",
            "openai holds 4 of 5 rows",
        ]
        taken = read_table(folder / "llama_factory" / "examples.json")
        assert [row["messages"][-1]["content"] for row in taken] == ["r0", "r1", "r2"]
        assert taken[0]["messages"][0] == {"role": "user", "content": "plain"}
        assert "holds 3 of 5 rows" in (folder / "README.md").read_text().replace("\\", "")

    def test_a_table_without_rows_has_no_forms(self, tmp_path: Path) -> None:
        folder, notes = self.export(tmp_path, [])
        assert contents(folder) == {"examples.jsonl", "README.md", "export.json"}
        assert notes == [
            f"No {name}: the table has no rows." for name in ("trl", "openrlhf", "llama_factory", "openai")
        ]

    def test_odd_texts_pass_through_datasets(self, tmp_path: Path) -> None:
        from datasets import load_dataset

        texts = [
            "",
            "\u2028",
            "\x00",
            "\ufeff",
            "2026-01-01",
            "1",
            "null",
            "\r\n",
            "\\u0041",
            '"',
            "\u202e",
            "\U0001f327",
        ]
        rows = [
            {"id": at, "prompt": [EXPERT, {"role": "user", "content": text}], "response": text}
            for at, text in enumerate(texts)
        ]
        folder, notes = self.export(tmp_path, rows)
        assert notes == []
        for file in ("trl/examples.jsonl", "llama_factory/examples.json", "openai/examples.jsonl"):
            cache = str(tmp_path / "cache")
            loaded = list(load_dataset("json", data_files=str(folder / file), split="train", cache_dir=cache))
            found = [row["messages"] if "messages" in row else row["prompt"] + row["completion"] for row in loaded]
            assert [(turns[1]["content"], turns[2]["content"]) for turns in found] == [(text, text) for text in texts]
