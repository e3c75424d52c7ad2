# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Averages over the positions that count."""

from torch import Tensor


def masked_mean(x: Tensor, mask: Tensor | None, dim: int | None = None) -> Tensor:
    """Mean of `x` where `mask` holds, along `dim` or of everything; zero where it holds nowhere.

    Args:
        x: (batch, positions, ...).
        mask: (batch, positions), None = everywhere.
        dim: None only if `x` has no further dimensions.
    """
    if mask is None:
        return x.mean(dim=dim)
    weight = mask[(..., *[None] * (x.ndim - mask.ndim))].to(x.dtype)
    return (x * weight).sum(dim=dim) / weight.sum(dim=dim).clamp(min=1)


def token_std(tokens: Tensor, mask: Tensor | None = None) -> Tensor:
    """Standard deviation over all tokens, averaged over dimensions: near zero where they are all alike, in a collapse.

    tokens (batch, positions, dim), mask (batch, positions), None = everywhere -> ().
    """
    x = tokens.detach().float().flatten(0, 1)[None]
    mask = None if mask is None else mask.flatten()[None]
    return masked_mean((x - masked_mean(x, mask, dim=1)).square(), mask, dim=1).sqrt().mean()
