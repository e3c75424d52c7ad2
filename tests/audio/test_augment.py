# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
import pytest
import torch

from hf_audio_ssl.audio.augment import (
    crop_to_shortest,
    mixup,
    noise_and_roll,
    roll_waveform,
    sample_beta,
    spec_augment,
    vary_spectrum,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def spans(hidden):
    """Number of separate runs of True in each row of a boolean (batch, length)."""
    padded = torch.nn.functional.pad(hidden.int(), (1, 0))
    return (padded.diff(dim=1) == 1).sum(1)


@pytest.mark.parametrize("a, b", [(0.8, 0.8), (10.0, 10.0), (2.0, 5.0)])
def test_beta_has_the_mean_and_variance_of_the_distribution(a, b):
    x = sample_beta(a, b, (20_000,), generator=generator())
    assert x.min() >= 0 and x.max() <= 1
    assert x.mean().item() == pytest.approx(a / (a + b), abs=0.01)
    assert x.var().item() == pytest.approx(a * b / ((a + b) ** 2 * (a + b + 1)), rel=0.05)


def test_beta_survives_tiny_parameters():
    x = sample_beta(1e-2, 1e-2, (20_000,), generator=generator())
    assert torch.isfinite(x).all()


def test_mixup_mixes_with_the_flipped_batch():
    inputs = torch.randn(4, 6, 3)
    labels = torch.eye(4)
    mixed, targets = mixup(inputs, labels, 0.7)
    for clip in range(4):
        torch.testing.assert_close(mixed[clip], 0.7 * inputs[clip] + 0.3 * inputs[3 - clip])
        assert targets[clip, clip].item() == pytest.approx(0.7)
        assert targets[clip, 3 - clip].item() == pytest.approx(0.3)
    torch.testing.assert_close(targets.sum(1), torch.ones(4))


def test_mixup_of_an_odd_batch_leaves_the_middle_clip():
    inputs = torch.randn(3, 5, 2)
    mixed, targets = mixup(inputs, torch.eye(3), torch.tensor(0.25))
    torch.testing.assert_close(mixed[1], inputs[1])
    torch.testing.assert_close(targets[1], torch.eye(3)[1])


def test_mixup_refuses_class_ids():
    with pytest.raises(ValueError, match="float class weights"):
        mixup(torch.randn(2, 3, 4), torch.tensor([0, 1]), 0.5)


def test_spec_augment_hides_one_span_per_axis_and_differs_between_clips():
    x = torch.ones(500, 100, 40)
    hidden = spec_augment(x, freq_ratio=0.25, time_ratio=0.3, generator=generator()) == 0
    time = hidden.all(2)  # frames hidden in every mel bin
    freq = hidden.all(1)
    assert torch.equal(hidden, time[:, :, None] | freq[:, None, :])
    assert (spans(time) <= 1).all() and (spans(freq) <= 1).all()
    for width, most in ((time.sum(1), 30), (freq.sum(1), 10)):
        assert width.max() == most - 1 and width.min() == 0  # a span is narrower than the limit, and may be empty
        assert width.float().mean().item() == pytest.approx((most - 1) / 2, rel=0.1)  # uniform over 0 ... most - 1
    assert (x == 1).all()  # the input is not written to


def test_spec_augment_is_a_function_of_the_generator():
    x = torch.randn(8, 32, 16)
    first, again, other = (spec_augment(x, generator=generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("ratio", [-0.1, 1.1])
def test_spec_augment_refuses_a_ratio_outside_the_unit_interval(ratio):
    with pytest.raises(ValueError, match="time_ratio"):
        spec_augment(torch.zeros(1, 4, 4), time_ratio=ratio)


def test_spec_augment_with_ratio_zero_changes_nothing():
    x = torch.randn(4, 20, 8)
    assert torch.equal(spec_augment(x, freq_ratio=0.0, time_ratio=0.0), x)


def test_roll_waveform_is_torch_roll_with_a_gain_per_clip():
    x = torch.randn(3, 50)
    shift, gain = torch.tensor([0, 7, 49]), torch.tensor([1.0, 0.5, 2.0])
    rolled = roll_waveform(x, shift=shift, gain=gain)
    for clip in range(3):
        torch.testing.assert_close(rolled[clip], gain[clip] * torch.roll(x[clip], int(shift[clip])))


def test_roll_waveform_keeps_padding_out_of_the_clip():
    x = torch.arange(1.0, 13.0).view(2, 6)
    x[1, 4:] = 0
    rolled = roll_waveform(x, lengths=torch.tensor([6, 4]), shift=torch.tensor([2, 1]), gain=torch.ones(2))
    assert rolled.tolist() == [[5, 6, 1, 2, 3, 4], [10, 7, 8, 9, 0, 0]]


def test_roll_waveform_draws_shift_and_gain_per_clip():
    clips = torch.zeros(2000, 64)
    clips[:, 0] = 1
    rolled = roll_waveform(clips, generator=generator())
    gain, shift = rolled.max(1)
    assert torch.equal(torch.unique(shift), torch.arange(64))  # every shift occurs
    assert gain.mean().item() == pytest.approx(1.0, abs=0.01)
    assert gain.std().item() == pytest.approx((1 / (4 * 21)) ** 0.5, rel=0.05)  # standard deviation of Beta(10, 10)
    assert torch.equal(rolled, roll_waveform(clips, generator=generator()))


def test_noise_and_roll_adds_bounded_noise_at_a_level_per_clip():
    noise = noise_and_roll(torch.zeros(400, 30, 8), generator=generator())
    assert noise.min() >= 0 and noise.max() < 0.1
    level = noise.mean((1, 2)) * 2
    assert level.mean().item() == pytest.approx(0.05, rel=0.1)
    assert level.std().item() == pytest.approx(0.1 / 12**0.5, rel=0.1)


def test_noise_and_roll_shifts_by_at_most_the_limit():
    x = torch.zeros(1000, 30, 2)
    x[:, 15] = 1
    place = noise_and_roll(x, max_level=0.0, max_shift=3, generator=generator()).argmax(1)[:, 0]
    assert torch.unique(place).tolist() == [12, 13, 14, 15, 16, 17, 18]


@pytest.mark.parametrize("function", [spec_augment, roll_waveform, noise_and_roll, vary_spectrum])
def test_augmentations_need_no_loop_and_no_host_sync(function):
    # fake tensors have no data: any `.item()`, `.tolist()` or `if tensor` in the function would raise
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        shape = (5, 40) if function is roll_waveform else (5, 40, 8)
        assert function(torch.zeros(shape)).shape == shape


def test_vary_spectrum_moves_and_leans_every_clip_as_a_whole():
    x = torch.zeros(1000, 3, 16)
    x[:, :, 8] = 1
    moved = vary_spectrum(x, shift=3, generator=generator())
    place = moved.argmax(2)
    assert (place == place[:, :1]).all() and torch.unique(place).tolist() == [5, 6, 7, 8, 9, 10, 11]

    leant = vary_spectrum(torch.zeros(1000, 3, 16), tilt=0.5, generator=generator())
    assert torch.allclose(leant[..., 0], -leant[..., -1]) and torch.allclose(leant, leant[:, :1].expand_as(leant))
    assert 0.49 < leant[..., -1].max() <= 0.5 and leant[..., -1].std().item() == pytest.approx(0.5 / 3**0.5, rel=0.05)
    assert torch.equal(vary_spectrum(x), x)


def test_crops_to_the_shortest_lie_anywhere():
    waves = [torch.arange(10.0), torch.arange(4.0), torch.arange(25.0)]
    torch.manual_seed(0)
    drawn = [crop_to_shortest(waves) for _ in range(200)]
    starts = torch.tensor([[wave[0].item() for wave in crops] for crops in drawn])
    assert all(torch.equal(wave, wave[0] + torch.arange(4.0)) for crops in drawn for wave in crops)
    assert starts.min(dim=0).values.tolist() == [0, 0, 0] and starts.max(dim=0).values.tolist() == [6, 0, 21]
    one, other = (crop_to_shortest(waves, torch.Generator().manual_seed(3)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, other))
