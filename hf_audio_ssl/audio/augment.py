# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Batched augmentations of waveforms and spectrograms, on the device of their input.

Every random quantity is either given by the caller or drawn from a torch `generator`, so a training step can be
repeated exactly. None of the functions loops over clips, and none moves a value from the device to the host.
"""

import torch
from torch import Tensor


def sample_beta(
    a: float,
    b: float,
    size: tuple[int, ...] = (),
    *,
    device: torch.device | str = "cpu",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw from Beta(a, b) with a generator, which `torch.distributions.Beta` does not accept.

    A beta variable is `g_a / (g_a + g_b)` for two independent gamma variables.
    """
    if a <= 0 or b <= 0:
        raise ValueError(f"both parameters of a beta distribution must be positive, got a={a}, b={b}")
    # in float64: for a small `a` both gamma draws can underflow to zero in float32, and 0 / 0 would end the training
    shapes = torch.tensor([a, b], dtype=torch.float64, device=device).view(2, *(1,) * len(size)).expand(2, *size)
    gamma = torch._standard_gamma(shapes.contiguous(), generator=generator)
    return (gamma[0] / (gamma[0] + gamma[1])).float()


def mixup(inputs: Tensor, labels: Tensor, lam: float | Tensor) -> tuple[Tensor, Tensor]:
    """Mix every clip with its partner in the flipped batch (mixup, arXiv 1710.09412; partner, single `lam`: EAT).

    `inputs` is `(batch, ...)`, `labels` the float class weights `(batch, classes)`; both become
    `lam * x + (1 - lam) * flip(x)`. In a batch of odd size the clip in the middle is its own partner.
    """
    if labels.ndim != 2 or not labels.is_floating_point() or len(labels) != len(inputs):
        raise ValueError(
            f"`labels` must be float class weights of shape (batch={len(inputs)}, classes) so that they can be mixed, "
            f"got {labels.dtype} of shape {tuple(labels.shape)}"
        )
    return torch.lerp(inputs.flip(0), inputs, lam), torch.lerp(labels.flip(0), labels, lam)


def _random_span(
    length: int, max_width: int, batch: int, device: torch.device, generator: torch.Generator | None
) -> Tensor:
    """One span per clip, boolean `(batch, length)`: width uniform in [0, max_width), start where it fits."""
    width, start = torch.rand(2, batch, 1, device=device, generator=generator)
    width = (width * max_width).floor()
    start = (start * (length - width)).floor()
    position = torch.arange(length, device=device)
    return (position >= start) & (position < start + width)


def spec_augment(
    spectrograms: Tensor,
    *,
    freq_ratio: float = 0.2,
    time_ratio: float = 0.2,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Hide one band of frequencies and one stretch of time in each clip (SpecAugment, arXiv 1904.08779, no warping).

    Args:
        spectrograms: `(batch, frames, mels)`, normalised, so that the 0 in hidden cells is the mean of the data.
        freq_ratio, time_ratio: the largest widths, as a share of the mel bins and of the frames.
        generator: the source of the widths and places, which differ from clip to clip.
    """
    for name, ratio in (("freq_ratio", freq_ratio), ("time_ratio", time_ratio)):
        if not 0 <= ratio <= 1:
            raise ValueError(f"`{name}` is a share between 0 and 1, got {ratio}")
    batch, frames, mels = spectrograms.shape
    device = spectrograms.device
    hidden_time = _random_span(frames, int(frames * time_ratio), batch, device, generator)
    hidden_freq = _random_span(mels, int(mels * freq_ratio), batch, device, generator)
    return spectrograms.masked_fill(hidden_time[:, :, None] | hidden_freq[:, None, :], 0.0)


def roll_waveform(
    waveforms: Tensor,
    *,
    lengths: Tensor | None = None,
    shift: Tensor | None = None,
    gain: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Rotate each clip in time and change its level (the "roll" of EAT's fine-tuning).

    Args:
        waveforms: `(batch, samples)`.
        lengths: `(batch,)` real samples of each clip when the batch is padded; the rotation stays inside them.
        shift: `(batch,)` samples to the right; drawn uniformly over the clip if not given.
        gain: `(batch,)` factors; drawn as Beta(10, 10) + 0.5 if not given, hence about 0.8 to 1.2.
    """
    batch, samples = waveforms.shape
    device = waveforms.device
    if lengths is None:
        lengths = torch.full((batch,), samples, device=device)
    if shift is None:
        shift = (torch.rand(batch, device=device, generator=generator) * lengths).long()
    if gain is None:
        gain = sample_beta(10.0, 10.0, (batch,), device=device, generator=generator) + 0.5
    position = torch.arange(samples, device=device).expand(batch, samples)
    source = torch.where(
        position < lengths[:, None], (position - shift[:, None]) % lengths[:, None].clamp(min=1), position
    )
    return waveforms.gather(1, source) * gain[:, None].to(waveforms.dtype)


def noise_and_roll(
    spectrograms: Tensor, *, max_level: float = 0.1, max_shift: int = 10, generator: torch.Generator | None = None
) -> Tensor:
    """Add uniform noise and rotate by a few frames (the training noise for Speech Commands in AST, SSAST and EAT).

    Each cell of `(batch, frames, mels)` gains a uniform value in [0, 1) times the clip's own level, uniform in
    [0, max_level); then each clip is rotated in time by a whole number of frames, uniform in [-max_shift, max_shift].
    """
    batch, frames, _ = spectrograms.shape
    device = spectrograms.device
    level = max_level * torch.rand(batch, 1, 1, device=device, generator=generator)
    noise = torch.rand(spectrograms.shape, device=device, generator=generator)
    shift = torch.randint(-max_shift, max_shift + 1, (batch, 1), device=device, generator=generator)
    source = (torch.arange(frames, device=device) - shift) % frames
    noisy = spectrograms + (noise * level).to(spectrograms.dtype)
    return noisy.gather(1, source[:, :, None].expand_as(noisy))


def crop_to_shortest(waves: list[Tensor], generator: torch.Generator | None = None) -> list[Tensor]:
    """Clips (samples_i,) cut at random places to the length of the shortest: a batch without padding, as wav2vec 2.0
    and its kin are pre-trained.
    """
    shortest = min(len(wave) for wave in waves)
    places = torch.rand(len(waves), generator=generator).tolist()
    starts = [int(place * (len(wave) - shortest + 1)) for place, wave in zip(places, waves)]
    return [wave[start : start + shortest] for start, wave in zip(starts, waves)]


def vary_spectrum(
    spectrograms: Tensor, *, shift: int = 0, tilt: float = 0.0, generator: torch.Generator | None = None
) -> Tensor:
    """Other voices from the same words: move each clip along the mel axis and lean its spectrum, at random.

    A move by some mel bins is what a shorter or longer vocal tract does (vocal tract length perturbation, Jaitly and
    Hinton 2013); a lean is what another microphone or vocal effort does.

    Args:
        spectrograms: (batch, frames, mels), log mel, normalised or not.
        shift: largest move, in mel bins; the bin at the edge is repeated.
        tilt: largest amount added at the highest and taken off at the lowest bin, in units of `spectrograms`.
    """
    batch, frames, mels = spectrograms.shape
    device = spectrograms.device
    offset = torch.randint(-shift, shift + 1, (batch, 1), device=device, generator=generator)
    source = (torch.arange(mels, device=device) + offset).clamp(0, mels - 1)
    moved = spectrograms.gather(2, source[:, None].expand(-1, frames, -1))
    lean = tilt * (2 * torch.rand(batch, 1, 1, device=device, generator=generator) - 1)
    return moved + lean * torch.linspace(-1, 1, mels, device=device)
