"""The loss of a DiT and one step of its sampling, against diffusers' schedulers and torch's distributions."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from strop.errors import UserError
from strop.heads.vision.budgets import first_shared
from strop.heads.vision.diffusion import Steps, denoise, denoising_loss
from strop.heads.vision.dit import MoHDiTTransformer2DModel
from strop.heads.vision.settings import VisionSettings

SHAPE = (4, 4, 8, 8)


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def scheduler(**changes: Any) -> Any:
    return DDPMScheduler(**{"variance_type": "learned_range", "clip_sample": False} | changes)


def tiny(out_channels: int = 8) -> MoHDiTTransformer2DModel:
    torch.manual_seed(8)
    moh = VisionSettings(layers=(first_shared(2, shared=2, active=0), first_shared(6, shared=2, active=2)))
    model: MoHDiTTransformer2DModel = MoHDiTTransformer2DModel(
        num_attention_heads=4,
        attention_head_dim=8,
        out_channels=out_channels,
        num_layers=2,
        sample_size=8,
        num_embeds_ada_norm=10,
        moh=moh.to_dict(),
    )
    model.eval()
    return model


class Fixed(nn.Module):
    """Predicts what it is given."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = nn.Parameter(output)

    def forward(self, latents: Tensor, *, timestep: Tensor, class_labels: Tensor) -> Any:
        del latents, timestep, class_labels
        return type("Output", (), {"sample": self.output})


@pytest.mark.parametrize("step", [1, 10, 500, 999])
def test_the_step_backwards_is_the_schedulers(step: int) -> None:
    """DDPM's step with learned variance is mean + deviation x its noise."""
    schedule, noisy, noise, between = scheduler(), drawn(1, *SHAPE), drawn(2, *SHAPE), drawn(3, *SHAPE).tanh()
    schedule.set_timesteps(1000)
    mean, log_variance = Steps.of(schedule, torch.full((4,), step), noisy).predicted(noisy, noise, between)
    moved = schedule.step(
        torch.cat([noise, between], dim=1), step, noisy, generator=torch.Generator().manual_seed(4)
    ).prev_sample
    expected = mean + (0.5 * log_variance).exp() * drawn(4, *SHAPE)
    assert torch.allclose(moved, expected, atol=1e-4 * moved.abs().max().item())


def test_the_bound_is_the_divergence_of_two_normals() -> None:
    schedule, clean, noise = scheduler(), drawn(5, *SHAPE), drawn(6, *SHAPE)
    step_b = torch.tensor([1, 7, 300, 999])
    noisy = schedule.add_noise(clean, noise, step_b)
    predicted, between = drawn(7, *SHAPE), drawn(8, *SHAPE).tanh()
    steps = Steps.of(schedule, step_b, clean)
    mean, log_variance = steps.predicted(noisy, predicted, between)
    true = Normal(steps.mean(clean, noisy), (0.5 * steps.log_posterior_variance).exp().expand(SHAPE))
    expected = kl_divergence(true, Normal(mean, (0.5 * log_variance).exp())).mean((1, 2, 3)) / math.log(2)
    assert torch.allclose(steps.bound(clean, noisy, predicted, between), expected, rtol=1e-3)


def test_a_perfect_prediction_has_no_loss_but_the_variance_bound() -> None:
    """The right noise, and the lower bound of the variance, which is the true one: divergence 0."""
    noise, step_b = drawn(9, *SHAPE), torch.tensor([2, 50, 400, 998])
    model = Fixed(torch.cat([noise, -torch.ones(SHAPE)], dim=1))
    loss = denoising_loss(
        model, drawn(10, *SHAPE), torch.zeros(4), noise=noise, timestep_b=step_b, scheduler=scheduler()
    )
    assert loss.simple.item() == 0.0
    assert loss.variance is not None
    assert loss.variance.item() == pytest.approx(0.0, abs=1e-4)


def test_the_bound_teaches_the_variance_alone() -> None:
    model = Fixed(torch.cat([drawn(11, *SHAPE), torch.zeros(SHAPE)], dim=1))
    loss = denoising_loss(
        model,
        drawn(12, *SHAPE),
        torch.zeros(4),
        noise=drawn(13, *SHAPE),
        timestep_b=torch.tensor([0, 1, 100, 999]),
        scheduler=scheduler(),
    )
    assert loss.variance is not None
    (gradient,) = torch.autograd.grad(loss.variance, model.output)
    assert not gradient[:, :4].any()
    assert gradient[:, 4:].any()


def test_step_0_is_a_likelihood_in_bins() -> None:
    """A variance so small that a clean value on the mean fills its bin: 0 bits, far away it costs many."""
    schedule, clean = scheduler(), drawn(14, *SHAPE).clamp(-0.9, 0.9)
    noise, step_b = drawn(15, *SHAPE), torch.zeros(4, dtype=torch.long)
    noisy = schedule.add_noise(clean, noise, step_b)
    steps, low = Steps.of(schedule, step_b, clean), -20 * torch.ones(SHAPE)
    assert steps.bound(clean, noisy, noise, low).max().item() < 1e-3
    assert steps.bound(clean, noisy, noise + 100, low).min().item() > 1.0


def test_without_a_learned_variance_only_the_noise_counts() -> None:
    loss = denoising_loss(
        tiny(out_channels=4),
        drawn(16, *SHAPE),
        torch.tensor([0, 1, 2, 3]),
        noise=drawn(17, *SHAPE),
        timestep_b=torch.tensor([1, 10, 100, 999]),
        scheduler=scheduler(),
    )
    assert loss.variance is None
    assert loss.total is loss.simple


def test_training_lowers_the_loss_and_reaches_the_routers() -> None:
    model, schedule = tiny().train(), scheduler()
    before = {name: weight.clone() for name, weight in model.named_parameters() if ".router." in name}
    learns = torch.optim.AdamW(model.parameters(), lr=3e-3)
    latents, noise = drawn(18, *SHAPE), drawn(19, *SHAPE)
    losses = []
    for _ in range(30):
        loss = denoising_loss(
            model,
            latents,
            torch.tensor([0, 1, 2, 3]),
            noise=noise,
            timestep_b=torch.tensor([10, 200, 500, 900]),
            scheduler=schedule,
        ).total
        learns.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        learns.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    assert all(not torch.equal(weight, before[n]) for n, weight in model.named_parameters() if n in before)


@pytest.mark.parametrize("guidance", [1.0, 1.25])
@pytest.mark.parametrize("kind", ["ddpm", "ddim"])
def test_a_sampling_step(kind: str, guidance: float) -> None:
    schedule = scheduler() if kind == "ddpm" else DDIMScheduler()
    schedule.set_timesteps(10)
    latents = drawn(20, 2, 4, 8, 8)
    moved = [
        denoise(
            tiny(),
            latents,
            torch.tensor([3, 4]),
            timestep=int(schedule.timesteps[0]),
            scheduler=schedule,
            guidance=guidance,
            generator=torch.Generator().manual_seed(21),
        )
        for _ in range(2)
    ]
    assert moved[0].shape == latents.shape
    assert torch.equal(*moved)
    assert moved[0].isfinite().all()
    assert not torch.equal(moved[0], latents)


def test_guidance_moves_away_from_no_class() -> None:
    """With DDIM one step is linear in the noise, so twice the guidance beyond 1 moves the latents twice as far."""
    schedule, model, latents = DDIMScheduler(clip_sample=False), tiny(), drawn(22, 2, 4, 8, 8)
    schedule.set_timesteps(10)
    one, two, three = (
        denoise(
            model, latents, torch.tensor([3, 4]), timestep=int(schedule.timesteps[0]), scheduler=schedule, guidance=g
        )
        for g in (1.0, 2.0, 3.0)
    )
    assert torch.allclose(three - one, 2 * (two - one), atol=1e-4)
    assert not torch.allclose(two, one)


def test_a_scheduler_that_predicts_something_else_is_refused() -> None:
    with pytest.raises(UserError, match="predicts noise"):
        denoising_loss(
            tiny(),
            drawn(23, *SHAPE),
            torch.zeros(4),
            noise=drawn(24, *SHAPE),
            timestep_b=torch.zeros(4),
            scheduler=scheduler(prediction_type="v_prediction"),
        )
