# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
import torch

from hf_audio_ssl.modules.pooling import masked_mean, token_std

MASK = torch.tensor([[1, 1, 0], [1, 0, 0], [0, 0, 0]]).bool()


def test_mean_of_what_the_mask_leaves():
    x = torch.randn(3, 3, 4)
    expected = torch.stack([x[0, :2].mean(0), x[1, 0], torch.zeros(4)])
    torch.testing.assert_close(masked_mean(x, MASK, dim=1), expected)
    torch.testing.assert_close(masked_mean(x[..., 0], MASK), x[..., 0][MASK].mean())
    torch.testing.assert_close(masked_mean(x, None, dim=1), x.mean(1))
    torch.testing.assert_close(masked_mean(x[..., 0], None), x[..., 0].mean())


def test_token_std_is_that_of_the_real_tokens():
    x = torch.randn(3, 3, 4)
    torch.testing.assert_close(token_std(x, MASK), x[MASK].std(dim=0, correction=0).mean())
    torch.testing.assert_close(token_std(x), x.flatten(0, 1).std(dim=0, correction=0).mean())
    assert token_std(torch.ones(2, 5, 3)) == 0
