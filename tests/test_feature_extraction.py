# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""The extractor that waveform methods share. Bad input: test_bad_input.py; whatever else: test_fuzz.py."""

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2FeatureExtractor

from hf_audio_ssl.data.corpus import Corpus
from hf_audio_ssl.data.statistics import corpus_statistics
from hf_audio_ssl.feature_extraction_base import WaveformFeatureExtractor

RATE = 16000


def waves(*lengths):
    return [0.1 * np.random.default_rng(n).standard_normal(n).astype(np.float32) + 0.05 for n in lengths]


def test_each_clip_has_mean_0_and_variance_1_before_padding():
    batch = WaveformFeatureExtractor()(waves(1000, 700), sampling_rate=RATE)
    values, mask = batch["input_values"], batch["attention_mask"]
    assert values.shape == mask.shape == (2, 1000) and mask.dtype == torch.int32
    assert mask.sum(1).tolist() == [1000, 700] and not values[1, 700:].any()
    for clip, wave in zip(values, waves(1000, 700)):
        expected = (wave.astype(np.float64) - wave.mean()) / np.sqrt(wave.astype(np.float64).var() + 1e-5)
        np.testing.assert_allclose(clip[: len(wave)].numpy(), expected, atol=1e-5)


def test_equals_transformers_extractor_up_to_its_eps():
    theirs = Wav2Vec2FeatureExtractor(return_attention_mask=True)(
        waves(900, 500), sampling_rate=RATE, padding=True, return_tensors="pt"
    )
    ours = WaveformFeatureExtractor(eps=1e-7)(waves(900, 500), sampling_rate=RATE)
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "options, shape",
    [
        ({}, (2, 900)),
        (dict(padding=True, pad_to_multiple_of=320), (2, 960)),
        (dict(padding="max_length"), (2, 900)),
        (dict(padding="max_length", max_length=1200), (2, 1200)),
        (dict(padding="max_length", truncation=True), (2, 800)),
        (dict(truncation=True, max_length=700), (2, 700)),
        (dict(padding=False, truncation=True, max_length=500), (2, 500)),
    ],
)
def test_lengths(options, shape):
    extractor = WaveformFeatureExtractor(max_length=800)
    batch = extractor(waves(900, 500), sampling_rate=RATE, **options)
    assert batch["input_values"].shape == batch["attention_mask"].shape == shape
    assert batch["attention_mask"].sum(1).tolist() == [min(900, shape[1]), 500]
    # what is cut off was part of the clip that is normalised
    whole = extractor(waves(900), sampling_rate=RATE)["input_values"]
    real = min(900, shape[1])
    torch.testing.assert_close(batch["input_values"][:1, :real], whole[:, :real])


def test_raw_samples_and_another_padding_value():
    extractor = WaveformFeatureExtractor(do_normalize=False, padding_value=-3.0, return_attention_mask=False)
    batch = extractor(waves(600, 500), sampling_rate=RATE)
    assert "attention_mask" not in batch
    assert torch.equal(batch["input_values"][0], torch.from_numpy(waves(600)[0]))
    assert (batch["input_values"][1, 500:] == -3).all()


def test_too_short_for_the_model():
    with pytest.raises(ValueError, match="got a clip of 399 samples, expected at least 400"):
        WaveformFeatureExtractor()(waves(500, 399), sampling_rate=RATE)
    assert WaveformFeatureExtractor(min_length=10).min_samples("longest") == 10


def test_saved_and_loaded(tmp_path):
    extractor = WaveformFeatureExtractor(sampling_rate=8000, max_length=123, eps=1e-3)
    extractor.save_pretrained(tmp_path)
    assert WaveformFeatureExtractor.from_pretrained(tmp_path).to_dict() == extractor.to_dict()


def test_there_are_no_statistics_of_a_spectrogram():
    with pytest.raises(ValueError, match="WaveformFeatureExtractor makes no spectrogram"):
        corpus_statistics(Corpus([{"array": waves(900)[0], "sampling_rate": RATE}]), WaveformFeatureExtractor())
