"""What is known of a model that others have open: its name, its revision, its batches."""

from __future__ import annotations

from pathlib import Path

import pytest

from strop.errors import UserError
from strop.models.batching import chunks
from strop.models.cluster.fronts import open_front, settled
from strop.models.endpoints.endpoint import EndpointModel
from strop.models.local import LocalModel
from strop.models.opening import open_model
from strop.models.protocol import Call, Sampling
from strop.models.spec import parse_model
from strop.runs.budget import FREE

CALLS = [Call(f"go {number % 4}", Sampling(), number // 4) for number in range(10)]
SAMPLES = [Call(f"go {number // 3}", Sampling(), number % 3) for number in range(10)]


def test_the_front_of_weights_is_the_model_without_them(tiny_folder: Path) -> None:
    spec = settled(parse_model({"model": str(tiny_folder), "batch_size": 3, "chat": "on"}), device="cpu", dtype="auto")
    front, model = open_front(spec), open_model(spec)
    assert isinstance(model, LocalModel)
    assert (front.name, front.revision, front.price) == (model.name, model.revision, FREE)
    cut = [batch.places for batch in front.batches(CALLS, done=frozenset())]
    assert cut == [batch.places for batch in model.batching.batches(CALLS)]
    assert max(map(len, cut)) == 3


def test_half_precision_is_part_of_the_revision(tiny_folder: Path) -> None:
    spec = parse_model({"model": str(tiny_folder), "device": "cuda"})
    on_gpu = settled(spec, device="cpu", dtype="auto")
    assert (on_gpu.device, on_gpu.dtype) == ("cuda", "bfloat16")
    assert open_front(on_gpu).revision.endswith("+bfloat16")
    assert settled(spec, device="auto", dtype="float32").dtype == "float32"


def test_the_front_of_an_endpoint_is_its_client() -> None:
    spec = parse_model({"model": "http://127.0.0.1:9/v1#name", "max_concurrency": 2, "chat": "on"})
    front, model = open_front(settled(spec, device="cpu", dtype="auto")), EndpointModel(spec)
    assert (front.name, front.revision, front.price) == (model.name, model.revision, model.price)
    assert [len(batch.calls) for batch in front.batches(CALLS, done=frozenset())] == [4, 4, 2]


def test_the_front_of_an_engine_hands_out_single_calls() -> None:
    front = open_front(settled(parse_model({"model": "vllm:org/name", "chat": "on"}), device="cpu", dtype="auto"))
    assert (front.name, front.revision, front.price) == ("vllm:org/name", "vllm:org/name+chat-on", FREE)
    assert [batch.places for batch in front.batches(CALLS[:3], done={1})] == [[0], [2]]


def test_samples_of_a_prompt_stay_together() -> None:
    """Chunks of two calls grow to the end of a prompt's three samples; calls that are done are not among them."""
    assert [batch.places for batch in chunks(SAMPLES, 2)] == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
    assert [batch.places for batch in chunks(SAMPLES, 2, done={0, 1, 5})] == [[2, 3, 4], [6, 7, 8], [9]]
    assert list(chunks(SAMPLES, 2, done=set(range(10)))) == []
    assert list(chunks([], 2)) == []


def test_paths_are_settled_and_one_gpu_cannot_be_named(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_folder.parent)
    named = settled(parse_model(f"./{tiny_folder.name}"), device="cpu", dtype="auto")
    assert Path(named.target).is_absolute()
    assert Path(named.target).samefile(tiny_folder)
    (tmp_path / "replies.yaml").write_text("default: 'yes'")
    monkeypatch.chdir(tmp_path)
    assert settled(parse_model("scripted:replies.yaml"), device="cpu", dtype="auto").target == str(
        tmp_path / "replies.yaml"
    )
    with pytest.raises(UserError, match="Ray chooses the GPU"):
        settled(parse_model(str(tiny_folder)), device="cuda:1", dtype="auto")
