# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Discrete codes with gradients, and how much of a codebook is in use."""

import torch
from torch import Tensor


def gumbel_noise_like(logits: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Samples of Gumbel(0, 1), float32."""
    uniform = torch.empty_like(logits, dtype=torch.float32)
    return uniform.exponential_(generator=generator).log().neg()


def gumbel_one_hot(logits: Tensor, temperature: Tensor | float, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Hard samples of softmax((logits + noise) / temperature) with the gradient of the soft ones (arXiv 1611.01144).

    Args:
        logits: (..., codes).
        noise: Gumbel(0, 1) of the same shape; None takes the most likely code.

    Returns:
        One-hot vectors (..., codes) in the dtype of `logits`, and the chosen codes (...).
    """
    scores = logits.float()
    if noise is not None:
        scores = scores + noise
    soft = (scores / temperature).softmax(dim=-1)
    codes = soft.argmax(dim=-1)
    hard = torch.zeros_like(soft).scatter(-1, codes[..., None], 1.0)
    # exactly one-hot in floating point: 1 - s is exact or rounds back to 1 when s is added
    return (hard - soft.detach() + soft).to(logits.dtype), codes


def product_codevectors(one_hot: Tensor, codebook: Tensor) -> Tensor:
    """Code vectors of a product quantiser: one of each group, side by side.

    one_hot (batch, time, groups, codes), codebook (groups, codes, dim) -> (batch, time, groups * dim).
    """
    return torch.einsum("btgv,gvd->btgd", one_hot, codebook.to(one_hot.dtype)).flatten(2)


def perplexity(probabilities: Tensor, weight: Tensor) -> Tensor:
    """exp(entropy) of the mean distribution of each group, summed over groups: how many codes are in use.

    probabilities (batch, time, groups, codes), weight (batch, time), 1 where a position counts.
    """
    weight = weight.to(probabilities.dtype)
    mean = torch.einsum("btgv,bt->gv", probabilities, weight) / weight.sum().clamp(min=1)
    # the small constant is the original's: without it the gradient of an unused code is infinite
    return (-(mean * (mean + 1e-7).log()).sum(dim=-1)).exp().sum()
