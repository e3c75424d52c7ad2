# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from hf_audio_ssl.modules.masking import (
    check_mask,
    gather_tokens,
    inverse_block_mask,
    num_visible,
    random_mask,
    row_column_mask,
    scatter_tokens,
    visible_indices,
)

DRAWS = 2000
BASE = dict(mask_ratio=0.8, adjust=0.07, block_size=5)
LARGE = dict(mask_ratio=0.75, adjust=0.10, block_size=5)


def draw(grid, settings, draws=DRAWS, seed=0):
    """Kept patches (draws, time, mel) as floats."""
    generator = torch.Generator().manual_seed(seed)
    return (~inverse_block_mask(draws, grid, **settings, generator=generator)).view(draws, *grid).float()


def draw_one_by_one(grid, mask_ratio, adjust, block_size, draws=DRAWS, seed=1):
    """The same masks as the method's description has it: one clip, one block, one cell at a time."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = grid
    length, half = rows * columns, block_size // 2
    result = torch.zeros(draws, rows, columns)
    for kept in result:
        for _ in range(int(length * ((1 - mask_ratio + adjust) / block_size**2))):
            row, column = divmod(int(torch.randint(length, (), generator=generator)), columns)
            for i in range(row - half, row - half + block_size):
                for j in range(column - half, column - half + block_size):
                    kept[min(max(i, 0), rows - 1), min(max(j, 0), columns - 1)] = 1
        flat, wanted = kept.view(-1), int(length * (1 - mask_ratio))
        surplus = int(flat.sum()) - wanted
        pool = (flat == (1 if surplus > 0 else 0)).nonzero().flatten()
        chosen = pool[torch.randperm(len(pool), generator=generator)[: abs(surplus)]]
        flat[chosen] = 0 if surplus > 0 else 1
    return result


def statistics(kept):
    """Per draw: pairs of kept neighbours in time and in frequency, kept cells by mel row and by outer time column, and
    how many kept cells have 0 to 4 kept neighbours. (draws, statistics)"""
    neighbours = torch.nn.functional.conv2d(
        kept[:, None], torch.tensor([[[[0.0, 1, 0], [1, 0, 1], [0, 1, 0]]]]), padding=1
    )[:, 0]
    return torch.stack(
        [
            (kept[:, 1:] * kept[:, :-1]).sum((1, 2)),
            (kept[:, :, 1:] * kept[:, :, :-1]).sum((1, 2)),
            *kept.sum(1).unbind(1),
            *kept.sum(2)[:, [0, 1, 2, 3, -1]].unbind(1),
            *(((neighbours == n) * kept).sum((1, 2)) for n in range(5)),
        ],
        dim=1,
    )


@pytest.mark.parametrize("grid, settings", [((64, 8), BASE), ((64, 8), LARGE), ((32, 8), BASE)])
def test_distribution_equals_the_slow_generator(grid, settings):
    ours, theirs = statistics(draw(grid, settings)), statistics(draw_one_by_one(grid, **settings))
    error = ((ours.var(0) + theirs.var(0)) / DRAWS).sqrt().clamp(min=1e-3)
    z = (ours.mean(0) - theirs.mean(0)) / error
    # 22 means at most: 4.5 standard errors happen once in 7,000 such tests
    assert z.abs().max() < 4.5, z
    spread = (ours.std(0) - theirs.std(0)).abs() / theirs.std(0).clamp(min=0.3)
    assert spread.max() < 0.15, spread


@pytest.mark.parametrize(
    "grid, settings, kept, in_time, in_frequency",
    [((64, 8), BASE, 102, 0.75, 0.78), ((64, 8), LARGE, 128, 0.77, 0.80), ((32, 8), BASE, 51, 0.66, 0.68)],
)
def test_counts_and_neighbours_of_the_original(grid, settings, kept, in_time, in_frequency):
    """Figures measured on the authors' generator (2,000 draws; the last pair 6,000)."""
    keep = draw(grid, settings)
    assert (keep.sum((1, 2)) == kept).all()
    assert (keep[:, 1:] * keep[:, :-1]).sum() / keep[:, :-1].sum() == pytest.approx(in_time, abs=0.01)
    assert (keep[:, :, 1:] * keep[:, :, :-1]).sum() / keep[:, :, :-1].sum() == pytest.approx(in_frequency, abs=0.01)


@pytest.mark.parametrize(
    "settings, by_mel, by_time",
    [
        (BASE, [0.15, 0.19, 0.23, 0.23, 0.23, 0.23, 0.19, 0.15], [0.13, 0.17, 0.20]),
        (LARGE, [0.19, 0.24, 0.28, 0.28, 0.28, 0.28, 0.24, 0.19], [0.16, 0.21, 0.25]),
    ],
)
def test_borders_are_kept_as_rarely_as_in_the_original(settings, by_mel, by_time):
    keep = draw((64, 8), settings)
    torch.testing.assert_close(keep.mean((0, 1)), torch.tensor(by_mel), atol=0.015, rtol=0)
    columns = keep.mean((0, 2))
    torch.testing.assert_close(columns[:3], torch.tensor(by_time), atol=0.015, rtol=0)
    torch.testing.assert_close(columns[-3:].flip(0), torch.tensor(by_time), atol=0.015, rtol=0)


def test_same_generator_same_masks():
    assert torch.equal(draw((64, 8), BASE, 4, seed=3), draw((64, 8), BASE, 4, seed=3))
    masks = draw((64, 8), BASE, 64, seed=3).flatten(1)
    assert len(masks.unique(dim=0)) == 64


def test_nothing_is_read_back_from_the_device():
    """Tensors of the meta device have no values: every synchronisation would raise."""
    mask = inverse_block_mask(12, (64, 8), **BASE, device="meta")
    assert mask.shape == (12, 512) and mask.dtype == torch.bool
    assert visible_indices(mask, 102).shape == (12, 102)


def test_number_of_operations_does_not_depend_on_the_batch():
    class Count(TorchDispatchMode):
        calls = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            self.calls += 1
            return function(*args, **(kwargs or {}))

    counts = []
    for batch in (1, 500):
        with Count() as counter:
            inverse_block_mask(batch, (64, 8), **BASE)
        counts.append(counter.calls)
    assert counts[0] == counts[1]


def test_random_masks_keep_every_position_equally_often():
    kept = ~random_mask(DRAWS, 10, 0.7, generator=torch.Generator().manual_seed(0))
    assert (kept.sum(dim=1) == num_visible(10, 0.7)).all()
    share = kept.float().mean(dim=0)
    assert (share - 0.3).abs().max() < 4 * (0.3 * 0.7 / DRAWS) ** 0.5
    with pytest.raises(ValueError, match="mask_ratio=0.8 leaves none of 4 positions"):
        random_mask(2, 4, 0.8)


def test_rows_and_columns_are_masked_whole_and_clip_by_clip():
    masks = row_column_mask(50, (8, 4), 0.25, 0.5, generator=torch.Generator().manual_seed(0)).view(50, 8, 4)
    kept = ~masks
    rows, columns = kept.any(dim=2), kept.any(dim=1)
    assert (rows.sum(dim=1) == 6).all() and (columns.sum(dim=1) == 2).all()
    assert torch.equal(kept, rows[:, :, None] & columns[:, None])
    assert len(rows.unique(dim=0)) > 20 and len(columns.unique(dim=0)) == 6


def test_floating_point_rounds_down_as_the_originals_do():
    assert (num_visible(320, 0.8), num_visible(512, 0.8), num_visible(512, 0.75)) == (63, 102, 128)


@pytest.mark.parametrize(
    "mask, message",
    [
        (torch.zeros(4, 9, dtype=torch.bool), r"got shape \(4, 9\), expected \(a multiple of 2, 8\)"),
        (torch.zeros(3, 8, dtype=torch.bool), r"got shape \(3, 8\)"),
        (torch.zeros(8, dtype=torch.bool), r"got shape \(8,\)"),
        (torch.ones(2, 8, dtype=torch.bool), "0 to 0 of 8 positions"),
        (torch.eye(2, 8).bool() | (torch.arange(2) > 0)[:, None] & (torch.arange(8) < 3), "5 to 7 of 8"),
    ],
)
def test_unusable_masks_are_refused_with_both_shapes(mask, message):
    with pytest.raises(ValueError, match=message):
        check_mask(mask, 8, 2)


def test_gather_then_scatter_puts_tokens_back():
    tokens = torch.randn(2, 6, 3)
    mask = torch.tensor([[1, 0, 0, 1, 1, 0], [0, 1, 1, 0, 1, 0], [0, 0, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0]]).bool()
    assert check_mask(mask, 6, 2) == 3
    index = visible_indices(mask, 3)
    assert index.tolist() == [[1, 2, 5], [0, 3, 5], [0, 1, 5], [3, 4, 5]]
    # clones of a clip are adjacent
    expanded = tokens.repeat_interleave(2, dim=0)
    seen = gather_tokens(tokens, index)
    for row in range(4):
        assert torch.equal(seen[row], expanded[row][~mask[row]])
    restored = scatter_tokens(torch.zeros(4, 6, 3), index, seen)
    assert torch.equal(restored, expanded * ~mask[..., None])
