"""The settings of one training: what is learned from the rows, at which pace, and how it is launched."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from strop.runs.configuration import Config


class LoraSettings(Config):
    """Low-rank adapters (Hu et al., 2021, arXiv 2106.09685) in place of full fine-tuning."""

    rank: int = Field(8, ge=1)
    """Rank of each update matrix."""
    alpha: float = Field(16, gt=0)
    """The update is scaled by `alpha / rank`."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on the input of each adapter."""
    target_modules: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """The linear layers that carry an adapter, by name; `all-linear` is every one except the output head."""
    merge: bool = True
    """Also write the model with the adapter merged into it, in full precision."""


class TrainingSettings(Config):
    """Supervised fine-tuning on prompts and responses; the loss covers the response and its end token only."""

    learning_rate: float = Field(gt=0)
    """Peak learning rate of AdamW."""
    epochs: float | None = Field(None, gt=0)
    """Passes over the rows; give this or `max_steps`."""
    max_steps: int | None = Field(None, ge=1)
    """Optimiser steps; give this or `epochs`."""
    batch_size: int = Field(32, ge=1)
    """Examples (or pairs) per optimiser step, over all processes and accumulation steps together."""
    micro_batch_size: int = Field(8, ge=1)
    """Examples (or pairs) that one process holds in memory at once; changes speed and memory, never the loss."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """Course of the learning rate after the warm-up: down to zero along a line or a cosine, or constant."""
    final_rate: float = Field(0.0, ge=0, lt=1)
    """Cosine only: the share of the learning rate that is left at the last step."""
    warmup_ratio: float = Field(0.0, ge=0, lt=1)
    """Share of the steps in which the learning rate rises linearly from zero."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled weight decay of AdamW; biases and norms are exempt."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's decay rates of the first and the second moment."""
    max_grad_norm: float = Field(1.0, ge=0)
    """Gradients are scaled down to this norm; 0 leaves them as they are."""
    max_length: int = Field(1024, ge=2)
    """Longest prompt + response in tokens; see `too_long`."""
    chat: Literal["auto", "on", "off"] = "auto"
    """Rendering of prompts, as in the model's own `chat`: text as it is and messages by the template (`auto`), text as
    a user message (`on`), or plain text only (`off`)."""
    too_long: Literal["drop", "truncate", "stop"] = "drop"
    """What happens to a longer row: dropped and counted, cut at the end (it then teaches no end token), or an error."""
    too_long_ceiling: float = Field(0.1, ge=0, le=1)
    """Largest share of rows that may be dropped or cut before the training refuses to start."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of the forward pass; with `bf16` the weights stay fp32 unless they are frozen under LoRA."""
    lora: LoraSettings | None = None
    """Adapters to train; null trains all weights."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third slower, the same loss."""
    save_steps: int = Field(0, ge=0, json_schema_extra={"fingerprint": False})
    """Optimiser steps between checkpoints, from which a killed training continues; 0 writes none."""

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.epochs is None) == (self.max_steps is None):
            raise ValueError("give exactly one of 'epochs' and 'max_steps'")
        return self

    @model_validator(mode="after")
    def _final_rate_of_a_cosine(self) -> Self:
        if self.final_rate and self.schedule != "cosine":
            raise ValueError("'final_rate' is for schedule: cosine")
        return self


class PreferenceSettings(TrainingSettings):
    """Preference optimisation on pairs of a better and a worse response."""

    loss: Literal["dpo", "orpo"] = "dpo"
    """Direct preference optimisation (arXiv 2305.18290, eq. 7) or odds-ratio preference optimisation (arXiv 2403.07691,
    eq. 6)."""
    beta: float = Field(0.1, gt=0)
    """DPO: strength of the pull towards the starting model. ORPO: weight of the odds-ratio term."""
    sft_weight: float = Field(0.0, ge=0)
    """DPO only: weight of the likelihood of the chosen response, added to the loss (known as RPO)."""
    length_normalised: bool = False
    """DPO only: compare log-ratios per token in place of their sums, so that longer is not stronger."""
    nll_over: Literal["response", "sequence"] = "response"
    """ORPO only: tokens of the likelihood term, the chosen response alone (paper) or its prompt too (TRL's default)."""

    @model_validator(mode="after")
    def _terms_of_the_loss(self) -> Self:
        if self.loss == "orpo" and self.sft_weight:
            raise ValueError("ORPO holds a likelihood term already: 'sft_weight' is for loss: dpo")
        if self.loss == "orpo" and self.length_normalised:
            raise ValueError("ORPO compares per token already: 'length_normalised' is for loss: dpo")
        if self.loss == "dpo" and self.nll_over != "response":
            raise ValueError("'nll_over' is for loss: orpo")
        return self


class RewardSettings(TrainingSettings):
    """A reward model by Bradley and Terry: -log sigmoid(r(chosen) - r(rejected)), one end token's score a response."""

    heads: Literal["single", "principles"] = "single"
    """One output (the paper's), or one for each principle whose mean is the reward: then each principle also learns
    from the pairs whose ratings differ on it, in the direction of the ratings."""
    center_rewards: float = Field(0.0, ge=0)
    """Weight of the squared sum of a pair's rewards (Eisenstein et al., 2023), which keeps them around zero."""
    evaluate_steps: int = Field(0, ge=0)
    """With development pairs: steps between looks at them; the best state is kept. 0 looks once an epoch."""

    @model_validator(mode="after")
    def _never_cut(self) -> Self:
        if self.too_long == "truncate":
            raise ValueError("'too_long: truncate' would cut the end token that a reward is read from: drop or stop")
        return self


class Distillation(Config):
    """Learning from a dense teacher's predictions (Hinton et al., 2015, arXiv 1503.02531), beside the text's own."""

    weight: float = Field(0.5, ge=0, le=1)
    """Share of the loss that is the divergence from the teacher; the rest is the text's likelihood."""
    temperature: float = Field(1.0, gt=0)
    """Both distributions are softened by it; the divergence is multiplied by its square, which keeps the gradient's
    size."""


class ContinueSettings(TrainingSettings):
    """Going on with pre-training: plain text, packed into blocks of `max_length` tokens that all carry loss."""

    balance: float = Field(0.0, ge=0)
    """Weight of the load-balance term of a model whose heads are routed (0.01 in the paper); dense models have none."""
    distillation: Distillation | None = None
    """What is learned from the job's teacher; null learns from the text alone."""
    router_rate: float = Field(1.0, gt=0)
    """Learning rate of a learned router over that of the other weights."""
    evaluate_steps: int = Field(0, ge=0)
    """With development text: steps between looks at it, for the learning curve; 0 looks at the end alone."""


class Launcher(Config):
    """Where a training runs: inside this process, or in processes that `accelerate launch` starts."""

    mode: Literal["auto", "inline", "process"] = "auto"
    """`auto` trains small models in this process, where starting another would take longer than the training."""
    inline_below: int = Field(20_000_000, ge=0)
    """`auto`: number of parameters under which a model is trained in this process."""
    processes: int = Field(1, ge=1)
    """Data-parallel processes: one a GPU, or any number on a CPU."""
    accelerate_config: Path | None = None
    """YAML of `accelerate config` (FSDP, DeepSpeed, several machines), passed through."""
    accelerate_args: tuple[str, ...] = ()
    """Further arguments of `accelerate launch`, passed through."""
    silence_s: float = Field(1800.0, gt=0)
    """Seconds without a step after which a training process counts as hung and is stopped."""

    @model_validator(mode="after")
    def _inline_is_one_process(self) -> Self:
        if self.mode == "inline" and (self.processes > 1 or self.accelerate_config or self.accelerate_args):
            raise ValueError("'mode: inline' runs in this one process: leave out 'processes' and accelerate's settings")
        return self
