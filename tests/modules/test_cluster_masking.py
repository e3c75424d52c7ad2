# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
import pytest
import torch

from hf_audio_ssl.modules.cluster_masking import cluster_mask

DRAWS = 1500
SIZES = dict(min_cluster=3, max_cluster=5)


def draw(grid, count, draws=DRAWS, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return cluster_mask(draws, grid, count, **SIZES, generator=generator)


def draw_one_by_one(grid, count, draws=DRAWS, seed=1):
    """As the method's description has it: one clip, one square, one cell at a time."""
    generator = torch.Generator().manual_seed(seed)
    length = grid[0] * grid[1]
    result = torch.zeros(draws, length, dtype=torch.bool)

    def below(limit):
        return int(torch.randint(limit, (), generator=generator))

    for mask in result:
        width, covered = 3 + below(3), set()
        while len(covered) <= count:
            start = below(length)
            square = (start + grid[1] * i + j for i in range(width) for j in range(width))
            covered |= {cell for cell in square if 0 < cell < length}
        mask[sorted(covered)[:count]] = True
    return result


def statistics(masks, grid):
    """Per draw: masked cells by row and by some columns, and pairs of masked neighbours in both directions."""
    x = masks.view(-1, *grid).float()
    columns = x.sum(1)[:, [0, 1, 2, grid[1] // 2, -2, -1]]
    pairs = torch.stack([(x[:, 1:] * x[:, :-1]).sum((1, 2)), (x[:, :, 1:] * x[:, :, :-1]).sum((1, 2))], dim=1)
    return torch.cat([x.sum(2), columns, pairs], dim=1)


@pytest.mark.parametrize("grid, count", [((8, 64), 400), ((8, 64), 250), ((8, 20), 60), ((8, 20), 9)])
def test_distribution_equals_the_slow_generator(grid, count):
    ours, theirs = draw(grid, count), draw_one_by_one(grid, count)
    assert (ours.sum(1) == count).all() and (theirs.sum(1) == count).all()
    ours, theirs = statistics(ours, grid), statistics(theirs, grid)
    error = ((ours.var(0) + theirs.var(0)) / DRAWS).sqrt().clamp(min=1e-3)
    z = (ours.mean(0) - theirs.mean(0)) / error
    # 16 means: 4.5 standard errors happen once in 9,000 such tests
    assert z.abs().max() < 4.5, z
    spread = (ours.std(0) - theirs.std(0)).abs() / theirs.std(0).clamp(min=0.3)
    assert spread.max() < 0.15, spread


def test_first_cell_is_never_masked_and_all_others_can_be():
    masks = draw((4, 6), 23)
    assert not masks[:, 0].any() and masks[:, 1:].all()


def test_squares_run_on_into_the_next_row_and_end_at_the_last():
    """One square of 3 x 3 is more than enough for 2 cells: the lowest cells of the first square remain."""
    generator = torch.Generator().manual_seed(0)
    masks = cluster_mask(400, (5, 6), 2, min_cluster=3, max_cluster=3, generator=generator)
    cells = {tuple(row.nonzero().flatten().tolist()) for row in masks}
    # start in the middle, at the right border, at the first cell, in the last row
    assert {(7, 8), (5, 6), (1, 2), (26, 27)} <= cells


def test_same_generator_same_masks_and_nothing_is_read_back():
    assert torch.equal(draw((8, 16), 60, 4, seed=3), draw((8, 16), 60, 4, seed=3))
    assert len(draw((8, 16), 60, 64).unique(dim=0)) == 64
    mask = cluster_mask(3, (8, 16), 60, **SIZES, device="meta")
    assert mask.shape == (3, 128) and mask.dtype == torch.bool


@pytest.mark.parametrize("count", [0, 12])
def test_impossible_counts_are_refused(count):
    with pytest.raises(ValueError, match=f"num_masked={count}: expected 1 to 11 of 12 cells"):
        cluster_mask(2, (2, 6), count, **SIZES)
