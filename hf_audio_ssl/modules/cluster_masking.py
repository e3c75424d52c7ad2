# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""The clustered masks of SSAST (arXiv 2110.09784, section 2.2) and SSAMBA."""

import torch
from torch import Tensor

from hf_audio_ssl.modules.masking import random_integers, random_uniform


def cluster_mask(
    batch_size: int,
    grid: tuple[int, int],
    num_masked: int,
    *,
    min_cluster: int,
    max_cluster: int,
    device: torch.device | str | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Squares of one size per clip, `min_cluster` to `max_cluster` cells wide, fall until more than `num_masked` cells
    are covered; the first `num_masked` of these are masked.

    The square reaches from its start to the right and upwards in the flat order of the grid, so it runs on into the
    next row at the right border, and is cut off at the last row. The first cell is never masked. Both are the
    original's (`gen_maskid_patch`), whose loop over starts is done here at once: starts that repeat add nothing, so
    they are a random permutation, and a cell is covered when the first start that reaches it comes up.

    Args:
        grid: rows and columns.

    Returns:
        Bool mask (batch_size, rows * columns), `num_masked` in every row.

    Raises:
        ValueError: `num_masked` is not between 1 and the number of cells less one.
    """
    rows, columns = grid
    length = rows * columns
    if not 1 <= num_masked < length:
        raise ValueError(f"num_masked={num_masked}: expected 1 to {length - 1} of {length} cells")
    order = random_uniform((batch_size, length), device=device, generator=generator).argsort(dim=1)
    turn = torch.arange(length, device=device).expand_as(order)
    turn = torch.empty_like(order).scatter_(1, order, turn)

    size = random_integers(min_cluster, max_cluster + 1, (batch_size, 1, 1), device=device, generator=generator)
    step = torch.arange(max_cluster**2, device=device)
    up, right = step // max_cluster, step % max_cluster
    start = torch.arange(length, device=device)[:, None] - (up * columns + right)  # (cells, squares that reach them)
    reaches = (start >= 0) & (torch.maximum(up, right) < size)
    covered = turn[:, start.clamp(min=0)].masked_fill(~reaches, length).amin(dim=2)
    covered[:, 0] = length

    enough = covered.sort(dim=1).values[:, min(num_masked, length - 2), None]
    mask = covered <= enough
    return mask & (mask.cumsum(dim=1) <= num_masked)
