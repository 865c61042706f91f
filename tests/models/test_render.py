"""Rendering: one beginning of sequence, one end of turn, and training that continues generation's own tokens."""

from __future__ import annotations

from typing import Any

import pytest

from strop.errors import UserError
from strop.models.render import encode_examples, encode_prompts, read_completion, render_example, render_prompt
from strop.records.rows import Message
from tiny_llama import build_tokenizer

PLAIN = "Question: has 2 apples?\nAnswer:"
CONVERSATION = (Message("system", "go"), Message("user", "has 2"))


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return build_tokenizer(chat=True)


def byte_tokenizer(*, bos: bool, eos: bool, template: str | None = None) -> Any:
    """One token a character, with a post-processor that adds <s> in front or </s> behind, as Llama's and Gemma's do."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    tokens = ["<s>", "</s>", "<unk>", *map(chr, range(32, 127)), "\n"]
    inner = Tokenizer(models.WordLevel({token: index for index, token in enumerate(tokens)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    inner.decoder = decoders.Fuse()
    single = f"{'<s> ' if bos else ''}$A{' </s>' if eos else ''}"
    inner.post_processor = processors.TemplateProcessing(single=single, special_tokens=[("<s>", 0), ("</s>", 1)])
    wrapped = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    wrapped.chat_template = template
    return wrapped


LLAMA_LIKE = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %}{{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
)
CHATML = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
BARE = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
FORGETFUL = "{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}Think!{% endif %}"


def test_plain_prompts_go_as_they_are_and_responses_follow_after_one_space(tokenizer: Any) -> None:
    assert render_prompt(tokenizer, PLAIN) == PLAIN
    assert render_example(tokenizer, PLAIN, "2 #### 2") == (PLAIN, " 2 #### 2<eos>")


def test_a_response_read_back_is_the_response_written(tokenizer: Any) -> None:
    for response in ("2", " 2", "\n2", ""):
        _, completion = render_example(tokenizer, PLAIN, response)
        assert read_completion(completion.removesuffix("<eos>"), PLAIN) == response


def test_conversations_use_the_tokenizers_template(tokenizer: Any) -> None:
    assert render_prompt(tokenizer, CONVERSATION) == "system:go<eos>\nuser:has 2<eos>\nassistant:"
    prompt, completion = render_example(tokenizer, CONVERSATION, "2")
    assert prompt == render_prompt(tokenizer, CONVERSATION)
    assert completion == "2<eos>"
    assert render_prompt(tokenizer, "has 2", chat="on") == "user:has 2<eos>\nassistant:"


@pytest.mark.parametrize("bos", [True, False])
@pytest.mark.parametrize("eos", [True, False])
@pytest.mark.parametrize("template", [LLAMA_LIKE, CHATML, BARE])
def test_one_beginning_and_one_end_whatever_tokenizer_and_template_add(bos: bool, eos: bool, template: str) -> None:
    """Ids 0 and 1 are <s> and </s>; only BARE has no end of turn of its own, so that </s> ends it."""
    tokenizer = byte_tokenizer(bos=bos, eos=eos, template=template)
    plain, conversation = "2 + 2 =", (Message("user", "2 + 2?"),)
    examples = encode_examples(tokenizer, [(plain, "4"), (conversation, "4")])
    assert [prompt for prompt, _ in examples] == encode_prompts(tokenizer, [plain, conversation])
    assert examples[0][0].count(0) == int(bos)
    assert examples[1][0].count(0) == int(template == LLAMA_LIKE)
    for prompt, completion in examples:
        assert 0 not in completion
        assert completion[-1] == 1
        assert completion.count(1) == 1
        assert prompt[-1:] != [1]
    assert tokenizer.decode(examples[0][1][:-1]) == " 4"
    assert tokenizer.decode(examples[1][1][:-1]) == "4"


def test_a_token_across_the_border_is_not_trained_on() -> None:
    """The tokenizer merges ``=`` and a space; generation starts behind ``=``, so the completion is ``<space>4``."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens = {"<eos>": 0, "2": 1, "=": 2, "= ": 3, " ": 4, "4": 5, " 4": 6}
    inner = Tokenizer(models.WordLevel(tokens, unk_token="<eos>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex("= | 4|[24=]"), behavior="isolated")
    tokenizer: Any = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<eos>")
    assert tokenizer("2= 4").input_ids == [1, 3, 5]
    assert encode_examples(tokenizer, [("2=", "4")]) == [([1, 2], [6, 0])]


def test_refusals(tokenizer: Any) -> None:
    with pytest.raises(UserError, match="chat: off"):
        render_prompt(tokenizer, CONVERSATION, chat="off")
    with pytest.raises(UserError, match="without a chat template"):
        render_prompt(build_tokenizer(), CONVERSATION)
    with pytest.raises(UserError, match="behind its own generation prompt"):
        render_example(byte_tokenizer(bos=False, eos=False, template=FORGETFUL), CONVERSATION, "2")
    endless = build_tokenizer()
    endless.eos_token = None
    with pytest.raises(UserError, match="never learns to stop"):
        render_example(endless, PLAIN, "2")


def test_generation_continues_the_tokens_that_training_saw(tokenizer: Any) -> None:
    ((prompt, completion),) = encode_examples(tokenizer, [(PLAIN, "2 #### 2")])
    assert encode_prompts(tokenizer, [PLAIN]) == [prompt]
    assert tokenizer.convert_ids_to_tokens(completion) == [" 2", " ####", " 2", "<eos>"]
    assert prompt + completion == tokenizer(PLAIN + " 2 #### 2<eos>").input_ids
