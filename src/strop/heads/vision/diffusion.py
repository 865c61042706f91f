"""What a DiT learns from and how it samples: the loss of the released code, and one denoising step.

Shapes: b images, C channels of the latents; images are (b, C, height, width).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.special import ndtr

from strop.errors import UserError

BIN = 1.0 / 255.0
"""Half a grey level of images between -1 and 1. Latents have none, but the released code bins them alike."""


@dataclass(frozen=True)
class DenoisingLoss:
    """The parts of a DiT's loss.

    Attributes:
        simple: Mean squared error of the predicted noise.
        variance: Variational bound of the learned variance, in bits a dimension; None where it is not learned.
    """

    simple: Tensor
    variance: Tensor | None

    @property
    def total(self) -> Tensor:
        """What is minimised; the load-balance gradient joins it by itself."""
        return self.simple if self.variance is None else self.simple + self.variance


def denoising_loss(
    model: nn.Module, latents: Tensor, labels_b: Tensor, *, noise: Tensor, timestep_b: Tensor, scheduler: Any
) -> DenoisingLoss:
    """Return the loss of DiT (Peebles and Xie 2023, after Nichol and Dhariwal 2021): noise, and variance if learned.

    The bound teaches the variance alone: in it the predicted noise carries no gradient.

    Args:
        model: A DiT, stock or routed.
        latents: Clean latents.
        labels_b: Classes.
        noise: Standard normal, as `latents`.
        timestep_b: Steps, from 0.
        scheduler: diffusers' `DDPMScheduler` that predicts noise.

    Raises:
        UserError: The scheduler predicts something else.
    """
    if scheduler.config.prediction_type != "epsilon":
        raise UserError("a DiT predicts noise", value=scheduler.config.prediction_type)
    channels = latents.shape[1]
    noisy = scheduler.add_noise(latents, noise, timestep_b)
    output = model(noisy, timestep=timestep_b, class_labels=labels_b).sample
    simple = mse_loss(output[:, :channels], noise)
    if output.shape[1] == channels:
        return DenoisingLoss(simple, None)
    steps = Steps.of(scheduler, timestep_b, latents)
    bound_b = steps.bound(latents, noisy, output[:, :channels].detach(), output[:, channels:])
    return DenoisingLoss(simple, bound_b.mean())


@dataclass(frozen=True)
class Steps:
    """The constants of some diffusion steps, each (b, 1, 1, 1).

    Attributes:
        kept: Product of the alphas up to the step.
        kept_before: Product up to the step before, 1 at step 0.
        log_posterior_variance: Of the step backwards given the clean image. At step 0, where it has none, that of step
            1, as in the released code.
        first: True at step 0.
    """

    kept: Tensor
    kept_before: Tensor
    log_posterior_variance: Tensor
    first: Tensor

    @classmethod
    def of(cls, scheduler: Any, timestep_b: Tensor, like: Tensor) -> Steps:
        """Read them from a scheduler of diffusers."""
        kept_t = scheduler.alphas_cumprod.to(device=like.device, dtype=torch.float32)
        before_t = torch.cat([kept_t.new_ones(1), kept_t[:-1]])
        variance_t = (1 - kept_t / before_t) * (1 - before_t) / (1 - kept_t)
        variance_t = torch.cat([variance_t[1:2], variance_t[1:]])
        kept, before, log_variance, first = (
            part_b.view(-1, 1, 1, 1)
            for part_b in (kept_t[timestep_b], before_t[timestep_b], variance_t.log()[timestep_b], timestep_b == 0)
        )
        return cls(kept, before, log_variance, first)

    @property
    def beta(self) -> Tensor:
        """Variance that the step adds."""
        return 1 - self.kept / self.kept_before

    def mean(self, clean: Tensor, noisy: Tensor) -> Tensor:
        """Mean of the step backwards given the clean image (Ho et al. 2020, eq. 7)."""
        alpha = self.kept / self.kept_before
        weight_clean = self.kept_before.sqrt() * self.beta / (1 - self.kept)
        weight_noisy = alpha.sqrt() * (1 - self.kept_before) / (1 - self.kept)
        return weight_clean * clean + weight_noisy * noisy

    def predicted(self, noisy: Tensor, noise: Tensor, between: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the model's step backwards.

        Args:
            noisy: Latents at the step.
            noise: Predicted noise.
            between: Predicted place of the log variance between its bounds, -1 to 1.
        """
        clean = (noisy - (1 - self.kept).sqrt() * noise) / self.kept.sqrt()
        part = (between + 1) / 2
        return self.mean(clean, noisy), part * self.beta.log() + (1 - part) * self.log_posterior_variance

    def bound(self, clean: Tensor, noisy: Tensor, noise: Tensor, between: Tensor) -> Tensor:
        """Return each image's term of the variational bound, in bits a dimension; (b,).

        Kullback-Leibler divergence of the true step backwards from the model's; at step 0 the negative log-likelihood
        of the clean image in bins (with the exact normal distribution function; the released code approximates it).
        """
        mean, log_variance = self.predicted(noisy, noise, between)
        true_log = self.log_posterior_variance
        distance = (self.mean(clean, noisy) - mean).square()
        divergence = 0.5 * (log_variance - true_log - 1 + (true_log - log_variance).exp())
        divergence = divergence + 0.5 * distance * (-log_variance).exp()
        nats = torch.where(self.first, -_binned(clean, mean, log_variance), divergence)
        return nats.flatten(1).mean(1) / math.log(2)


def _binned(clean: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Log-likelihood of values in bins of 1/255 to each side; the outermost bins are open."""
    sharpness = (-0.5 * log_variance).exp()
    above, below = ndtr((clean - mean + BIN) * sharpness), ndtr((clean - mean - BIN) * sharpness)
    mass = torch.where(clean < -0.999, above, torch.where(clean > 0.999, 1 - below, above - below))
    return mass.clamp(min=1e-12).log()


@torch.no_grad()
def denoise(
    model: Any,
    latents: Tensor,
    labels_b: Tensor,
    *,
    timestep: int,
    scheduler: Any,
    guidance: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Take one step backwards with a scheduler of diffusers (DDPM, DDIM or another that predicts noise).

    Args:
        model: A DiT in evaluation mode.
        latents: Latents at the step.
        labels_b: Classes.
        timestep: The step, one of ``scheduler.timesteps``.
        scheduler: Its steps are set.
        guidance: Classifier-free guidance; 1 is none.
        generator: Source of the step's noise, where it adds some.

    Returns:
        The latents before the step.
    """
    channels, batch = latents.shape[1], latents.shape[0]
    steps_b = torch.full((batch,), timestep, device=latents.device)
    output = model(latents, timestep=steps_b, class_labels=labels_b).sample
    if guidance != 1.0:
        none_b = torch.full_like(labels_b, model.config.num_embeds_ada_norm)
        free = model(latents, timestep=steps_b, class_labels=none_b).sample[:, :channels]
        output = torch.cat([free + guidance * (output[:, :channels] - free), output[:, channels:]], dim=1)
    learned = str(getattr(scheduler.config, "variance_type", None)).startswith("learned")
    output = output if learned else output[:, :channels]
    moved: Tensor = scheduler.step(output, timestep, latents, generator=generator).prev_sample
    return moved
