# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Masks for masked prediction: drawn for a whole batch at once, on the device, from a torch generator.

A mask is a bool tensor (batch, positions), True = masked; two-dimensional grids are flattened row-major.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def random_uniform(
    shape: tuple[int, ...], *, device: torch.device | str | None, generator: torch.Generator | None
) -> Tensor:
    """`torch.rand`; that cannot be compiled for symbolic sizes when it gets a generator, and be it None."""
    return torch.empty(shape, device=device).uniform_(generator=generator)


def random_integers(
    low: int,
    high: int,
    shape: tuple[int, ...],
    *,
    device: torch.device | str | None,
    generator: torch.Generator | None,
) -> Tensor:
    """`torch.randint`, with a generator only if there is one, for the same reason."""
    return torch.randint(low, high, shape, device=device, **({} if generator is None else {"generator": generator}))


def inverse_block_mask(
    batch_size: int,
    grid: tuple[int, int],
    mask_ratio: float,
    *,
    block_size: int,
    adjust: float = 0.0,
    device: torch.device | str | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Keeps square blocks and masks the rest (data2vec 2.0, section 3.2; EAT, section 3.2).

    k = int(L (1 - mask_ratio + adjust) / block_size^2) centres fall uniformly on the L cells; each keeps the block
    around it, cut to the grid at the border. Then random cells are masked, or kept, until exactly int(L (1 -
    mask_ratio)) are kept.

    Returns:
        Bool mask (batch_size, rows * columns), the same count in every row.

    Raises:
        ValueError: nothing would be visible.
    """
    rows, columns = grid
    length = rows * columns
    num_keep = num_visible(length, mask_ratio)
    num_blocks = int(length * ((1 - mask_ratio + adjust) / block_size**2))
    priority = random_uniform((batch_size, length), device=device, generator=generator)
    if num_blocks:
        centre = random_integers(0, length, (batch_size, num_blocks, 1), device=device, generator=generator)
        offset = torch.arange(block_size, device=device) - block_size // 2
        row = (centre // columns + offset).clamp(0, rows - 1)
        column = (centre % columns + offset).clamp(0, columns - 1)
        cells = (row[..., :, None] * columns + column[..., None, :]).flatten(1)
        # block cells rank before all others, in random order among themselves
        priority += torch.zeros_like(priority).scatter_(1, cells, 1.0)
    keep = priority.topk(num_keep, dim=1).indices
    return torch.ones(batch_size, length, dtype=torch.bool, device=device).scatter_(1, keep, False)


def random_mask(
    batch_size: int,
    length: int,
    mask_ratio: float,
    *,
    device: torch.device | str | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Keeps int(length (1 - mask_ratio)) positions, each choice equally likely (MAE).

    Returns:
        Bool mask (batch_size, length). Raises `ValueError` if nothing would be visible.
    """
    count = num_visible(length, mask_ratio)
    keep = random_uniform((batch_size, length), device=device, generator=generator).topk(count, dim=1).indices
    return torch.ones(batch_size, length, dtype=torch.bool, device=device).scatter_(1, keep, False)


def row_column_mask(
    batch_size: int,
    grid: tuple[int, int],
    row_ratio: float,
    column_ratio: float,
    *,
    device: torch.device | str | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Masks whole rows and whole columns at random; the product of the numbers kept is visible.

    Returns:
        Bool mask (batch_size, rows * columns).
    """
    options = {"device": device, "generator": generator}
    rows = random_mask(batch_size, grid[0], row_ratio, **options)
    columns = random_mask(batch_size, grid[1], column_ratio, **options)
    return (rows[:, :, None] | columns[:, None, :]).flatten(1)


def num_visible(length: int, mask_ratio: float) -> int:
    """int(length (1 - mask_ratio)) in double precision, rounding down as the originals do: 320 and 0.8 give 63.

    Raises `ValueError` if that is none.
    """
    count = int(length * (1 - mask_ratio))
    if not count:
        raise ValueError(f"mask_ratio={mask_ratio} leaves none of {length} positions visible")
    return count


def take_or_draw(
    mask: Tensor | None, batch_size: int, length: int, draw: Callable[[], tuple[Tensor, int]]
) -> tuple[Tensor, Tensor]:
    """The mask (rows, length), bool, that a caller supplied for `batch_size` clips, checked, or else what `draw`
    returns, a mask and the number of positions it leaves visible; and the visible positions (rows, count).

    Raises:
        ValueError: see `check_mask`.
    """
    if mask is None:
        mask, count = draw()
    else:
        mask = mask.bool()
        count = check_mask(mask, length, batch_size)
    return mask, visible_indices(mask, count)


def check_mask(mask: Tensor, num_positions: int, batch_size: int) -> int:
    """The number of visible positions per row of a mask that the caller supplied.

    Raises:
        ValueError: wrong shape, rows with different counts, or nothing visible.
    """
    if mask.ndim != 2 or mask.shape[1] != num_positions or mask.shape[0] % batch_size:
        raise ValueError(
            f"bool_masked_pos: got shape {tuple(mask.shape)}, expected (a multiple of {batch_size}, {num_positions})"
        )
    counts = (~mask.bool()).sum(dim=1)
    lowest, highest = counts.min().item(), counts.max().item()
    if lowest != highest or lowest == 0:
        raise ValueError(
            f"bool_masked_pos of shape {tuple(mask.shape)}: {lowest} to {highest} of {num_positions} positions are "
            "visible, expected the same number, at least 1, in every row"
        )
    return lowest


def visible_indices(mask: Tensor, count: int) -> Tensor:
    """Visible positions, ascending. mask (batch, positions) with `count` visible per row -> (batch, count)."""
    return mask.to(torch.uint8).argsort(dim=1, stable=True)[:, :count]


def gather_tokens(tokens: Tensor, index: Tensor) -> Tensor:
    """tokens (batch, positions, dim), index (batch * clones, count) -> (batch * clones, count, dim); clones are
    adjacent.
    """
    batch, positions = tokens.shape[:2]
    clip = torch.arange(batch, device=index.device).repeat_interleave(index.shape[0] // batch)
    # rows of one matrix: no copy of the tokens per clone
    rows = index + clip[:, None] * positions
    return tokens.flatten(0, 1).index_select(0, rows.flatten()).unflatten(0, index.shape)


def scatter_tokens(base: Tensor, index: Tensor, tokens: Tensor) -> Tensor:
    """`base` (batch, positions, dim) with `tokens` (batch, count, dim) put at `index` (batch, count)."""
    return base.scatter(1, index[..., None].expand_as(tokens), tokens.to(base.dtype))
