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


def token_std(tokens: Tensor) -> Tensor:
    """Standard deviation over all tokens, averaged over dimensions: near zero where they are all alike, in a collapse.

    tokens (batch, positions, dim) -> ().
    """
    return tokens.detach().float().flatten(0, 1).std(dim=0).mean()
