# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
import torch

from hf_audio_ssl.modules.normalisation import normalise_over_time


def test_equals_torch_s_instance_norm():
    x = 3 * torch.randn(2, 7, 4, generator=torch.Generator().manual_seed(0)) + 5
    expected = torch.nn.functional.instance_norm(x.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(normalise_over_time(x), expected)
    torch.testing.assert_close(normalise_over_time(x, torch.ones(2, 7, dtype=torch.bool)), expected)


def test_steps_that_do_not_count_change_nothing():
    x = torch.randn(3, 2, 9, 4, generator=torch.Generator().manual_seed(0))
    valid = torch.arange(9) < torch.tensor([[9], [5]])
    normalised = normalise_over_time(x, valid)
    torch.testing.assert_close(normalised[:, 1, :5], normalise_over_time(x[:, 1, :5]))
    x[:, 1, 5:] = 100.0
    torch.testing.assert_close(normalise_over_time(x, valid)[:, 1, :5], normalised[:, 1, :5])


def test_a_constant_channel_stays_finite():
    assert not normalise_over_time(torch.ones(1, 5, 2)).any()
    assert not normalise_over_time(torch.ones(1, 1, 2)).any()
