"""vLLM as Ray runs it: the processor of `ray.data.llm`, an engine in each worker instead of a server.

vLLM needs a GPU: what is handed to Ray and read back is tested, the processor is used as Ray documents it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

from strop.errors import UserError
from strop.models.batching import Batch
from strop.models.cluster.ray_rows import Answer, Row, answer_row, batch_rows, calls_of
from strop.models.endpoints.wire import request_seed
from strop.models.placement import Placement
from strop.models.protocol import Completion
from strop.models.render import Chat, as_messages, read_completion
from strop.models.spec import ModelSpec
from strop.records.rows import prompt_to_json


def vllm_answers(
    ray: ModuleType, batches: Sequence[tuple[int, Batch]], spec: ModelSpec, placement: Placement
) -> Iterator[Any]:
    """Yield datasets of answers: conversations go through the engine's chat template, and texts pass it by.

    Args:
        ray: The library, connected.
        batches: Batches of one call, numbered: the engine batches by itself.
        spec: A vLLM model; `target` is a folder or a name on the hub.
        placement: How many engines, and how many GPUs each spreads over.

    Raises:
        UserError: Ray's part for language models is not installed.
    """
    for chat in (True, False):
        form = [one for one in batches if (as_messages(one[1].calls[0].prompt, chat=spec.chat) is not None) is chat]
        if form:
            processor = _processor(spec, placement, chat=chat)
            yield processor(ray.data.from_items(batch_rows(form)))


def _processor(spec: ModelSpec, placement: Placement, *, chat: bool) -> Any:
    try:
        from ray.data.llm import build_processor, vLLMEngineProcessorConfig
    except ImportError as error:
        raise UserError(
            "vLLM on Ray needs Ray's part for language models",
            why=str(error),
            fix="pip install 'ray[llm]' on all machines of the cluster, or serve: transformers",
        ) from error
    engine: dict[str, Any] = {"tensor_parallel_size": max(1, round(placement.gpus_per_replica))}
    if spec.dtype != "auto":
        engine["dtype"] = spec.dtype
    config = vLLMEngineProcessorConfig(
        model_source=spec.target,
        engine_kwargs=engine,
        concurrency=placement.replicas,
        batch_size=spec.max_concurrency,
        log_engine_metrics=False,
        chat_template_stage=chat,
        tokenize_stage=False,
        detokenize_stage=False,
    )
    return build_processor(
        config,
        preprocess=lambda row: engine_row(row, chat=spec.chat),
        postprocess=lambda row: engine_answer(row, chat=spec.chat),
    )


def engine_row(row: Row, *, chat: Chat) -> Row:
    """Return a row with its call as the engine wants it: the prompt, and how to sample."""
    (call,) = calls_of(row)
    sampling = call.sampling
    messages = as_messages(call.prompt, chat=chat)
    prompt: Row = {"prompt": call.prompt} if messages is None else {"messages": prompt_to_json(messages)}
    options: dict[str, Any] = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
        "seed": request_seed(call),
    }
    if sampling.stop:
        options["stop"] = list(sampling.stop)
    return {**row, **prompt, "sampling_params": options}


def engine_answer(row: Row, *, chat: Chat) -> Row:
    """Return the answer that the engine has put into its row.

    The engine does not say why a completion ended: one that is as long as it may be counts as cut.
    """
    (call,) = calls_of(row)
    written = int(row["num_generated_tokens"])
    completion = Completion(
        text=read_completion(row["generated_text"], call.prompt, chat=chat),
        prompt_tokens=int(row["num_input_tokens"]),
        completion_tokens=written,
        finish="length" if written >= call.sampling.max_tokens else "stop",
        latency_s=float(row["time_taken_llm"]),
    )
    return answer_row(row["batch"], Answer([(0, completion)]))
