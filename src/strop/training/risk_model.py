"""A small model that reads risk: a sentence encoder trained on labelled messages, as a second opinion of the screen.

Rules have words only for what somebody thought of; a trained encoder also notices what is put in other words, and errs
in other places. It learns four yes-or-no questions from each message: is its level at least 1, 2, 3, 4? One linear
layer on the encoder's vector answers them, and all weights are trained. What it says only ever raises the rules' level.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from strop.errors import UserError
from strop.models.embedding import encoder_folder, halves
from strop.models.weights import folder_revision
from strop.records.tables import atomic_path
from strop.runs.seeds import derive_seed, stream
from strop.safety.levels import Level
from strop.safety.patterns import SAFETY

EXAMPLES = SAFETY / "examples-v1.txt"
HEAD = "risk.json"
ENCODER = "encoder"
QUESTIONS = (Level.PASSIVE, Level.ACTIVE, Level.PLAN, Level.IMMINENT)
SCALE = 8.0
"""The encoder's vectors have length 1; the layer reads them this much longer, and learns at the encoder's pace."""
TEXTS_AT_ONCE = 64

Example = tuple[str, Level]
"""A message and its label."""


@dataclass(frozen=True, slots=True)
class RiskTraining:
    """How the model is trained.

    Attributes:
        encoder: ``builtin:minilm``, or the folder of an encoder.
        epochs: Passes over the examples.
        batch: Examples a step.
        rate: Highest learning rate of the encoder, reached after a tenth of the steps and falling to zero.
        head_rate: The same of the linear layer.
        noise: Share of examples that are shown with typing errors, anew in each pass.
        thresholds: Probability from which each of the four questions is answered yes.
        seed: Of the order, the typing errors and the layer's first weights.
    """

    encoder: str = "builtin:minilm"
    epochs: int = 6
    batch: int = 32
    rate: float = 8e-5
    head_rate: float = 3e-3
    noise: float = 0.3
    thresholds: tuple[float, float, float, float] = (0.5, 0.5, 0.35, 0.5)
    seed: int = 0


@dataclass(frozen=True)
class RiskModel:
    """A trained model: called with a conversation as the screen writes it, it says a level.

    Attributes:
        thresholds: Probability from which each question is answered yes.
        revision: Hash of its weights.
        encoder: The sentence encoder.
        weight: The linear layer, ``(4, width)``.
        bias: Its bias, ``(4,)``.
    """

    thresholds: tuple[float, ...]
    revision: str
    encoder: Any = field(repr=False)
    weight: Any = field(repr=False)
    bias: Any = field(repr=False)

    def __call__(self, conversation: str) -> Level:
        """Return the level of what the client wrote: of any turn, or of all turns together."""
        said = client_turns(conversation)
        texts = [*said, "\n".join(said)] if len(said) > 1 else said
        found = [level for _, level in zip(texts, self.levels(texts), strict=True)]
        return max(found, default=Level.NONE)

    def levels(self, texts: Sequence[str]) -> list[Level]:
        """Return the level of each text; a text over the encoder's window is read in parts, and the highest counts."""
        levels = []
        for row in self.probabilities(texts):
            yes = [level for level, value, least in zip(QUESTIONS, row, self.thresholds, strict=True) if value >= least]
            levels.append(max(yes, default=Level.NONE))
        return levels

    def probabilities(self, texts: Sequence[str]) -> list[list[float]]:
        """Return for each text the probabilities that its level is at least 1, 2, 3, 4."""
        import numpy as np

        parts = [list(self._parts(text)) for text in texts]
        flat = [part for text in parts for part in text]
        if not flat:
            return [[0.0] * len(QUESTIONS) for _ in texts]
        vectors = self.encoder.encode(flat, batch_size=TEXTS_AT_ONCE, show_progress_bar=False)
        scores = 1 / (1 + np.exp(-(np.asarray(vectors) * SCALE @ self.weight.T + self.bias)))
        found, start = [], 0
        for text in parts:
            own = scores[start : start + len(text)]
            start += len(text)
            found.append(own.max(axis=0).tolist() if len(own) else [0.0] * len(QUESTIONS))
        return found

    def _parts(self, text: str) -> Iterator[str]:
        waiting = [text] if text.strip() else []
        while waiting:
            part = waiting.pop()
            tokens = len(self.encoder.tokenizer(part, verbose=False)["input_ids"])
            if tokens <= self.encoder.max_seq_length or len(part) < 2:
                yield part
            else:
                waiting += reversed(halves(part))


def client_text(conversation: str) -> str:
    """Return what the client wrote in a conversation as the screen writes it."""
    return "\n".join(client_turns(conversation))


def client_turns(conversation: str) -> list[str]:
    """Return the client's turns of a conversation as the screen writes it (`strop.safety.screen.as_text`)."""
    return [text for speaker, text in _turns(conversation) if speaker == "client"]


def _turns(conversation: str) -> list[tuple[str, str]]:
    turns: list[tuple[str, str]] = []
    for line in conversation.split("\n"):
        speaker, colon, text = line.partition(": ")
        if colon and speaker in ("client", "reply"):
            turns.append((speaker, text))
        elif turns:
            turns[-1] = (turns[-1][0], f"{turns[-1][1]}\n{line}")
        else:
            turns.append(("client", line))
    return turns


def read_examples(path: Path = EXAMPLES) -> list[Example]:
    """Read labelled examples, one a line: the level, a space, the message; lines that begin with # are remarks.

    Raises:
        UserError: The file cannot be read, or a line has no level.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError("the examples cannot be read", value=str(path), why=str(error)) from None
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        level, _, text = line.strip().partition(" ")
        if level not in {str(int(each)) for each in Level} or not text:
            raise UserError(f"{path}, line {number}: an example is a level of 0 to 4 and a message", value=line[:80])
        found.append((text, Level(int(level))))
    return found


def with_typing_errors(text: str, generator: random.Random) -> str:
    """Return `text` with a letter swapped, dropped or doubled in about every third word, or without capitals."""
    words = text.lower().split(" ") if generator.random() < 0.5 else text.split(" ")
    for number, word in enumerate(words):
        if len(word) > 2 and generator.random() < 0.3:
            place = generator.randrange(len(word) - 1)
            swapped = word[:place] + word[place + 1] + word[place] + word[place + 2 :]
            dropped, doubled = word[:place] + word[place + 1 :], word[: place + 1] + word[place:]
            words[number] = generator.choice((swapped, dropped, doubled))
    return " ".join(words)


def fit_risk_model(
    examples: Sequence[Example],
    out: Path,
    *,
    training: RiskTraining | None = None,
    advance: Callable[[int], None] | None = None,
) -> RiskModel:
    """Train a model on labelled messages and write it to a folder.

    Args:
        examples: The messages; both calm ones and ones of the two highest levels are needed.
        out: The folder.
        training: How; the defaults were chosen on the development part of the shipped set.
        advance: Told the number of further steps done.

    Raises:
        UserError: One of the kinds of messages is missing.
    """
    import numpy as np
    import torch

    from strop.models.batching import quiet_transformers

    training = training or RiskTraining()
    labels = [level for _, level in examples]
    if Level.NONE not in labels or max(labels, default=Level.NONE) < Level.PLAN:
        raise UserError("a risk model learns from calm messages and from messages at the two highest levels")
    torch.manual_seed(derive_seed(training.seed, "risk model"))
    encoder = _load(encoder_folder(training.encoder))
    layer = torch.nn.Linear(encoder.get_embedding_dimension(), len(QUESTIONS))
    targets = torch.tensor([[float(level >= question) for question in QUESTIONS] for level in labels])
    _train(encoder, layer, [text for text, _ in examples], targets, training, advance or (lambda _: None))
    out.mkdir(parents=True, exist_ok=True)
    with quiet_transformers():
        encoder.save(str(out / ENCODER), create_model_card=False)
    head = {
        "weight": layer.weight.detach().numpy().astype(np.float64).tolist(),
        "bias": layer.bias.detach().numpy().astype(np.float64).tolist(),
        "examples": len(examples),
        "training": asdict(training),
    }
    with atomic_path(out / HEAD) as part:
        part.write_text(json.dumps(head) + "\n", encoding="utf-8")
    return open_risk_model(out)


def _train(
    encoder: Any, layer: Any, texts: list[str], targets: Any, training: RiskTraining, advance: Callable[[int], None]
) -> None:
    import torch

    rates = [training.rate, training.head_rate]
    groups = [{"params": part.parameters(), "lr": rate} for part, rate in zip((encoder, layer), rates, strict=True)]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
    steps = training.epochs * -(-len(texts) // training.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=steps, pct_start=0.1)
    encoder.train()
    for epoch in range(training.epochs):
        generator = stream(training.seed, "risk model", epoch)
        for rows in _batches([len(text) for text in texts], training.batch, generator):
            shown = [
                with_typing_errors(texts[row], generator) if generator.random() < training.noise else texts[row]
                for row in rows
            ]
            vectors = encoder(encoder.preprocess(shown))["sentence_embedding"]
            loss = torch.nn.functional.binary_cross_entropy_with_logits(layer(vectors * SCALE), targets[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch's own annotations are incomplete
            optimizer.step()
            schedule.step()
            advance(1)
    encoder.eval()


def _batches(lengths: Sequence[int], size: int, generator: random.Random) -> list[list[int]]:
    """Return rows in random batches of like length: the encoder pads to the longest text of a batch."""
    order = generator.sample(range(len(lengths)), len(lengths))
    batches = []
    for start in range(0, len(order), 8 * size):
        block = sorted(order[start : start + 8 * size], key=lambda row: lengths[row])
        batches += [block[first : first + size] for first in range(0, len(block), size)]
    generator.shuffle(batches)
    return batches


def _load(folder: Path) -> Any:
    from sentence_transformers import SentenceTransformer

    from strop.models.batching import quiet_transformers

    with quiet_transformers():
        return SentenceTransformer(
            str(folder),
            device="cpu",
            trust_remote_code=False,
            local_files_only=True,
            model_kwargs={"use_safetensors": True, "dtype": "float32"},
        )


def open_risk_model(folder: Path) -> RiskModel:
    """Open a model that `fit_risk_model` wrote.

    Raises:
        UserError: The folder holds none.
    """
    import numpy as np

    path = folder / HEAD
    if not path.is_file():
        raise UserError(
            "no risk model in this folder", value=str(folder), fix="train one with strop safety fit --out FOLDER"
        )
    head = json.loads(path.read_text(encoding="utf-8"))
    weight, bias = np.asarray(head["weight"]), np.asarray(head["bias"])
    thresholds = tuple(head["training"]["thresholds"])
    return RiskModel(thresholds, folder_revision(folder / ENCODER), _load(folder / ENCODER), weight, bias)
