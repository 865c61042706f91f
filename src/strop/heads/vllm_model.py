"""What vLLM builds for a converted folder; imported by vLLM alone. `strop.heads.vllm_plugin` says what was tried."""

from __future__ import annotations

from typing import Any

from vllm.model_executor.models.transformers import TransformersForCausalLM

from strop.errors import UserError
from strop.heads.gated_decoder import gate, register_decoders


class MoHTransformersForCausalLM(TransformersForCausalLM):  # type: ignore[misc]  # vLLM is not installed here
    """The dense decoder by vLLM's Transformers backend, gated at the output projections."""

    def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
        """Build the decoder with its routers, let vLLM replace what it replaces, then hang the gates on what is left.

        Raises:
            UserError: Tensor parallelism, or compilation and CUDA graphs, are on.
        """
        if vllm_config.parallel_config.tensor_parallel_size > 1:
            raise UserError(
                "routed heads cannot be split over GPUs",
                value=f"tensor parallel size {vllm_config.parallel_config.tensor_parallel_size}",
                fix="use --tensor-parallel-size 1; --data-parallel-size runs more copies",
            )
        if not vllm_config.model_config.enforce_eager:
            raise UserError(
                "routers cannot be compiled or captured in CUDA graphs by vLLM",
                why="they check their scores on the host",
                fix="add --enforce-eager",
            )
        register_decoders()
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        gate(self.model.get_decoder().layers, self.config)
