# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Kaldi log-mel filter banks, batched, on any device.

The numbers equal `torchaudio.compliance.kaldi.fbank` (and so Kaldi's `compute-fbank-feats` with `snip_edges`), which
most spectrogram methods were trained on. Clips of any lengths go through as one sequence of frames, in blocks that fit
the processor's cache: padding costs nothing, and no Python loop runs over clips.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

# torchaudio's floor before the logarithm
_FLOOR = torch.finfo(torch.float32).eps
# frames a block: 512 frames x 512 samples x 4 bytes = 1 MB, a core's second-level cache; a GPU wants many at once
_CPU_BLOCK, _GPU_BLOCK = 512, 1 << 17
_FILTER_GROUP = 32


def mel_filters(num_mel_bins: int, fft_size: int, sampling_rate: int, low_freq: float, high_freq: float) -> Tensor:
    """Kaldi's triangular filters in mel = 1127 ln(1 + f / 700). Shape (fft_size / 2, num_mel_bins), float32.

    The row of the Nyquist frequency is left out, as Kaldi does. Single precision on purpose: where a filter only
    grazes a bin of the spectrum, its weight is a difference of nearly equal numbers, and the models saw it rounded.
    """
    nyquist = sampling_rate / 2
    high_freq = high_freq if high_freq > 0 else nyquist + high_freq
    if not 0 <= low_freq < high_freq <= nyquist:
        raise ValueError(f"low_freq={low_freq} and high_freq={high_freq}: expected 0 <= low < high <= {nyquist}")

    def mel(hertz):
        return 1127.0 * math.log(1.0 + hertz / 700.0)

    bins = 1127.0 * torch.log(1.0 + torch.arange(fft_size // 2, device="cpu") * (sampling_rate / fft_size) / 700.0)
    step = (mel(high_freq) - mel(low_freq)) / (num_mel_bins + 1)
    index = torch.arange(num_mel_bins, device="cpu")
    left, center, right = (mel(low_freq) + (index + k) * step for k in (0.0, 1.0, 2.0))
    rising, falling = (bins[:, None] - left) / (center - left), (right - bins[:, None]) / (right - center)
    return torch.minimum(rising, falling).clamp(min=0)


def window_function(name: str, length: int) -> Tensor:
    """Kaldi's analysis windows (symmetric), float32."""
    hann = torch.hann_window(length, periodic=False, device="cpu", dtype=torch.float32)
    windows = {
        "hanning": hann,
        "hamming": torch.hamming_window(length, periodic=False, device="cpu", dtype=torch.float32),
        "povey": hann**0.85,
        "rectangular": torch.ones_like(hann),
    }
    if name not in windows:
        raise ValueError(f"window_type={name!r}: expected one of {', '.join(windows)}")
    return windows[name]


@lru_cache(maxsize=32)
def _constants(window_type, length, num_mel_bins, fft_size, sampling_rate, low_freq, high_freq, device):
    """The window, and the filters as (first bin, last bin, matrix) per group: most of the whole matrix is zero."""
    filters = mel_filters(num_mel_bins, fft_size, sampling_rate, low_freq, high_freq)
    groups = []
    for group in filters.split(_FILTER_GROUP if device.type == "cpu" else num_mel_bins, dim=1):
        bins = group.any(dim=1).nonzero().flatten().tolist() or [0]
        groups.append((bins[0], bins[-1] + 1, group[bins[0] : bins[-1] + 1].contiguous().to(device)))
    return window_function(window_type, length).to(device), groups


@torch.no_grad()
def kaldi_fbank(
    waves: Tensor | Sequence[Tensor],
    *,
    sampling_rate: int = 16000,
    num_mel_bins: int = 128,
    frame_length: float = 25.0,
    frame_shift: float = 10.0,
    window_type: str = "hanning",
    preemphasis: float = 0.97,
    remove_dc_offset: bool = True,
    low_freq: float = 20.0,
    high_freq: float = 0.0,
    use_power: bool = True,
    dither: float = 0.0,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Log-mel filter banks of a batch.

    Args:
        waves: float tensor `(batch, samples)`, or a list of `(samples_i,)` tensors on one device.
        frame_length, frame_shift: milliseconds.
        high_freq: hertz; zero or less counts down from the Nyquist frequency.
        dither: standard deviation of the noise added to every frame, drawn from `generator`.

    Returns:
        Features `(batch, max_frames, num_mel_bins)`, float32, zero after the end of a clip, and frame counts
        `(batch,)`.

    Raises:
        ValueError: a clip is shorter than one window, or a parameter is out of range.
    """
    length, shift = int(sampling_rate * frame_length * 0.001), int(sampling_rate * frame_shift * 0.001)
    fft_size = 1 << (length - 1).bit_length()
    sizes = [waves.shape[1]] * waves.shape[0] if isinstance(waves, Tensor) else [wave.shape[0] for wave in waves]
    if min(sizes) < length:
        raise ValueError(
            f"waves: got a clip of {min(sizes)} samples, expected at least one window of {length} samples"
        )
    device = waves[0].device
    window, filters = _constants(
        window_type, length, num_mel_bins, fft_size, sampling_rate, low_freq, high_freq, device
    )

    # all clips end to end; every window is a row of one strided view, those that no frame needs included
    flat = waves.float().flatten() if isinstance(waves, Tensor) else torch.cat([wave.float() for wave in waves])
    windows = flat.unfold(0, length, 1)
    starts = torch.tensor(sizes, device="cpu").cumsum(0) - torch.tensor(sizes, device="cpu")
    counts = torch.tensor([1 + (size - length) // shift for size in sizes], device="cpu")
    steps = torch.arange(int(counts.max()), device="cpu")
    valid = steps < counts[:, None]
    rows = (starts[:, None] + steps * shift)[valid].to(device)

    features = torch.empty(len(rows), num_mel_bins, device=device)
    block = _CPU_BLOCK if device.type == "cpu" else _GPU_BLOCK
    windowed = torch.zeros(min(block, len(rows)), fft_size, device=device)  # the tail stays zero: no padding per block
    with torch.autocast(device.type, enabled=False):
        for begin in range(0, len(rows), block):
            x = windows[rows[begin : begin + block]]
            y = windowed[: len(x)]
            if dither:
                x += dither * torch.randn(x.shape, device=device, generator=generator)
            if remove_dc_offset:
                x -= x.mean(dim=1, keepdim=True)
            # the sample before a window counts as equal to its first
            torch.mul(x[:, :1], -preemphasis, out=y[:, :1])
            torch.mul(x[:, :-1], -preemphasis, out=y[:, 1:length])
            y[:, :length].add_(x).mul_(window)
            spectrum = torch.fft.rfft(y)[:, :-1]
            power = torch.addcmul(spectrum.real.square(), spectrum.imag, spectrum.imag)
            if not use_power:
                power.sqrt_()
            energies = torch.cat([power[:, low:high] @ weights for low, high, weights in filters], dim=1)
            torch.log(energies.clamp_(min=_FLOOR), out=features[begin : begin + block])

    if valid.all():
        return features.view(len(sizes), -1, num_mel_bins), counts.to(device)
    padded = features.new_zeros(*valid.shape, num_mel_bins)
    padded[valid.to(device)] = features
    return padded, counts.to(device)
