# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Positions relative to each other: a learned bias on attention scores, and a convolution over the tokens."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def relative_buckets(distance: Tensor, num_buckets: int, max_distance: int) -> Tensor:
    """Signed distances (any shape, key minus query) -> bucket ids, as in T5 (arXiv 1910.10683), both ways.

    Half of the buckets are for keys to the right. Of each half, one half holds one distance each, the other grows
    logarithmically up to `max_distance`; whatever is farther shares the last bucket.
    """
    half = num_buckets // 2
    exact = half // 2
    length = distance.abs()
    # in float32 and in this order: where a bucket begins depends on the rounding
    far = exact + (torch.log(length.float() / exact) / math.log(max_distance / exact) * (half - exact)).long()
    return torch.where(length < exact, length, far.clamp(max=half - 1)) + (distance > 0) * half


class RelativePositionBias(nn.Module):
    """A learned bias for each head and bucket of distances."""

    def __init__(self, num_buckets: int, max_distance: int, num_heads: int):
        super().__init__()
        self.num_buckets = num_buckets
        self.max_distance = max_distance
        self.embedding = nn.Embedding(num_buckets, num_heads)

    def forward(self, length: int, positions: Tensor | None = None) -> Tensor:
        """Bias (1, heads, length, length); or (batch, heads, count, count) between `positions` (batch, count), each
        below `length`.
        """
        device = self.embedding.weight.device
        distances = torch.arange(1 - length, length, device=device)
        by_distance = self.embedding(relative_buckets(distances, self.num_buckets, self.max_distance))
        if positions is None:
            positions = torch.arange(length, device=device)[None]
        index = positions[:, None, :] - positions[:, :, None] + (length - 1)
        # every layer multiplies it: in its own order
        return F.embedding(index, by_distance).permute(0, 3, 1, 2).contiguous()


class PositionalConvolution(nn.Module):
    """GELU of a wide grouped convolution over the tokens (wav2vec 2.0, section 3.1), its kernel normed tap by tap.

    The kernel is `gain` times `direction`, whose norm over channels is divided out at each of the taps (weight
    normalisation over the kernel's axis). An even kernel looks one token farther back than ahead.
    """

    def __init__(self, hidden_size: int, kernel_size: int, groups: int):
        super().__init__()
        self.groups = groups
        self.gain = nn.Parameter(torch.empty(1, 1, kernel_size))
        self.direction = nn.Parameter(torch.empty(hidden_size, hidden_size // groups, kernel_size))
        self.bias = nn.Parameter(torch.empty(hidden_size))

    def initial_values(self) -> tuple[Tensor, Tensor]:
        """Direction, normal with variance 4 / (kernel size x width), and the gain that leaves it as it is."""
        std = math.sqrt(4 / (self.direction.shape[2] * self.direction.shape[0]))
        direction = torch.randn_like(self.direction) * std
        return direction, torch.linalg.vector_norm(direction, dim=(0, 1), keepdim=True)

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, tokens, hidden_size) -> the same shape."""
        norm = torch.linalg.vector_norm(self.direction, dim=(0, 1), keepdim=True)
        kernel = self.direction * (self.gain / norm)
        width = kernel.shape[2]
        x = F.conv1d(tokens.transpose(1, 2), kernel, self.bias, padding=width // 2, groups=self.groups)
        return F.gelu(x[..., : tokens.shape[1]].transpose(1, 2))
