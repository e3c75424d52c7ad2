# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Patches as AST and its descendants cut them: frequency is the slow axis, and neighbours may overlap.

A clip of (frames, mels) has a grid of ((mels - size) // frequency_stride + 1, (frames - size) // time_stride + 1).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class StridedPatchEmbedding(nn.Module):
    """(batch, frames, mels) -> (batch, mel patches * time patches, hidden_size), frequency-major, without tails."""

    def __init__(self, patch_size: int, frequency_stride: int, time_stride: int, hidden_size: int):
        super().__init__()
        self.projection = nn.Conv2d(1, hidden_size, patch_size, stride=(frequency_stride, time_stride))
        self.projection._ssl_init = "torch_default"

    def forward(self, input_values: Tensor) -> Tensor:
        x = self.projection(input_values[:, None].transpose(2, 3).to(self.projection.weight.dtype))
        return x.flatten(2).transpose(1, 2)


def pixels(input_values: Tensor, patch_size: int) -> Tensor:
    """What patches without overlap are made of: (batch, frames, mels) -> (batch, patches, patch_size^2), both
    frequency-major.
    """
    x = input_values.transpose(1, 2).unfold(1, patch_size, patch_size).unfold(2, patch_size, patch_size)
    return x.flatten(3).flatten(1, 2)


def real_columns(attention_mask: Tensor, patch_size: int, time_stride: int) -> Tensor:
    """Frame mask (batch, frames), 1 = real -> (batch, time patches), bool. A patch is real if all its frames are."""
    return attention_mask.bool().unfold(1, patch_size, time_stride).all(dim=2)


def positions_for_grid(table: Tensor, grid: tuple[int, int], columns: Tensor | None = None) -> Tensor:
    """A learned table (rows, columns, dim) for clips whose grid is another one.

    The mel axis is interpolated over its whole height. In time, a clip with at most as many columns as the table takes
    the first ones; for a longer one the table is stretched over its length (`interpolate` without aligned corners).

    Args:
        grid: mel patches and time patches of the batch.
        columns: real columns of each clip (batch,); None = all. Each clip is treated as if it were alone, so that
            padding does not move its positions.

    Returns:
        (1 or batch, mel patches, time patches, dim)
    """
    rows, length = grid
    if rows != table.shape[0]:
        table = F.interpolate(table.permute(2, 0, 1)[None], (rows, table.shape[1]), mode="bilinear")[0].permute(
            1, 2, 0
        )
    width = table.shape[1]
    if length <= width:
        return table[None, :, :length]
    if columns is None:
        columns = torch.full((1,), length, device=table.device)
    scale = width / columns.clamp(min=width)
    place = ((torch.arange(length, device=table.device) + 0.5) * scale[:, None] - 0.5).clamp(0, width - 1)
    left = place.floor().long()
    share = (place - left).to(table.dtype)[..., None]
    left_rows, right_rows = table[:, left], table[:, (left + 1).clamp(max=width - 1)]
    return torch.lerp(left_rows, right_rows, share[None].expand_as(left_rows)).transpose(0, 1)
