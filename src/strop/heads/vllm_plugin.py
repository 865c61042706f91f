"""Tells vLLM the architectures of converted models; vLLM calls `register` in each of its processes.

The entry point is ``strop_moh`` in the group ``vllm.general_plugins``, so an environment that holds both packages needs
nothing else: ``vllm serve DIR --enforce-eager``. Attention is vLLM's own, with all heads and its paged cache; a head
that a token did not choose is multiplied by 0 where the output projection begins. The answers are those of the
converted model. **Nothing is saved**: no attention and no cache.

What was tried: the registration, against a recorded stand-in for ``vllm.ModelRegistry``; the gated decoder, against the
converted model in plain transformers, weights under the same names and logits equal; and the class that vLLM builds,
on a stand-in for vLLM's base class. What was **not** tried, as vLLM is not installed where strop is developed: loading
and serving in vLLM itself, any GPU, its fused projections, quantisation, pipeline parallelism. The rest was read off
vLLM's source (its Transformers modelling backend of 2026). Refused with a message: tensor parallelism, CUDA graphs and
compilation (routers look at their scores on the host), and query-norm routers where vLLM fuses the query projection.
"""

from __future__ import annotations

ARCHITECTURES = {
    "llama": "MoHLlamaForCausalLM",
    "mistral": "MoHMistralForCausalLM",
    "qwen2": "MoHQwen2ForCausalLM",
    "qwen3": "MoHQwen3ForCausalLM",
}
"""Names in a converted folder's config.json, by family."""
MODEL = "strop.heads.vllm_model:MoHTransformersForCausalLM"
"""Named, not imported: importing it here would load torch's GPU part in processes that must not."""


def register() -> None:
    """Register every architecture that vLLM does not know yet; called more than once in some of its processes."""
    from vllm import ModelRegistry

    known = ModelRegistry.get_supported_archs()
    for architecture in ARCHITECTURES.values():
        if architecture not in known:
            ModelRegistry.register_model(architecture, MODEL)
