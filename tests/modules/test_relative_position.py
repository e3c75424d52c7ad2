# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Relative position bias and positional convolution."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hf_audio_ssl.modules.relative_position import PositionalConvolution, RelativePositionBias, relative_buckets


@pytest.mark.parametrize("num_buckets, max_distance", [(32, 128), (320, 800), (16, 20)])
def test_buckets_are_those_of_t5(num_buckets, max_distance):
    from transformers.models.t5.modeling_t5 import T5Attention

    distance = torch.arange(-1000, 1001)
    expected = T5Attention._relative_position_bucket(distance, True, num_buckets, max_distance)
    assert torch.equal(relative_buckets(distance, num_buckets, max_distance), expected)


def test_bias_depends_on_the_distance_between_key_and_query():
    bias = RelativePositionBias(16, 20, num_heads=3)
    full = bias(9)
    assert full.shape == (1, 3, 9, 9)
    for query in range(9):
        for key in range(9):
            bucket = relative_buckets(torch.tensor(key - query), 16, 20)
            assert torch.equal(full[0, :, query, key], bias.embedding.weight[bucket])
    assert not torch.equal(full, full.transpose(2, 3))


def test_bias_of_some_positions_is_that_part_of_the_whole():
    bias, positions = RelativePositionBias(16, 20, num_heads=3), torch.tensor([[0, 2, 7], [3, 4, 8]])
    full, part = bias(9), bias(9, positions)
    for row, index in enumerate(positions):
        assert torch.equal(part[row], full[0][:, index][:, :, index])


@pytest.mark.parametrize("kernel_size", [4, 5])
def test_convolution_is_weight_normalised_per_tap_and_keeps_the_length(kernel_size):
    module = PositionalConvolution(8, kernel_size, groups=2)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    reference = nn.Conv1d(8, 8, kernel_size, padding=kernel_size // 2, groups=2)
    reference = torch.nn.utils.parametrizations.weight_norm(reference, dim=2)
    reference.parametrizations.weight.original0.data = module.gain.data
    reference.parametrizations.weight.original1.data = module.direction.data
    reference.bias.data = module.bias.data
    x = torch.randn(2, 11, 8)
    expected = F.gelu(reference(x.transpose(1, 2))[..., :11]).transpose(1, 2)
    torch.testing.assert_close(module(x), expected, atol=1e-6, rtol=1e-5)


def test_first_kernel_is_the_direction_itself():
    module = PositionalConvolution(32, 16, groups=4)
    torch.manual_seed(0)
    with torch.no_grad():
        direction, gain = module.initial_values()
        module.direction.copy_(direction)
        module.gain.copy_(gain)
        module.bias.zero_()
    assert direction.std().item() == pytest.approx((4 / (16 * 32)) ** 0.5, rel=0.05)
    x = torch.randn(1, 40, 32)
    expected = F.gelu(F.conv1d(x.transpose(1, 2), direction, padding=8, groups=4)[..., :40]).transpose(1, 2)
    torch.testing.assert_close(module(x), expected, atol=1e-5, rtol=1e-4)
