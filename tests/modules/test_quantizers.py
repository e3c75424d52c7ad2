# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
import pytest
import torch

from hf_audio_ssl.modules.quantizers import gumbel_noise_like, gumbel_one_hot, perplexity, product_codevectors


def test_noise_is_gumbel_and_choices_follow_the_softmax():
    logits = torch.tensor([0.0, 1.0, 2.0]).expand(60000, 3)
    noise = gumbel_noise_like(logits, torch.Generator().manual_seed(0))
    assert noise.mean().item() == pytest.approx(0.5772, abs=0.01)
    assert noise.var().item() == pytest.approx(torch.pi**2 / 6, abs=0.03)
    _, codes = gumbel_one_hot(logits, 0.7, noise)
    share = torch.bincount(codes) / len(codes)
    torch.testing.assert_close(share, logits[0].softmax(dim=0), atol=0.01, rtol=0)


def test_hard_forward_soft_backward():
    torch.manual_seed(0)
    logits, noise = torch.randn(50, 2, 7, requires_grad=True), gumbel_noise_like(torch.empty(50, 2, 7))
    one_hot, codes = gumbel_one_hot(logits, torch.tensor(0.5), noise)
    assert set(one_hot.unique().tolist()) == {0.0, 1.0}  # exactly
    assert torch.equal(codes, (logits + noise).argmax(dim=-1)) and torch.equal(one_hot.argmax(dim=-1), codes)
    weight = torch.randn(50, 2, 7)
    (one_hot * weight).sum().backward()
    again = logits.detach().clone().requires_grad_()
    (((again + noise) / 0.5).softmax(dim=-1) * weight).sum().backward()
    torch.testing.assert_close(logits.grad, again.grad)
    assert torch.equal(gumbel_one_hot(logits, 1.0)[1], logits.argmax(dim=-1))


def test_code_vectors_of_the_groups_lie_side_by_side():
    codebook = torch.arange(12.0).view(2, 3, 2)
    one_hot = torch.nn.functional.one_hot(torch.tensor([[[0, 2], [1, 1]]]), 3).float()
    assert product_codevectors(one_hot, codebook).tolist() == [[[0, 1, 10, 11], [2, 3, 8, 9]]]


def test_perplexity_counts_codes_in_use():
    codes = torch.tensor([[[0, 0], [1, 0], [2, 0], [3, 0]], [[3, 1], [3, 1], [3, 1], [3, 1]]])
    hard = torch.nn.functional.one_hot(codes, 5).float()
    everything, first = torch.ones(2, 4), torch.tensor([[1.0] * 4, [0.0] * 4])
    assert perplexity(hard, first).item() == pytest.approx(4 + 1, rel=1e-4)
    p = torch.tensor([1 / 8] * 3 + [5 / 8])
    assert perplexity(hard, everything).item() == pytest.approx((-(p * p.log()).sum()).exp().item() + 2, rel=1e-4)
    uniform = torch.full((1, 3, 2, 5), 0.2, requires_grad=True)
    perplexity(uniform, torch.ones(1, 3)).backward()
    assert uniform.grad.isfinite().all()
