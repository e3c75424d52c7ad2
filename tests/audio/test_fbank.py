# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
import math

import pytest
import torch

from hf_audio_ssl.audio.fbank import _CPU_BLOCK, kaldi_fbank, mel_filters, window_function

try:
    from torchaudio.compliance import kaldi
except (ImportError, OSError, RuntimeError):
    # torchaudio loads only beside the torch build it was made for
    kaldi = None

needs_torchaudio = pytest.mark.skipif(kaldi is None, reason="torchaudio does not load here")
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


def sound(seconds=1.0, rate=16000, seed=0):
    """A chirp over noise, with an offset and a silent gap: loud, quiet and empty frames."""
    generator = torch.Generator().manual_seed(seed)
    t = torch.arange(int(seconds * rate)) / rate
    wave = 0.4 * torch.sin(2 * math.pi * (100 + rate / 6 * t) * t) + 0.05 * torch.randn(len(t), generator=generator)
    wave[len(t) // 2 : len(t) // 2 + rate // 10] = 0
    return wave + 0.02


def reference(wave, **settings):
    """torchaudio under our names."""
    names = {"sampling_rate": "sample_frequency", "preemphasis": "preemphasis_coefficient"}
    settings = {names.get(name, name): value for name, value in settings.items()}
    defaults = dict(num_mel_bins=128, window_type="hanning", dither=0.0, use_energy=False, htk_compat=True)
    return kaldi.fbank(wave[None], **(defaults | settings))


SETTINGS = [
    {},
    {"window_type": "hamming"},
    {"window_type": "povey"},
    {"window_type": "rectangular"},
    {"num_mel_bins": 23},
    {"num_mel_bins": 80, "window_type": "povey", "low_freq": 0.0},
    {"num_mel_bins": 40, "low_freq": 60.0, "high_freq": 7600.0},
    {"num_mel_bins": 64, "high_freq": -400.0},
    {"preemphasis": 0.0},
    {"remove_dc_offset": False},
    {"remove_dc_offset": False, "preemphasis": 0.0, "window_type": "rectangular"},
    {"use_power": False},
    {"frame_length": 32.0, "frame_shift": 16.0},
    {"frame_length": 20.0, "frame_shift": 12.5},
    {"frame_length": 64.0, "frame_shift": 5.0},
    {"sampling_rate": 8000, "num_mel_bins": 64},
    {"sampling_rate": 22050},
    {"sampling_rate": 44100, "window_type": "hamming"},
    {"sampling_rate": 32000, "frame_length": 31.25, "num_mel_bins": 128},
]


@needs_torchaudio
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_equals_torchaudio(settings, device):
    rate = settings.get("sampling_rate", 16000)
    wave = sound(1.0, rate)
    features, counts = kaldi_fbank(wave[None].to(device), **settings)
    expected = reference(wave, **settings)
    assert features.dtype == torch.float32 and features.device.type == device
    assert features.shape == (1, *expected.shape) and counts.tolist() == [len(expected)]
    torch.testing.assert_close(features[0].cpu(), expected, atol=1e-3, rtol=0)


@needs_torchaudio
@pytest.mark.parametrize("scale", [1e-6, 1.0, 32768.0])
def test_equals_torchaudio_at_any_level(scale):
    wave = sound() * scale
    torch.testing.assert_close(kaldi_fbank(wave[None])[0][0], reference(wave), atol=1e-3, rtol=0)


@needs_torchaudio
def test_dither_of_one_clip_is_torchaudios():
    wave = sound()
    torch.manual_seed(7)
    expected = reference(wave, dither=0.01)
    torch.manual_seed(7)
    torch.testing.assert_close(kaldi_fbank(wave[None], dither=0.01)[0][0], expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("device", DEVICES)
def test_ragged_clips_equal_single_clips(device):
    waves = [sound(seconds, seed=i).to(device) for i, seconds in enumerate((0.3, 1.234, 0.025, 2.0, 0.0256))]
    features, counts = kaldi_fbank(waves)
    assert features.shape == (5, 198, 128) and counts.tolist() == [28, 121, 1, 198, 1]
    for wave, rows, count in zip(waves, features, counts.tolist()):
        alone, _ = kaldi_fbank(wave[None])
        torch.testing.assert_close(rows[:count], alone[0], atol=1e-4, rtol=1e-5)
        assert (rows[count:] == 0).all()


def test_a_list_of_equal_clips_equals_a_tensor():
    waves = torch.stack([sound(seed=i) for i in range(3)])
    assert torch.equal(kaldi_fbank(waves)[0], kaldi_fbank(list(waves))[0])


@pytest.mark.parametrize("frames", [_CPU_BLOCK - 1, _CPU_BLOCK, _CPU_BLOCK + 1, 2 * _CPU_BLOCK, 2 * _CPU_BLOCK + 3])
def test_blocks_leave_no_seam(frames):
    wave = sound((frames * 160 + 240) / 16000)
    whole, counts = kaldi_fbank(wave[None], num_mel_bins=16)
    assert counts.tolist() == [frames]
    for frame in (0, _CPU_BLOCK - 2, _CPU_BLOCK - 1, _CPU_BLOCK, 2 * _CPU_BLOCK - 1, 2 * _CPU_BLOCK, frames - 1):
        if frame < frames:
            alone, _ = kaldi_fbank(wave[None, frame * 160 : frame * 160 + 400], num_mel_bins=16)
            torch.testing.assert_close(whole[0, frame], alone[0, 0], atol=1e-4, rtol=1e-5)


def test_single_precision_whatever_goes_in():
    """Also under autocast, where half precision would ruin the spectrum."""
    wave = sound()[None]
    expected, _ = kaldi_fbank(wave)
    torch.testing.assert_close(kaldi_fbank(wave.double())[0], expected, atol=1e-4, rtol=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features, _ = kaldi_fbank(wave)
    assert features.dtype == torch.float32 and torch.equal(features, expected)


def test_input_is_left_alone():
    wave = sound()[None]
    before = wave.clone()
    kaldi_fbank(wave, dither=0.1)
    assert torch.equal(wave, before)


def test_dither_follows_its_generator():
    waves = [sound(0.4), sound(1.1)]

    def run(seed, dither=0.1):
        return kaldi_fbank(waves, dither=dither, generator=torch.Generator().manual_seed(seed))[0]

    assert torch.equal(run(1), run(1)) and not torch.equal(run(1), run(2))
    state = torch.get_rng_state()
    run(3)
    assert torch.equal(torch.get_rng_state(), state)
    # noise of standard deviation d in a silent clip adds d^2 per sample to the power: log mel grows by 2 log 10
    silent = torch.zeros(1, 160000)
    levels = [
        kaldi_fbank(silent, num_mel_bins=23, dither=d, generator=torch.Generator().manual_seed(0))[0].mean()
        for d in (0.01, 0.1)
    ]
    assert (levels[1] - levels[0]).item() == pytest.approx(2 * math.log(10), abs=1e-3)


def test_silence_is_the_floor():
    features, _ = kaldi_fbank(torch.zeros(2, 16000))
    torch.testing.assert_close(features, torch.full_like(features, math.log(torch.finfo(torch.float32).eps)))


def test_a_tone_peaks_in_its_own_filter():
    time = torch.arange(16000) / 16000
    for hertz in (300.0, 1000.0, 4000.0):
        features, _ = kaldi_fbank(torch.sin(2 * math.pi * hertz * time)[None], num_mel_bins=64)
        peak = features[0].mean(0).argmax()
        response = mel_filters(64, 512, 16000, 20.0, 0.0)[round(hertz / 16000 * 512)]
        assert response[peak] > 0


def test_windows_are_symmetric_and_named():
    for name in ("hanning", "hamming", "povey", "rectangular"):
        window = window_function(name, 400)
        torch.testing.assert_close(window, window.flip(0), atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="window_type='kaiser': expected one of hanning, hamming"):
        window_function("kaiser", 400)


@pytest.mark.parametrize(
    "wave, settings, message",
    [
        (torch.zeros(1, 399), {}, "got a clip of 399 samples, expected at least one window of 400"),
        ([torch.zeros(800), torch.zeros(10)], {}, "got a clip of 10 samples"),
        (torch.zeros(1, 800), {"window_type": "no"}, "window_type"),
        (torch.zeros(1, 800), {"low_freq": 9000.0}, "low_freq=9000.0"),
        (torch.zeros(1, 800), {"high_freq": 8001.0}, "high_freq=8001.0"),
        (torch.zeros(1, 800), {"high_freq": -8000.0}, "high_freq"),
    ],
)
def test_bad_arguments(wave, settings, message):
    with pytest.raises(ValueError, match=message):
        kaldi_fbank(wave, **settings)
