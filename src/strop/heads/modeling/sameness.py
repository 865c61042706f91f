"""Proof that a type of decoder can be converted: a small copy with all heads on gives the dense model's logits.

transformers has many decoders with q_proj, k_proj, v_proj and o_proj, and some do more with them than Llama does: a cap
on scores, sinks, other norms. No list of such differences is complete, so a type that is not among the tested ones is
tried out: same config, small sizes, large random weights, with padding and behind a cache.

Shapes: b batch rows, n tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from strop.errors import UserError
from strop.heads.layout import HeadLayout
from strop.heads.modeling.families import config_class, model_class
from strop.heads.modeling.settings import MoHSettings, head_counts

if TYPE_CHECKING:
    from torch import Tensor, nn

LIMIT = 1e-5
"""Largest difference of logits over the largest logit, in float32."""
HEADS, WIDTH, WINDOW, VOCABULARY, FEWEST_LAYERS, MOST_LAYERS = 4, 16, 5, 64, 4, 12
TOKENS, PADDED, CACHED = 14, 4, 9
MOST_WEIGHTS = 20_000_000
STANDARD_DEVIATION = 0.35
"""Of the projections: scores of ten and more, where a cap on them would be seen."""


def prove(config: Any) -> None:
    """Compare a small copy of a dense model, converted at full activation, with itself.

    Args:
        config: The dense model's, of transformers.

    Raises:
        UserError: The copy cannot be built or converted, or its logits differ: the reason is in it.
    """
    family = str(config.model_type)
    try:
        apart = _apart(_small(config))
    except UserError as error:
        reason = "; ".join(str(part) for part in (error.what, error.value, error.why) if part is not None)
        raise _refusal(family, reason) from error
    except Exception as error:  # what transformers' model classes raise has no common class
        raise _refusal(family, f"{type(error).__name__}: {error}".split("\n")[0].split(". ")[0]) from error
    if not apart <= LIMIT:
        raise _refusal(family, f"a small copy with all heads on differs from the dense model by {apart:.1g}")


def _refusal(family: str, why: str) -> UserError:
    return UserError(
        "models of this type cannot be converted",
        value=family,
        why=why,
        fix="convert a decoder whose attention is laid out as Llama's, Qwen3's or OLMo 2's",
    )


def _small(config: Any) -> Any:
    """Return the same config with small sizes, and with as many layers as show each kind of layer."""
    heads, groups = head_counts(config)
    told = {key: value for key, value in config.to_dict().items() if key not in ("model_type", "architectures")}
    kinds = list(getattr(config, "layer_types", None) or [])
    first_seen = [kinds.index(kind) for kind in set(kinds)]
    layers = min(config.num_hidden_layers, max([FEWEST_LAYERS, *(place + 1 for place in first_seen)]), MOST_LAYERS)
    for key, value in told.items():
        if isinstance(value, list) and len(value) == config.num_hidden_layers:
            told[key] = value[:layers]  # one entry a layer
    small = {
        "hidden_size": HEADS * WIDTH,
        "intermediate_size": 96,
        "moe_intermediate_size": 32,
        "num_hidden_layers": layers,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS if groups == heads else min(groups, 2),
        "head_dim": WIDTH,
        "vocab_size": VOCABULARY,
        "sliding_window": WINDOW,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    untold = ("num_key_value_heads", "head_dim")  # None may stand for what follows from the other sizes
    told |= {key: value for key, value in small.items() if told.get(key) is not None or (key in told and key in untold)}
    return type(config)(**told | {"attention_dropout": 0.0})


def _apart(config: Any) -> float:
    """Return the largest difference between the dense model and its conversion, over the largest logit."""
    import torch
    from accelerate import init_empty_weights
    from transformers import AutoModelForCausalLM

    with init_empty_weights():
        weights = sum(weight.numel() for weight in AutoModelForCausalLM.from_config(config).parameters())
    if weights > MOST_WEIGHTS:
        raise UserError("its sizes have other names than Llama's", value=f"{weights:,} weights in a small copy")
    with torch.random.fork_rng(devices=[]):
        dense = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval()
        _draw(dense)
        routed = _converted(dense, config)
    ids_bn = torch.randint(3, VOCABULARY, (2, TOKENS), generator=torch.Generator().manual_seed(0))
    mask_bn = torch.ones_like(ids_bn)
    mask_bn[0, :PADDED] = 0
    with torch.no_grad():
        pairs = [
            (
                model(input_ids=ids_bn).logits,
                model(input_ids=ids_bn, attention_mask=mask_bn).logits[:, PADDED:],
                _behind_a_cache(model, ids_bn),
            )
            for model in (dense, routed)
        ]
    # torch's maximum keeps a NaN, which no limit lets pass; Python's may drop it.
    differences = [(mine - own).abs().max() / own.abs().max() for own, mine in zip(*pairs, strict=True)]
    return float(torch.stack(differences).max())


def _behind_a_cache(model: Any, ids_bn: Tensor) -> Tensor:
    begun = model(input_ids=ids_bn[:, :CACHED], use_cache=True)
    logits: Tensor = model(input_ids=ids_bn[:, CACHED : CACHED + 1], past_key_values=begun.past_key_values).logits
    return logits


def _draw(dense: nn.Module) -> None:
    """Draw weights that make every part of attention matter."""
    import torch

    generator = torch.Generator().manual_seed(0)
    for name, weight in dense.state_dict().items():
        if weight.dim() >= 2 and ".self_attn." in name:
            weight.copy_(torch.randn(weight.shape, generator=generator) * STANDARD_DEVIATION)
        elif "norm" in name and weight.is_floating_point():
            weight.copy_(1 + 0.2 * torch.randn(weight.shape, generator=generator))


def _converted(dense: Any, config: Any) -> Any:
    """Return the same weights with all heads on.

    Raises:
        UserError: The dense attention has weights that a converted one does not know, or is laid out differently.
    """
    heads, groups = head_counts(config)
    layout = HeadLayout(query_heads=heads, kv_groups=groups, shared=(), active=heads)
    told = {key: value for key, value in config.to_dict().items() if key not in ("model_type", "architectures")}
    moh = MoHSettings(layers=(layout,) * config.num_hidden_layers).to_dict()
    routed = model_class(config.model_type)(config_class(config.model_type)(**told, moh=moh)).eval()
    found = routed.load_state_dict(dense.state_dict(), strict=False)
    strange = found.unexpected_keys + [name for name in found.missing_keys if ".router." not in name]
    if strange:
        raise UserError("its attention has weights that are not known", value=", ".join(sorted(strange)[:3]))
    return routed
