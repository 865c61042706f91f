"""Exports of a real run: whole weights, adapters, pairs; the same bytes again; what is in the way; what was damaged."""

from __future__ import annotations

import hashlib
import json
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from strop.cli.main import run as strop
from strop.errors import Stopped, UserError
from strop.models.local import LocalModel
from strop.models.rewards.folder import FolderReward
from strop.records.document import Document, Number, Product, Verdict
from strop.records.tables import read_table
from strop.report import takeout, write_report
from strop.report.exporting import ExportOptions, export_run
from strop.runs import Config, Run, Stage
from strop.training.weights import merge
from tiny_gguf import write_model

PAIRS = [
    {"id": f"r{number}/0", "prompt": f"I feel {word}.", "chosen": f"What makes you {word}?", "rejected": "Cheer up."}
    for number, word in enumerate(("sad", "tired", "alone"))
]
COUNTS = {"speeches": {"read": 3}, "pairs": {"train": {"gap": 3}}}


class Settings(Config):
    """No settings."""


def take(stage: Stage, source: Path) -> None:
    shutil.copytree(source, stage.folder / "model")
    (stage.folder / "outcome.json").write_text(json.dumps({"rows": 12, "steps": 4, "losses": [0.5]}))


def build(stage: Stage) -> None:
    stage.write_rows(PAIRS, "pairs.jsonl")
    (stage.folder / "report.json").write_text(json.dumps(COUNTS))


def publish(stage: Stage, pairs: object) -> None:
    stage.write_rows(PAIRS, "trl/train.jsonl")
    (stage.folder / "README.md").write_text("---\nlicense: cc0-1.0\n---\n# Pairs\n")


def products() -> tuple[Product, ...]:
    return (
        Product("dpo", "model", "dpo", "model", "hf:org/base", final=True, note="offline DPO"),
        Product("lora", "model", "lora", "model", "hf:org/base"),
        Product("online", "model", "online", "model", "hf:org/base"),
        Product("reward-model", "reward_model", "reward", "model", "builtin:encoder"),
        Product("made-pairs", "pairs", "pairs", "pairs.jsonl"),
        Product("pairs", "pairs", "published", final=True),
    )


def document(*made: Product) -> Document:
    number = Number("accuracy", 0.75, "pairs", "pairs.jsonl", low=0.5, high=0.9, n=12, headline=True)
    return Document("A run", "Preference", "strop run x", (Verdict("It is so."),), (number,), products=made)


def write_adapter(base: Path, out: Path, *, whole: bool) -> None:
    """Write a random adapter on `base` as a training leaves it: under ``adapter``, with the merged weights or alone."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(3)
    settings = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), settings).save_pretrained(out / "adapter")
    for place in (out, out / "adapter") if whole else (out / "adapter",):
        place.mkdir(exist_ok=True)
        for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
            shutil.copyfile(base / name, place / name)
    if whole:
        merge(base, out / "adapter", out)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory, tiny_reward: Path) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sources")
    base = write_model(folder / "base", "smollm")
    write_adapter(base, folder / "lora", whole=True)
    write_adapter(base, folder / "online", whole=False)
    return {"dpo": base, "lora": folder / "lora", "online": folder / "online", "reward": tiny_reward}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, sources: dict[str, Path]) -> Path:
    """A run folder with four models, two sets of pairs and a report; not to be changed."""
    workspace = tmp_path_factory.mktemp("runs")
    with Run.open(workspace / "first", config=Settings(), origins={}, seed=0, workspace=workspace, quiet=True) as run:
        for name, source in sources.items():
            run.stage(take, source, name=name)
        run.stage(publish, run.stage(build, name="pairs"), name="published")
    write_report(document(*products()), workspace / "first")
    return workspace / "first"


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """The same run, to be changed."""
    return Path(shutil.copytree(finished.parent, tmp_path / "runs")) / "first"


def tensors(folder: Path) -> dict[str, Any]:
    from safetensors.numpy import load_file

    loaded: dict[str, Any] = load_file(folder / "model.safetensors")
    return loaded


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class TestModels:
    def test_files_are_those_of_the_artifact_with_gguf_and_card(
        self, finished: Path, sources: dict[str, Path], tmp_path: Path
    ) -> None:
        (made,) = export_run(finished, tmp_path / "out", names=["dpo"])
        copied = {path.name for path in sources["dpo"].iterdir()}
        assert {path.name for path in made.folder.iterdir()} == copied | {"README.md", "export.json", "dpo-f16.gguf"}
        for file in made.record["files"]:
            content = (made.folder / file["path"]).read_bytes()
            assert (file["bytes"], file["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
        card = (made.folder / "README.md").read_text()
        assert "base_model: org/base" in card
        assert "| accuracy | 75.0 % | 50.0 to 90.0 | 12 |" in card
        assert "| supervised tokens" not in card
        assert "| rows | 12 |" in card
        assert "| pairs, train, gap | 3 |" in card
        assert next(file["sha256"] for file in made.record["files"] if file["path"] == "model.safetensors") in card
        assert any("21 tensors" in note for note in made.record["notes"])
        index = json.loads((tmp_path / "out" / "export.json").read_text())
        assert (index["command"], list(index["products"])) == ("strop run x", ["dpo"])
        assert index["products"]["dpo"] == made.record

    def test_transformers_opens_the_folder(self, finished: Path, sources: dict[str, Path], tmp_path: Path) -> None:
        (made,) = export_run(finished, tmp_path, names=["dpo"])
        opened = [LocalModel(folder, device="cpu") for folder in (sources["dpo"], made.folder)]
        assert opened[0].revision == opened[1].revision

    def test_an_adapter_beside_its_merged_weights(
        self, finished: Path, sources: dict[str, Path], tmp_path: Path
    ) -> None:
        import numpy as np

        (made,) = export_run(finished, tmp_path, names=["lora"], options=ExportOptions(gguf="f32"))
        assert (made.folder / "lora-f32.gguf").is_file()
        wanted, found = tensors(sources["lora"]), tensors(made.folder)
        assert wanted.keys() == found.keys()
        assert all(np.array_equal(wanted[name], found[name]) for name in wanted)
        told = json.loads((made.folder / "adapter" / "adapter_config.json").read_text())
        assert told["base_model_name_or_path"] == "org/base"
        assert "[More Information Needed]" not in " ".join(path.read_text() for path in made.folder.rglob("*.md"))

    def test_an_adapter_alone_is_merged_where_its_base_is_here(
        self, finished: Path, sources: dict[str, Path], tmp_path: Path
    ) -> None:
        """Both adapters are the same: merged here or in the training, the weights are the same."""
        import numpy as np

        (made,) = export_run(finished, tmp_path, names=["online"])
        wanted, found = tensors(sources["lora"]), tensors(made.folder)
        assert all(np.array_equal(wanted[name], found[name]) for name in wanted)
        assert {"adapter", "tokenizer.json", "online-f16.gguf"} <= {path.name for path in made.folder.iterdir()}

    def test_an_adapter_whose_base_is_gone(self, copied: Path, tmp_path: Path, sources: dict[str, Path]) -> None:
        source = Path(shutil.copytree(sources["online"], tmp_path / "adapter"))
        config = source / "adapter" / "adapter_config.json"
        told = {**json.loads(config.read_text()), "base_model_name_or_path": "/nowhere/base"}
        config.write_text(json.dumps(told))
        with Run.open(copied, config=Settings(), origins={}, seed=0, workspace=copied.parent, quiet=True) as run:
            run.stage(take, source, name="gone")
        write_report(document(Product("gone", "model", "gone", "model", "hf:org/base")), copied)
        (made,) = export_run(copied, tmp_path / "out")
        assert not list(made.folder.glob("*.safetensors"))
        assert (made.folder / "adapter" / "adapter_model.safetensors").is_file()
        assert "No whole weights" in made.record["notes"][0]
        assert "library_name: peft" in (made.folder / "README.md").read_text()
        with pytest.raises(UserError, match="base model is not where it was"):
            export_run(copied, tmp_path / "other", options=ExportOptions(gguf_required=True))

    def test_a_reward_model_says_why_it_is_no_gguf(
        self, finished: Path, sources: dict[str, Path], tmp_path: Path
    ) -> None:
        (made,) = export_run(finished, tmp_path, names=["reward-model"])
        assert not list(made.folder.glob("*.gguf"))
        assert "No GGUF file" in made.record["notes"][0]
        items = [("i feel sad", "what is it like ?"), ("i feel tired", "go on")]
        scores = [FolderReward(folder, device="cpu").score(items) for folder in (sources["reward"], made.folder)]
        assert scores[0] == scores[1]

    def test_llama_cpp_checks_the_file(self, finished: Path, tmp_path: Path) -> None:
        pytest.importorskip("xllamacpp")
        options = ExportOptions(gguf="f32", check=True)
        (made,) = export_run(finished, tmp_path, names=["dpo"], options=options)
        note = made.record["notes"][-1]
        assert "read the tokens of 7 of 7 prompts" in note
        assert note in (made.folder / "README.md").read_text().replace("\\", "")


class TestPairs:
    def test_one_file_comes_in_the_forms_of_trainers(self, finished: Path, tmp_path: Path) -> None:
        (made,) = export_run(finished, tmp_path, names=["made-pairs"])
        assert read_table(made.folder / "pairs.jsonl") == PAIRS
        conversational = read_table(made.folder / "trl" / "pairs.jsonl")
        assert conversational[0]["chosen"] == [{"role": "assistant", "content": "What makes you sad?"}]
        registry = json.loads((made.folder / "llama_factory" / "dataset_info.json").read_text())
        assert registry["made-pairs"]["ranking"] is True
        messages = [row["messages"] for row in read_table(made.folder / "llama_factory" / "pairs.json")]
        assert messages == [[{"role": "user", "content": pair["prompt"]}] for pair in PAIRS]
        assert "pairs.jsonl" in (made.folder / "README.md").read_text()

    def test_a_folder_keeps_its_forms_and_its_card(self, finished: Path, tmp_path: Path) -> None:
        (made,) = export_run(finished, tmp_path, names=["pairs"])
        assert set(contents(made.folder)) == {"README.md", "export.json", "trl/train.jsonl"}
        assert (made.folder / "README.md").read_text().startswith("---\nlicense: cc0-1.0")


class TestChoosing:
    def test_final_products_unless_told_otherwise(self, finished: Path, tmp_path: Path) -> None:
        assert [made.name for made in export_run(finished, tmp_path)] == ["dpo", "pairs"]
        everything = export_run(finished, tmp_path / "all", everything=True)
        assert [made.name for made in everything] == [product.name for product in products()]
        index = json.loads((tmp_path / "all" / "export.json").read_text())
        assert len(index["products"]) == 6

    def test_an_unknown_product_is_answered_with_what_there_is(self, finished: Path, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="did you mean 'reward-model'") as caught:
            export_run(finished, tmp_path, names=["rewardmodel"])
        assert caught.value.alternatives == tuple(product.name for product in products())
        assert not list(tmp_path.iterdir())

    def test_a_run_that_made_nothing(self, copied: Path, tmp_path: Path) -> None:
        write_report(document(), copied)
        with pytest.raises(UserError, match="nothing to export"):
            export_run(copied, tmp_path / "out")

    def test_a_run_without_a_report(self, copied: Path, tmp_path: Path) -> None:
        (copied / "report.json").unlink()
        with pytest.raises(UserError, match="no report yet"):
            export_run(copied, tmp_path / "out")

    def test_the_runs_own_folder_is_no_place(self, copied: Path) -> None:
        with pytest.raises(UserError, match="own folder"):
            export_run(copied, copied / "stages" / "out")


class TestAgain:
    def test_another_folder_gets_the_same_bytes(self, finished: Path, tmp_path: Path) -> None:
        for name in ("a", "b"):
            export_run(finished, tmp_path / name, everything=True)
        first, second = contents(tmp_path / "a"), contents(tmp_path / "b")
        assert len(first) > 20
        assert first == second

    def test_the_same_command_writes_nothing_again(self, finished: Path, tmp_path: Path) -> None:
        export_run(finished, tmp_path, names=["dpo"])
        times = {path: path.stat().st_mtime_ns for path in (tmp_path / "dpo").rglob("*")}
        made = export_run(finished, tmp_path)
        assert [(each.name, each.done_before) for each in made] == [("dpo", True), ("pairs", False)]
        assert {path: path.stat().st_mtime_ns for path in (tmp_path / "dpo").rglob("*")} == times

    def test_what_was_stopped_is_continued(
        self, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A stop in the middle of a folder leaves only hidden parts; the same command removes and replaces them."""

        def stop(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(takeout, "_add_gguf", stop)
            with pytest.raises(KeyboardInterrupt):
                export_run(finished, tmp_path / "out")
        assert [path.name for path in (tmp_path / "out").iterdir()] == [".dpo.part"]
        export_run(finished, tmp_path / "out")
        export_run(finished, tmp_path / "whole")
        assert contents(tmp_path / "out") == contents(tmp_path / "whole")

    @pytest.mark.parametrize("change", ["options", "content", "stranger"])
    def test_what_is_in_the_way_is_left_alone_unless_told(self, finished: Path, tmp_path: Path, change: str) -> None:
        options = ExportOptions(licence="apache-2.0" if change == "options" else "")
        if change == "stranger":
            (tmp_path / "dpo").mkdir()
            (tmp_path / "dpo" / "mine.txt").write_text("mine")
        else:
            export_run(finished, tmp_path, names=["dpo"])
        if change == "content":
            (tmp_path / "dpo" / "config.json").write_text("{}")
        before = contents(tmp_path)
        with pytest.raises(UserError, match="in the way"):
            export_run(finished, tmp_path, options=options)
        assert contents(tmp_path) == before
        export_run(finished, tmp_path, options=options, overwrite=True)
        export_run(finished, tmp_path / "fresh", options=options)
        assert contents(tmp_path / "dpo") == contents(tmp_path / "fresh" / "dpo")


@pytest.fixture
def largest_file() -> Iterator[Callable[[int], None]]:
    """Return a setter of the largest file that this process may write: a disk that is full, as files see it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("missing", [250_000, 4_000])
def test_a_full_disk_stops_and_the_same_command_continues(
    finished: Path, sources: dict[str, Path], tmp_path: Path, largest_file: Callable[[int], None], missing: int
) -> None:
    """Half a megabyte each: safetensors, and a little larger the GGUF file; the second limit lets only a copy pass."""
    options = ExportOptions(gguf="f32")
    (whole,) = export_run(finished, tmp_path / "whole", names=["dpo"], options=options)
    sizes = {file["path"]: file["bytes"] for file in whole.record["files"]}
    assert sizes["model.safetensors"] < sizes["dpo-f32.gguf"] - 4_000
    largest_file(sizes["dpo-f32.gguf"] - missing)
    with pytest.raises(Stopped):
        export_run(finished, tmp_path / "out", names=["dpo"], options=options)
    largest_file(resource.RLIM_INFINITY)
    assert not (tmp_path / "out" / "dpo").exists()
    export_run(finished, tmp_path / "out", names=["dpo"], options=options)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


class TestDamage:
    def test_a_changed_artifact_is_not_exported(self, copied: Path, tmp_path: Path) -> None:
        next(copied.glob("stages/*-dpo/model/config.json")).write_text("{}")
        with pytest.raises(UserError, match="changed after its stage had finished"):
            export_run(copied, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_an_artifact_that_is_gone(self, copied: Path, tmp_path: Path) -> None:
        shutil.rmtree(next(copied.glob("stages/*-dpo")))
        with pytest.raises(UserError, match="is gone"):
            export_run(copied, tmp_path / "out")


class TestVerb:
    def test_json_names_folders_and_files(
        self, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        command = ["export", str(finished), "--out", str(tmp_path), "--gguf", "q8_0", "--license", "mit"]
        assert strop([*command, "--dataset", "org/pairs", "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert [each["name"] for each in told["products"]] == ["dpo", "pairs"]
        assert "dpo-q8_0.gguf" in [file["path"] for file in told["products"][0]["files"]]
        assert "license: mit" in (tmp_path / "dpo" / "README.md").read_text()

    def test_gguf_that_was_asked_for_and_cannot_be(
        self, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        command = ["export", str(finished), "--out", str(tmp_path / "out"), "--product", "reward-model"]
        assert strop([*command, "--gguf", "f16"]) == 2
        assert "can be a GGUF file" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
        assert strop([*command, "--gguf", "none"]) == 0
        assert capsys.readouterr().out.strip() == str(tmp_path / "out" / "reward-model")
