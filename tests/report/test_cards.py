"""Cards: every number comes from the facts, text of models is shown and never rendered, the hub can read the front."""

from __future__ import annotations

import re
from dataclasses import replace
from importlib.resources import files
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from strop import __version__
from strop.records.document import Document, Fact, Number, Product, StageFact, Verdict
from strop.report.cards import CardFacts, FileFact, render_card
from strop.runs.lineage import Lineage, Source

HOSTILE = "<script>alert(1)</script> | [a](javascript:x) `code`\n# heading \u202e"
DIGEST, INPUT = "a7" * 32, "b9" * 32


def document(scale: int) -> Document:
    """A report in which every value follows from `scale`, so that two of them share no number."""
    share = scale / 1000
    return Document(
        title="The small teaches the large",
        method="Weak to strong",
        command=f"strop run some/recipe --set seeds=[{scale}]",
        verdicts=(Verdict(f"It reaches {share:.1%}."),),
        numbers=(
            Number(
                *("accuracy.final", share, "results", "results.json"),
                low=share - 0.011,
                high=share + 0.013,
                n=scale * 7,
                label="accuracy",
                note=f"bootstrap, {scale * 3} draws",
                headline=True,
            ),
            Number("gap", None, "results", "results.json", unit="ratio", note="not measured", headline=True),
            Number("pairs.train", float(scale * 11), "pairs", "report.json", unit="count", label="pairs, train"),
            Number("gain", -share, "gains", "gains.json", unit="points"),
        ),
        warnings=(f"Only {scale * 13} questions.",),
        stages=(StageFact("01-answers", float(scale * 17), calls=scale * 19, tokens=scale * 23),),
        machine=(Fact("torch", f"{scale}.13"),),
        provenance=(Fact("standing of the judge that rated", f"qualified, agreement {scale / 997:.3f}"),),
        intended_use=("Drafts for trained people; it is no therapy.",),
    )


def facts(scale: int, **changes: Any) -> CardFacts:
    product = Product("dpo", "model", "dpo", "model", "hf:org/base", final=True, note="offline DPO")
    lineage = Lineage("dpo", "k", DIGEST, "f", "c", None, "calls", {}, (Source("pairs", "pairs", INPUT),))
    given: dict[str, Any] = {
        "document": document(scale),
        "product": product,
        "lineage": lineage,
        "files": (FileFact("model.safetensors", scale * 29, "c3" * 32),),
        "counts": {"speeches": {"read": scale * 31}, "pairs": {"train": {"gap": scale * 37}}},
        "training": {"rows": scale * 41, "supervised_tokens": scale * 43},
    }
    return CardFacts(**{**given, **changes})


def digits(text: str) -> set[str]:
    return set(re.findall(r"\d+", text))


def told(scale: int) -> set[str]:
    """Every run of digits that the facts of `scale` may be shown as, written out by hand."""
    share = scale / 1000
    shares = [f"{100 * value:.1f}" for value in (share, share - 0.011, share + 0.013, -share)]
    counts = [f"{scale * factor:,}" for factor in (7, 11, 19, 23, 29, 31, 37, 41, 43)]
    seconds = scale * 17
    spans = [f"{seconds:.1f}", f"{seconds // 60} {seconds % 60}", f"{seconds // 3600} {seconds % 3600 // 60}"]
    words = [f"{scale} {scale}.13", f"{scale * 3} {scale * 13}", f"{scale / 997:.3f}", "01-answers"]
    return digits(" ".join([*shares, *counts, *spans, *words, DIGEST, INPUT, "c3" * 32, __version__]))


class TestNumbers:
    @pytest.mark.parametrize("scale", [173, 611])
    def test_every_digit_comes_from_the_facts(self, scale: int) -> None:
        shown = digits(render_card(facts(scale)))
        assert shown - told(scale) == {"256"}  # SHA-256
        assert {str(scale), f"{scale * 7:,}".split(",")[-1]} <= shown

    def test_the_template_holds_no_number(self) -> None:
        text = files("strop.report").joinpath("card.md").read_text(encoding="utf-8")
        assert digits(re.sub(r"\{\{.*?\}\}|\{%.*?%\}", "", text)) <= {"256"}  # SHA-256

    def test_each_number_has_its_interval_and_n(self) -> None:
        """611 / 1000 is 61.1 %, from 60.0 to 62.4, over 7 x 611 = 4,277."""
        card = render_card(facts(611))
        assert "| accuracy | 61.1 % | 60.0 to 62.4 | 4,277 | bootstrap, 1833 draws |" in card
        assert "| gap | \u2013 | \u2013 | \u2013 | not measured |" in card
        assert "qualified, agreement 0.613" in card
        assert "| pairs, train, gap | 22,607 |" in card
        assert "it is no therapy" in card
        assert "strop run some/recipe --set seeds=[611]" in card


class TestFrontMatter:
    def test_the_hub_reads_it(self) -> None:
        card = ModelCard(render_card(facts(173, licence="apache-2.0", datasets=("org/pairs",))))
        read: dict[str, Any] = card.data.to_dict()  # type: ignore[no-untyped-call]
        assert (read["license"], read["base_model"], read["datasets"]) == ("apache-2.0", "org/base", ["org/pairs"])
        assert (read["library_name"], read["pipeline_tag"]) == ("transformers", "text-generation")
        assert read["tags"] == ["strop", "weak-to-strong", "model"]

    def test_no_licence_is_said(self) -> None:
        card = render_card(facts(173))
        assert yaml.safe_load(card.split("---")[1])["license"] == "unknown"
        assert "**Licence: not chosen yet.**" in card

    def test_a_base_that_is_no_name_of_the_hub_stays_in_the_text(self) -> None:
        product = Product("dpo", "model", "dpo", "model", "builtin:stories-strong")
        card = render_card(facts(173, product=product))
        assert "base_model" not in yaml.safe_load(card.split("---")[1])
        assert "Trained from: builtin:stories-strong." in card

    def test_an_adapter(self) -> None:
        front = yaml.safe_load(render_card(facts(173, adapter_only=True)).split("---")[1])
        assert (front["library_name"], front["base_model_relation"]) == ("peft", "adapter")

    def test_pairs_name_the_tables_of_each_folder(self) -> None:
        """The hub reads one table a configuration: columns differ between the forms."""
        held = tuple(FileFact(name, 1, "0") for name in ("pairs.jsonl", "trl/pairs.jsonl", "trl/dev.jsonl", "a.json"))
        product = Product("pairs", "pairs", "pairs", "pairs.jsonl")
        front = yaml.safe_load(render_card(facts(173, product=product, files=held)).split("---")[1])
        assert front["configs"] == [
            {"config_name": "default", "data_files": ["pairs.jsonl"]},
            {"config_name": "trl", "data_files": ["trl/dev.jsonl", "trl/pairs.jsonl"]},
        ]
        assert "pipeline_tag" not in front


def test_text_of_models_is_shown_and_never_rendered() -> None:
    hostile = replace(document(173), title=HOSTILE, warnings=(HOSTILE,), command="strop run '```\n# heading'")
    card = render_card(facts(173, document=hostile, notes=(HOSTILE,)))
    assert "<script>" not in card
    assert "\u202e" not in card
    assert not re.search(r"(?<!\\)\]\(javascript", card)
    assert not re.search(r"^# heading", card.replace("strop run ''''\n# heading'", ""), re.MULTILINE)
    assert card.count("```") == 2


def test_a_number_without_headline_is_said() -> None:
    bare = replace(document(173), numbers=(), stages=(), machine=(), provenance=())
    assert "The report names no headline number." in render_card(facts(173, document=bare, counts={}, training={}))
