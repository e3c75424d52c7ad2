# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Fixed position tables."""

import torch
from torch import Tensor


def sincos_table(index: Tensor, dim: int) -> Tensor:
    """Sines, then cosines, of `index` (length,) at dim / 2 frequencies 10000^(-2i / dim). Shape (length, dim),
    float64.
    """
    omega = 10000.0 ** (-torch.arange(dim // 2, dtype=torch.float64, device=index.device) / (dim // 2))
    angle = index.double()[:, None] * omega
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def sincos_table_2d(rows: int, columns: int, dim: int, *, device: torch.device | str = "cpu") -> Tensor:
    """Table (rows * columns, dim), row-major, float32: the first half of the dimensions encodes the column, the second
    the row, as in MAE. Raises `ValueError` unless 4 divides `dim`.
    """
    if dim % 4:
        raise ValueError(f"dim={dim}: a two-dimensional sine-cosine table needs a multiple of 4")
    row = sincos_table(torch.arange(rows, device=device), dim // 2).repeat_interleave(columns, dim=0)
    column = sincos_table(torch.arange(columns, device=device), dim // 2).repeat(rows, 1)
    return torch.cat([column, row], dim=1).float()
