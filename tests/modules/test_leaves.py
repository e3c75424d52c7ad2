# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Patches, positions, transformer blocks, decoders and teachers."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedConfig

from hf_audio_ssl.configuration_base import AudioSSLConfig, SpectrogramConfig
from hf_audio_ssl.modeling_base import AudioSSLPreTrainedModel
from hf_audio_ssl.modules.decoders import ConvDecoder2d
from hf_audio_ssl.modules.ema import ema_update, make_teacher
from hf_audio_ssl.modules.patch_embed import (
    PatchEmbedding,
    check_spectrogram,
    patch_attention_mask,
    patchify,
    unpatchify,
)
from hf_audio_ssl.modules.positional import sincos_table, sincos_table_2d
from hf_audio_ssl.modules.transformer import (
    DropPath,
    SelfAttention,
    TransformerLayer,
    drop_layer,
    scale_gradient,
    tag_xavier,
)


def block_config(implementation="eager", **changes):
    values = dict(
        hidden_size=12,
        num_attention_heads=3,
        num_hidden_layers=4,
        intermediate_size=20,
        hidden_act="gelu",
        layer_norm_eps=1e-6,
        attention_probs_dropout_prob=0.0,
        hidden_dropout_prob=0.0,
        drop_path_rate=0.0,
    )
    return PreTrainedConfig(**(values | changes), attn_implementation=implementation)


# patches


def test_patches_are_time_major_and_the_tail_is_dropped():
    embedding = PatchEmbedding(4, 16)
    with torch.no_grad():  # each dimension copies one cell of the patch
        embedding.projection.weight.copy_(torch.eye(16).view(16, 1, 4, 4))
        embedding.projection.bias.zero_()
    x = torch.randn(2, 11, 8)
    patches = embedding(x)
    assert patches.shape == (2, 4, 16)
    for t in range(2):
        for f in range(2):
            cell = x[:, 4 * t : 4 * t + 4, 4 * f : 4 * f + 4]
            torch.testing.assert_close(patches[:, 2 * t + f], cell.flatten(1))


def test_patch_embedding_is_a_linear_map_of_the_patches():
    embedding, x = PatchEmbedding(4, 5, bias=False), torch.randn(2, 11, 8)
    torch.testing.assert_close(embedding(x), patchify(x, 4) @ embedding.projection.weight.flatten(1).T)


@pytest.mark.parametrize("shape", [(2, 3, 8), (2, 8), (2, 0, 8), (1, 1, 16, 8), (2, 16, 12), (2, 16, 9), (2, 16, 4)])
def test_patches_refuse_other_shapes(shape):
    config = SpectrogramConfig(patch_size=4, num_mel_bins=8)
    with pytest.raises(ValueError, match="input_values: got shape .* of 4 frames, and num_mel_bins=8 bins"):
        check_spectrogram(config, torch.zeros(shape))
    check_spectrogram(config, torch.zeros(2, 4, 8), torch.ones(2, 4))


def test_a_patch_is_real_if_all_its_frames_are():
    mask = torch.tensor([[1] * 11, [1] * 7 + [0] * 4, [0] * 11])
    assert patch_attention_mask(mask, 4, 2).int().tolist() == [[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]]


def test_patchify_orders_cells_as_the_patch_convolution_does():
    x = torch.randn(2, 11, 8)
    embedding = PatchEmbedding(4, 16)
    with torch.no_grad():  # each dimension copies one cell of the patch
        embedding.projection.weight.copy_(torch.eye(16).view(16, 1, 4, 4))
        embedding.projection.bias.zero_()
    patches = patchify(x, 4)
    torch.testing.assert_close(patches, embedding(x))
    assert torch.equal(unpatchify(patches, 4, 2), x[:, :8])


# positions


def test_sincos_table_is_the_formula():
    table = sincos_table(torch.tensor([0, 1, 767]), 8)
    for row, position in enumerate((0, 1, 767)):
        for i in range(4):
            angle = position * 10000 ** (-2 * i / 8)
            assert table[row, i].item() == pytest.approx(math.sin(angle), abs=1e-12)
            assert table[row, 4 + i].item() == pytest.approx(math.cos(angle), abs=1e-12)


def test_two_dimensional_table_keeps_the_axes_apart():
    table = sincos_table_2d(5, 3, 16).view(5, 3, 16)
    assert torch.equal(table[0, :, :8], table[4, :, :8])  # the first half tells columns apart,
    assert torch.equal(table[:, 0, 8:], table[:, 2, 8:])  # the second rows
    assert len(table.flatten(0, 1).unique(dim=0)) == 15
    with pytest.raises(ValueError, match="multiple of 4"):
        sincos_table_2d(5, 3, 18)


# transformer


def reference_attention(layer, x, keep):
    heads = layer.config.num_attention_heads
    q, k, v = (p(x).unflatten(-1, (heads, -1)).transpose(1, 2) for p in (layer.q_proj, layer.k_proj, layer.v_proj))
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    scores = scores.masked_fill(~keep[:, None, None], -math.inf)
    return layer.o_proj((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_attention_is_the_textbook_formula(implementation):
    layer = SelfAttention(block_config(implementation)).eval()
    x, keep = torch.randn(2, 7, 12), torch.ones(2, 7, dtype=torch.bool)
    keep[1, 4:] = False
    mask = torch.zeros(2, 1, 7, 7).masked_fill(~keep[:, None, None], torch.finfo(torch.float32).min)
    actual, _ = layer(x, mask)
    torch.testing.assert_close(actual, reference_attention(layer, x, keep), atol=1e-6, rtol=1e-5)


def test_attention_weights_sum_to_one():
    _, weights = SelfAttention(block_config())(torch.randn(2, 7, 12))
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 7))


def test_xavier_takes_q_k_and_v_as_one_matrix():
    class Model(AudioSSLPreTrainedModel):
        config_class = AudioSSLConfig

        def __init__(self, config):
            super().__init__(config)
            self.layer = TransformerLayer(config, 0)
            tag_xavier(self)
            self.post_init()

    layer = Model(AudioSSLConfig(hidden_size=60, num_attention_heads=3, intermediate_size=140)).layer
    for linear, outputs in ((layer.attention.k_proj, 180), (layer.attention.o_proj, 60), (layer.mlp.fc1, 140)):
        bound = math.sqrt(6 / (60 + outputs))
        assert 0.97 * bound < linear.weight.abs().max() <= bound
        assert linear.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)
        assert not linear.bias.any()


def test_a_part_of_a_config_has_its_own_sizes_and_shares_the_rest():
    config = AudioSSLConfig(hidden_size=12, decoder_hidden_size=8)
    part = config.part("decoder_")
    assert (part.hidden_size, part.num_attention_heads) == (8, config.num_attention_heads)
    config._attn_implementation = "eager"
    assert part._attn_implementation == copy.deepcopy(part)._attn_implementation == "eager"
    with pytest.raises(AttributeError, match="height"):
        print(part.height)


@pytest.mark.parametrize("norm_first", [True, False])
def test_layer_equals_torchs(norm_first):
    config = block_config()
    layer = TransformerLayer(config, 0, norm_first=norm_first).eval()
    reference = nn.TransformerEncoderLayer(
        12, 3, 20, 0.0, "gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=norm_first
    ).eval()
    attention = layer.attention
    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    with torch.no_grad():
        reference.self_attn.in_proj_weight.copy_(torch.cat([p.weight for p in projections]))
        reference.self_attn.in_proj_bias.copy_(torch.cat([p.bias for p in projections]))
    for name, ours in (
        ("self_attn.out_proj", attention.o_proj),
        ("linear1", layer.mlp.fc1),
        ("linear2", layer.mlp.fc2),
        ("norm1", layer.norm1),
        ("norm2", layer.norm2),
    ):
        reference.get_submodule(name).load_state_dict(ours.state_dict())
    x = torch.randn(2, 7, 12)
    torch.testing.assert_close(layer(x), reference(x), atol=1e-6, rtol=1e-5)


def test_drop_path_drops_whole_samples_and_keeps_the_mean():
    torch.manual_seed(0)
    drop, x = DropPath(0.25), torch.ones(4000, 2, 3)
    y = drop(x)
    torch.testing.assert_close(y.unique(), torch.tensor([0, 4 / 3]))
    assert torch.equal(y.amax((1, 2)), y.amin((1, 2)))
    # standard error of the mean: sqrt(1/3) / sqrt(4000) = 0.009
    assert y.mean().item() == pytest.approx(1, abs=0.04)
    assert drop.eval()(x) is x


def test_drop_path_rate_grows_with_depth():
    rates = [TransformerLayer(block_config(drop_path_rate=0.3), i).drop_path.p for i in range(4)]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3])


# decoder


@pytest.mark.parametrize("width", [8, 12])
def test_decoder_is_a_chain_of_convolutions_with_residuals(width):
    decoder = ConvDecoder2d(8, width, 3, 3, 4)
    x = torch.randn(2, 15, 8)
    expected = x.transpose(1, 2).reshape(2, 8, 5, 3)
    for conv in decoder.layers:
        y = F.conv2d(expected, conv.weight, conv.bias, padding=1, groups=4)
        y = (y - y.mean(1, keepdim=True)) / (y.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
        expected = F.gelu(y) + (expected if expected.shape == y.shape else 0)
    expected = decoder.projection(expected.flatten(2).transpose(1, 2))
    actual = decoder(x, (5, 3))
    assert actual.shape == x.shape
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


# teachers


def test_teacher_is_a_frozen_copy_in_evaluation_mode():
    student = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5)).train()
    teacher = make_teacher(student)
    assert not teacher.training and not any(p.requires_grad for p in teacher.parameters())
    assert student.training and all(p.requires_grad for p in student.parameters())
    assert teacher[0].weight is not student[0].weight and torch.equal(teacher[0].weight, student[0].weight)


def test_ema_is_the_formula_and_copies_buffers():
    student = nn.BatchNorm1d(4)
    teacher = make_teacher(student)
    with torch.no_grad():
        student.weight.copy_(torch.tensor([1.0, 2, 3, 4]))
        teacher.weight.copy_(torch.tensor([3.0, 2, 1, 0]))
        student.running_mean.fill_(7)
        student.num_batches_tracked.fill_(5)
    ema_update(teacher, student, 0.75)
    assert teacher.weight.tolist() == [2.5, 2.0, 1.5, 1.0]
    assert teacher.running_mean.tolist() == [7.0] * 4 and teacher.num_batches_tracked == 5
    assert teacher.weight.grad_fn is None


def test_ema_of_a_half_precision_student_stays_in_single_precision():
    student = nn.Linear(2, 1, bias=False).bfloat16()
    teacher = make_teacher(student).float()
    before = teacher.weight.clone()
    with torch.no_grad():
        student.weight.add_(1)
    ema_update(teacher, student, 0.9999)
    # a step of 1e-4 would be lost in bfloat16
    torch.testing.assert_close(teacher.weight - before, torch.full((1, 2), 1e-4), atol=1e-6, rtol=0.02)


def test_a_dropped_layer_passes_on_what_went_in_and_has_gradients_of_zero():
    before, after = torch.ones(2, 3), torch.full((2, 3), 5.0, requires_grad=True)
    drop_layer(before, after, 1.0).sum().backward()
    assert torch.equal(drop_layer(before, after, 1.0), before) and not after.grad.any()
    assert torch.equal(drop_layer(before, after, 0.0), after)
    share = torch.stack([drop_layer(before, after, 0.3)[0, 0] == 1 for _ in range(500)]).float().mean()
    assert 0.2 < share < 0.4


def test_scaled_gradient_leaves_the_values():
    x = torch.randn(7, requires_grad=True)
    y = scale_gradient(x, 0.25)
    y.sum().backward()
    assert torch.equal(y, x) and torch.equal(x.grad, torch.full((7,), 0.25))
