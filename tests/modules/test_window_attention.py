# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
import math

import pytest
import torch
from torch.nn import functional as F
from transformers import PreTrainedConfig

from hf_audio_ssl.modules.window_attention import WindowTransformerLayer, from_windows, to_windows


def make_layer(layer_index=1, **changes):
    torch.manual_seed(0)
    config = PreTrainedConfig(
        hidden_size=12, num_attention_heads=3, num_hidden_layers=4, intermediate_size=20, hidden_act="gelu",
        layer_norm_eps=1e-6, attention_probs_dropout_prob=0.0, hidden_dropout_prob=0.0, drop_path_rate=0.0,
    )  # fmt: skip
    options = dict(window_size=4, shift=2, bias_hidden_size=7) | changes
    layer = WindowTransformerLayer(config, layer_index, **options).eval()
    with torch.no_grad():
        layer.attention.temperature.copy_(torch.tensor([0.5, 1.0, 0.001]))
    return layer


def attention_one_by_one(attention, x, grid, size, shift, valid):
    """Cell by cell: whom it shares a window with, how similar they are, how far away."""
    rows, columns = grid
    query, key, value = attention.qkv(x).chunk(3, dim=-1)
    bias, output = attention.position_bias, torch.zeros(rows * columns, 12)
    cells = [(r, c) for r in range(rows) for c in range(columns)]
    for i, (r, c) in enumerate(cells):
        mates = [
            j
            for j, (s, d) in enumerate(cells)
            if (s - shift) // size == (r - shift) // size and d // size == c // size and valid[j]
        ]
        for head in range(3):
            part = slice(4 * head, 4 * head + 4)
            scores = []
            for j in mates:
                near = F.cosine_similarity(query[i, part], key[j, part], dim=0)
                offset = torch.tensor([float(r - cells[j][0]), float(c - cells[j][1])])
                offset = offset.sign() * (1 + offset.abs()).log()
                moved = bias.fc2(F.relu(bias.fc1(offset)))[head]
                scores.append(near / max(attention.temperature[head].item(), 0.01) + moved)
            weights = torch.stack(scores).softmax(dim=0)
            output[i, part] = sum(w * value[j, part] for w, j in zip(weights, mates))
    return attention.o_proj(output)


@pytest.mark.parametrize(
    "grid, size, shift",
    [((8, 4), 4, 2), ((8, 4), 4, 0), ((6, 3), 4, 2), ((5, 8), 4, 1), ((4, 4), 4, 2), ((3, 2), 4, 2), ((7, 5), 3, 2)],
)
def test_layer_equals_attention_cell_by_cell(grid, size, shift):
    """Grids that windows fit and do not fit; one window that spans all time is not shifted."""
    layer = make_layer(window_size=size, shift=shift)
    x, valid = torch.randn(2, grid[0] * grid[1], 12), torch.ones(2, grid[0] * grid[1], dtype=torch.bool)
    valid[1, -grid[1] :] = False
    shift = shift if grid[0] > size else 0
    with torch.no_grad():
        actual = layer(x, grid, valid)
        for clip in range(2):
            attended = attention_one_by_one(layer.attention, x[clip], grid, size, shift, valid[clip])
            expected = x[clip] + layer.norm1(attended)
            expected = expected + layer.norm2(layer.mlp(expected))
            real = valid[clip]
            torch.testing.assert_close(actual[clip, real], expected[real], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(layer(x[:1], grid), actual[:1], atol=1e-6, rtol=1e-5)


def test_only_odd_layers_are_shifted():
    x = torch.randn(1, 32, 12)
    with torch.no_grad():
        even, odd = (make_layer(i)(x, (8, 4)) for i in (0, 1))
        unshifted = make_layer(1, shift=0)(x, (8, 4))
    torch.testing.assert_close(even, unshifted)
    assert (even - odd).abs().max() > 1e-2


def test_windows_and_back():
    x = torch.randn(2, 7, 5, 3)
    for size, shift, count in ((4, 0, 4), (4, 2, 6), (3, 1, 6), (8, 0, 1)):
        windows = to_windows(x, size, shift)
        assert windows.shape == (2, count, size * size, 3)
        assert torch.equal(from_windows(windows, (7, 5), size, shift), x)
        assert windows.abs().sum().item() == pytest.approx(x.abs().sum().item(), rel=1e-6)


def test_a_window_of_padding_alone_stays_finite():
    layer = make_layer()
    x = torch.randn(1, 32, 12, requires_grad=True)
    valid = torch.zeros(1, 32, dtype=torch.bool)
    layer(x, (8, 4), valid).sum().backward()
    assert x.grad.isfinite().all()


def test_bias_dropout_is_for_training_only():
    layer, x = make_layer(bias_dropout=0.5), torch.randn(1, 32, 12)
    assert torch.equal(layer(x, (8, 4)), layer(x, (8, 4)))
    layer.train()
    assert not torch.equal(layer(x, (8, 4)), layer(x, (8, 4)))


def test_uniform_attention_without_position_bias_averages_the_window():
    layer = make_layer(0)
    attention = layer.attention
    with torch.no_grad():
        attention.position_bias.fc2.weight.zero_()
        attention.qkv.weight[:24].zero_()  # queries and keys are their biases: all alike
    x = torch.randn(1, 32, 12)
    value = x @ attention.qkv.weight[24:].T + attention.qkv.bias[24:]
    expected = attention.o_proj(value.view(1, 2, 16, 12).mean(dim=2, keepdim=True).expand(1, 2, 16, 12))
    actual = attention(x.view(1, 2, 16, 12))
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-4)
    assert math.isfinite(actual.sum().item())
