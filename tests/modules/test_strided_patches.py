# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
import pytest
import torch
from torch.nn import functional as F

from hf_audio_ssl.modules.strided_patches import StridedPatchEmbedding, pixels, positions_for_grid, real_columns


def test_patches_are_frequency_major_and_may_overlap():
    embedding, x = StridedPatchEmbedding(4, 2, 3, 5), torch.randn(2, 11, 8)
    y = embedding(x)
    rows, columns = 3, 3
    assert y.shape == (2, rows * columns, 5)
    weight = embedding.projection.weight[:, 0]  # (dim, mels, frames)
    for row in range(rows):
        for column in range(columns):
            patch = x[1, 3 * column : 3 * column + 4, 2 * row : 2 * row + 4]
            expected = (weight * patch.T).sum((1, 2)) + embedding.projection.bias
            torch.testing.assert_close(y[1, row * columns + column], expected, atol=1e-5, rtol=1e-4)


def test_pixels_are_the_patches_of_the_embedding():
    embedding, x = StridedPatchEmbedding(4, 4, 4, 5), torch.randn(2, 15, 8)
    expected = pixels(x, 4) @ embedding.projection.weight.flatten(1).T + embedding.projection.bias
    torch.testing.assert_close(embedding(x), expected, atol=1e-5, rtol=1e-4)


def test_a_patch_is_real_if_all_its_frames_are():
    mask = torch.tensor([[1] * 10, [1] * 7 + [0] * 3, [1] * 3 + [0] * 7])
    assert real_columns(mask, 4, 2).tolist() == [[True] * 4, [True, True, False, False], [False] * 4]


def test_short_clips_take_the_first_positions():
    table = torch.randn(3, 6, 4)
    assert torch.equal(positions_for_grid(table, (3, 4))[0], table[:, :4])
    assert torch.equal(positions_for_grid(table, (3, 6), torch.tensor([6, 2]))[0], table)


@pytest.mark.parametrize("grid", [(3, 7), (3, 25), (5, 6), (5, 13), (2, 9)])
def test_longer_grids_are_interpolated_as_torch_does(grid):
    table = torch.randn(3, 6, 4)
    expected = F.interpolate(table.permute(2, 0, 1)[None], grid, mode="bilinear")[0].permute(1, 2, 0)
    torch.testing.assert_close(positions_for_grid(table, grid)[0], expected)


def test_positions_do_not_depend_on_the_padding_of_longer_clips():
    table = torch.randn(3, 6, 4, requires_grad=True)
    together = positions_for_grid(table, (3, 20), torch.tensor([20, 9, 4]))
    for row, columns in zip(together, (20, 9, 4)):
        torch.testing.assert_close(row[:, :columns], positions_for_grid(table, (3, columns))[0])
    together.sum().backward()
    assert table.grad.isfinite().all() and (table.grad != 0).all()
