"""Fixtures that every test may use."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
# Servers, tiny models and scripted players that tests of several folders import.
sys.path[:0] = [str(REPOSITORY / "tests" / folder) for folder in ("players", "models")]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the checkout; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("STROP_SHARED", REPOSITORY.parent / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set STROP_SHARED to the folder that holds data/")
    return folder


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--published DIR``: a checkout of MentalArena's repository, or a folder of its full data sets."""
    parser.addoption("--published", metavar="DIR", default=os.environ.get("STROP_PUBLISHED"))


@pytest.fixture(scope="session")
def published_data(request: pytest.FixtureRequest) -> Path:
    """The folder of the full published sets; tests that need it are skipped where none is given."""
    given = request.config.getoption("--published")
    if not given:
        pytest.skip("no published sets: give their folder with --published DIR, or set STROP_PUBLISHED")
    folder = Path(given)
    if not folder.is_dir():
        pytest.fail(f"--published {folder} is no folder")
    return folder


ENCODER_WORDS = """
i you we they feel felt think know want need try talk listen help hear see sad angry tired alone glad calm work home
family friend mother father school night day week life time what how why when please maybe should must can will
not and but or the a it is was be very really always never more less good bad hard easy . , ? !
"""


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real encoder folder: a random two-layer BERT of width 64 and window 64 that knows `ENCODER_WORDS`."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("encoder")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *ENCODER_WORDS.split()]
    (folder / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    tokenizer = BertTokenizerFast(vocab={word: place for place, word in enumerate(vocabulary)}, model_max_length=64)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=64,
        initializer_range=0.2,
    )
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_reward(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path) -> Path:
    """A real reward model folder: the tiny encoder with a random output layer, window 64."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from strop.models.rewards.facts import Normalisation, RewardFacts

    folder = tmp_path_factory.mktemp("reward")
    torch.manual_seed(1)
    model = AutoModelForSequenceClassification.from_pretrained(tiny_encoder, num_labels=1)
    torch.nn.init.normal_(model.classifier.weight)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_encoder).save_pretrained(folder)
    normalisation = Normalisation(mean=0.5, std=2.0, n=10)
    RewardFacts(form="pair", max_length=64, base="tiny encoder", normalisation=normalisation).write(folder)
    return folder
