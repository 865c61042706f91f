"""`strop endpoint check` against real servers: equal ones pass, and the first difference of others is named.

The tiny Llama behind an HTTP server of ours stands for vLLM (which tells its tokens) and for servers that tell nothing
but counts; llama.cpp's own server is in `test_llama_server.py`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from strop.cli.main import run
from strop.errors import UserError
from strop.models.local import LocalModel
from strop.models.serving.served import ServedModel, open_served
from strop.models.serving.serving_check import (
    ServingCheck,
    check_serving,
    open_local,
    read_prompts,
    template_hash,
    use_template,
)
from strop.models.serving.serving_text import lines_of, verdict
from strop.records.rows import Message, Prompt
from strop.records.tables import write_table
from tiny_llama import CHAT_TEMPLATE, build_model, build_tokenizer
from token_server import ABSENT, TokenServer

PROMPTS: dict[str, Prompt] = {
    "chat": (Message("user", "how many apples has 7?"),),
    "turns": (Message("user", "apples"), Message("assistant", "books"), Message("user", "and 3?")),
    "plain": "Question: how many books?\nAnswer:",
}
WRONG_TEMPLATE = CHAT_TEMPLATE.replace("'assistant:'", "'Answer:'")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> LocalModel:
    """Another model with the same tokenizer."""
    folder = tmp_path_factory.mktemp("other")
    tokenizer = build_tokenizer(chat=True)
    tokenizer.save_pretrained(folder)
    build_model(tokenizer, seed=7).save_pretrained(folder)
    return LocalModel(folder, device="cpu")


@pytest.fixture
def local(tiny_folder: Path) -> LocalModel:
    """The tiny Llama once more, whose template a test may change."""
    return LocalModel(tiny_folder, device="cpu")


def _check(server: TokenServer, model: LocalModel, **options: float) -> ServingCheck:
    served = open_served(f"{server.url}#tiny")
    try:
        margin, tokens = options.get("margin", 0.01), int(options.get("max_tokens", 12))
        return check_serving(served, model, PROMPTS, margin=margin, max_tokens=tokens)
    finally:
        served.close()


def test_the_same_model_is_the_same(tiny: LocalModel, local: LocalModel) -> None:
    with TokenServer(tiny) as server:
        found = _check(server, local)
    assert found.same
    assert found.kind == "vllm"
    assert found.template == template_hash(CHAT_TEMPLATE)
    assert [check.evidence for check in found.prompts] == ["tokens"] * 3
    for check in found.prompts:
        assert check.text is not None
        assert check.text.disagreements == ()
        assert not check.text.reencoded
        # The same computation on both sides, but for the server's own way of batching it: a few roundings.
        assert check.text.log_prob_difference == pytest.approx(0, abs=1e-4)
    assert verdict(found) == "server and local model are the same"
    assert list(lines_of(found))[-1] == "3 prompts compared, 0 skipped: the same"


@pytest.mark.parametrize("side", ["server", "local"])
def test_a_wrong_template_is_named_by_its_first_token(local: LocalModel, tiny_folder: Path, side: str) -> None:
    r"""'user:how many apples has 7?<eos>\n' is 'user' ':' 'how' ' many' ' apples' ' has' ' ' '7' '?' '<eos>' '\n'.

    The words 'user' and 'assistant' are not in the vocabulary, ' 7' is: 10 tokens in front, so the eleventh differs.
    """
    wrong = LocalModel(tiny_folder, device="cpu")
    wrong.tokenizer.chat_template = WRONG_TEMPLATE
    behind, here = (wrong, local) if side == "server" else (local, wrong)
    with TokenServer(behind) as server:
        found = _check(server, here)
    assert not found.same
    difference = found.prompts[0].difference
    assert difference is not None
    assert difference.index == 10
    assert difference.server is not None
    assert difference.local is not None
    names = {"<unk>", "Answer"}
    assert {difference.server.text, difference.local.text} == names
    assert (difference.server.text == "Answer") == (side == "server")
    assert difference.before.endswith("how many apples has 7?<eos>\n")
    assert found.prompts[0].text is None
    assert found.prompts[2].difference is None
    text = "\n".join(lines_of(found))
    assert "x chat: prompt tokens differ at index 10: server " in text
    assert f"{difference.server.id} {difference.server.text!r}" in text
    assert ">    10 " in text


def test_a_template_that_ends_early_is_named_too(local: LocalModel, tiny: LocalModel) -> None:
    local.tokenizer.chat_template = CHAT_TEMPLATE.split("{% if")[0]
    with TokenServer(tiny) as server:
        difference = _check(server, local).prompts[0].difference
    assert difference is not None
    assert difference.local is None
    assert difference.server is not None


def test_other_weights_differ_in_their_text_and_a_wide_margin_lets_them_pass(
    tiny: LocalModel, other: LocalModel
) -> None:
    with TokenServer(other) as server:
        strict, lenient = _check(server, tiny), _check(server, tiny, margin=1000)
    assert not strict.same
    assert lenient.same
    failed = next(check for check in strict.prompts if check.failed(strict.margin))
    assert failed.text is not None
    failure = failed.text.failure(strict.margin)
    assert failure is not None
    assert failure.gap >= failure.top_two > 0
    assert failure.server.id != failure.local.id
    assert f"greedy text differs at token {failure.index}" in verdict(strict)
    assert "within rounding" in "\n".join(lines_of(lenient))
    assert strict.log_prob_difference is not None
    assert strict.log_prob_difference > 0.1


def test_the_gap_is_the_difference_of_the_local_log_probabilities(tiny: LocalModel, other: LocalModel) -> None:
    """Recomputed token by token with separate forward passes."""
    import torch

    from strop.models.render import encode_prompts

    with TokenServer(other) as server:
        found = _check(server, tiny).prompts[2].text
        assert found is not None
        ids = encode_prompts(other.tokenizer, [PROMPTS["plain"]])[0]
        written, _ = server._write(ids, 12)
    expected: list[tuple[int, float]] = []
    for place, token in enumerate(written):
        with torch.inference_mode():
            logits_v = tiny.model(input_ids=torch.tensor([ids + written[:place]])).logits[0, -1].log_softmax(-1)
        if int(logits_v.argmax()) != token:
            expected.append((place, float(logits_v.max() - logits_v[token])))
    assert [place.index for place in found.disagreements] == [index for index, _ in expected]
    assert [place.gap for place in found.disagreements] == pytest.approx([gap for _, gap in expected], abs=1e-4)


def test_a_server_that_tells_only_counts_is_weaker_evidence(tiny: LocalModel, local: LocalModel) -> None:
    with TokenServer(tiny, tells_tokens=False, wishes_refused=True) as server:
        same = _check(server, local)
        local.tokenizer.chat_template = CHAT_TEMPLATE.replace("'assistant:'", "'assistant: '")
        wrong = _check(server, local)
    assert same.same
    assert same.kind == "other"
    assert [check.evidence for check in same.prompts] == ["count"] * 3
    assert same.log_prob_difference is None
    assert all(check.text is not None and check.text.reencoded for check in same.prompts)
    assert "weaker" in "\n".join(lines_of(same))
    assert not wrong.same
    assert "the local model reads" in verdict(wrong)


def test_a_server_that_reads_other_tokens_than_it_tells(tiny: LocalModel, local: LocalModel) -> None:
    reply = {
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "books"}}],
        "usage": {"prompt_tokens": 99, "completion_tokens": 2},
    }
    with TokenServer(tiny, replies={"/v1/chat/completions": (200, json.dumps(reply))}) as server:
        found = _check(server, local)
    assert "but it read 99" in verdict(found)


def test_plain_text_is_skipped_where_the_server_has_conversations_only(tiny: LocalModel) -> None:
    with TokenServer(tiny, completes_text=False) as server:
        found = _check(server, tiny)
    assert found.same
    assert found.prompts[2].evidence == "none"
    assert "2 prompts compared, 1 skipped" in "\n".join(lines_of(found))


def test_a_model_without_a_template_is_compared_on_plain_text(tiny: LocalModel, local: LocalModel) -> None:
    local.tokenizer.chat_template = None
    with TokenServer(tiny) as server:
        found = _check(server, local)
        assert [check.evidence for check in found.prompts] == ["none", "none", "tokens"]
        with pytest.raises(UserError, match="no prompt could be compared"):
            check_serving(ServedModel(open_served(server.url).spec), local, {"chat": PROMPTS["chat"]})


def test_prompts_alone(tiny: LocalModel) -> None:
    with TokenServer(tiny) as server:
        found = _check(server, tiny, max_tokens=0)
    assert found.same
    assert [check.text for check in found.prompts] == [None] * 3


@pytest.mark.parametrize(
    ("path", "status", "body", "message"),
    [
        ("/apply-template", 401, "{}", "refuses the key"),
        ("/v1/chat/completions", 500, "out of order", "status 500"),
        ("/v1/chat/completions", 200, "not JSON", "nothing to compare"),
        ("/v1/chat/completions", 200, "[]", "nothing to compare"),
        ("/v1/chat/completions", 200, "{}", "not what the protocol promises"),
        ("/v1/chat/completions", 200, '{"choices": [{"finish_reason": "stop", "message": null}]}', "protocol"),
        (
            "/v1/chat/completions",
            200,
            '{"choices": [{"finish_reason": "content_filter", "message": {"content": ""}}]}',
            "content_filter",
        ),
        ("/v1/chat/completions", 404, '{"error": "The model `tiny` does not exist."}', "does not exist"),
    ],
)
def test_what_a_server_may_answer_instead(tiny: LocalModel, path: str, status: int, body: str, message: str) -> None:
    with TokenServer(tiny, replies={path: (status, body)}) as server, pytest.raises(UserError, match=message):
        _check(server, tiny)


def test_a_server_that_is_not_there() -> None:
    with pytest.raises(UserError, match="cannot be reached"):
        open_served("http://127.0.0.1:9/v1")


def test_the_key_is_sent_and_never_shown(tiny: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANTED_KEY", "sk-planted")
    echo = {"/v1/chat/completions": (500, "no: sk-planted")}
    with TokenServer(tiny, replies=echo) as server:
        served = open_served(f"{server.url}#tiny", api_key_env="PLANTED_KEY")
        with pytest.raises(UserError) as raised:
            check_serving(served, tiny, PROMPTS)
        assert {headers["authorization"] for headers in server.headers} == {"Bearer sk-planted"}
    assert "***" in str(raised.value)
    assert "sk-planted" not in str(raised.value)


def test_the_only_model_of_a_server_needs_no_name(tiny: LocalModel) -> None:
    with TokenServer(tiny) as server:
        assert open_served(server.url).spec.target == "tiny"
    several = json.dumps({"data": [{"id": "a"}, {"id": "b"}]})
    listed = {"/v1/models": (200, several)}
    with TokenServer(tiny, replies=listed) as server, pytest.raises(UserError, match="available: a, b"):
        open_served(server.url)
    with pytest.raises(UserError, match="not the URL of a server"):
        open_served("builtin:stories-weak")


def test_the_local_model_needs_weights() -> None:
    for name in ("vllm:some/model", "http://127.0.0.1:9/v1#some"):
        with pytest.raises(UserError, match="without weights"):
            open_local(name)


def test_prompts_of_a_file(tmp_path: Path) -> None:
    write_table(tmp_path / "p.jsonl", [{"id": 7, "prompt": "a"}, {"prompt": [{"role": "user", "content": "b"}]}])
    assert read_prompts(tmp_path / "p.jsonl") == {"7 (row 1)": "a", "row (row 2)": (Message("user", "b"),)}
    write_table(tmp_path / "bad.jsonl", [{"question": "a"}])
    with pytest.raises(UserError, match="row 1: no field 'prompt'"):
        read_prompts(tmp_path / "bad.jsonl")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(UserError, match="without prompts"):
        read_prompts(tmp_path / "empty.jsonl")


def test_a_template_of_a_file(local: LocalModel, tmp_path: Path) -> None:
    (tmp_path / "wrong.jinja").write_text(WRONG_TEMPLATE)
    use_template(local, tmp_path / "wrong.jinja")
    assert local.tokenizer.chat_template == WRONG_TEMPLATE
    with pytest.raises(UserError, match="cannot be read"):
        use_template(local, tmp_path / "absent.jinja")


def test_the_verb(tiny: LocalModel, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "wrong.jinja").write_text(WRONG_TEMPLATE)
    prompts = tmp_path / "prompts.jsonl"
    write_table(prompts, [{"id": "q", "prompt": [{"role": "user", "content": "how many apples?"}]}])
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    with TokenServer(tiny) as server:
        command = ["endpoint", "check", server.url, "--model", str(folder), "--prompts", str(prompts), "--quiet"]
        assert run([*command, "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
        assert document["same"]
        assert document["prompts"][0]["text"]["disagreements"] == []
        assert run([*command, "--chat-template", str(tmp_path / "wrong.jinja")]) == 2
        shown = capsys.readouterr()
        assert run([*command, "--chat-template", str(tmp_path / "wrong.jinja"), "--json"]) == 2
        assert not json.loads(capsys.readouterr().out)["same"]
    assert "prompt tokens differ at index" in shown.out
    assert "fix: serve the same weights, tokenizer and chat template" in shown.err


def test_an_absent_path_is_no_evidence(tiny: LocalModel) -> None:
    with TokenServer(tiny, replies={"/tokenize": ABSENT}) as server:
        assert _check(server, tiny).kind == "other"
