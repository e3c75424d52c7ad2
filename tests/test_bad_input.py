# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Bad input gets a ValueError that names the argument, what came, and what is expected.

Checkpoints: tests/conversion. Files: tests/audio, tests/data. Killed processes: tests/training.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from huggingface_hub.errors import StrictDataclassError

from hf_audio_ssl import BeatsConfig, EatConfig
from hf_audio_ssl.testing.mixins import find_testers

TESTERS = list(find_testers(Path(__file__).parent / "models").values())
EVERY = pytest.mark.parametrize("tester", TESTERS, ids=lambda tester: tester.method)
SPECTROGRAMS = [tester for tester in TESTERS if tester.spec.input == "spectrogram"]
SECOND = np.zeros(16000, dtype=np.float32)


def with_sample(value):
    wave = SECOND.astype(np.float64)
    wave[7] = value
    return wave


AUDIO = {
    "no rate": (SECOND, dict(sampling_rate=None), r"sampling_rate: got None, expected 16000 Hz.*resamples"),
    "wrong rate": (SECOND, dict(sampling_rate=44100), "sampling_rate: got 44100, expected 16000 Hz"),
    "rate as text": (SECOND, dict(sampling_rate="16000"), "sampling_rate: got 16000"),
    "int16": (SECOND.astype(np.int16), {}, r"raw_speech\[0\]: got torch.int16 samples, expected floating point"),
    "int64 in a list": ([SECOND, SECOND.astype(int)], {}, r"raw_speech\[1\]: got torch.int64"),
    "bool": (SECOND.astype(bool), {}, "got torch.bool"),
    "complex": (SECOND.astype(np.complex64), {}, "got torch.complex64"),
    "list of ints": ([0, 1, 2], {}, "expected floating point"),
    "stereo": ([np.zeros((16000, 2), np.float32)], {}, r"got shape \(16000, 2\), expected one channel.*mixes down"),
    "rank 3": (np.zeros((1, 2, 16000), np.float32), {}, r"got shape \(2, 16000\)"),
    "scalar": (np.float32(1), {}, "raw_speech"),
    "rank 0": (np.zeros((), np.float32), {}, r"got shape \(\), expected one channel"),
    "empty": (SECOND[:0], {}, r"raw_speech\[0\]: got an empty clip"),
    "empty list": ([], {}, "raw_speech: got"),
    "empty batch": (np.zeros((0, 16000), np.float32), {}, "got an empty batch"),
    "empty clip in a list": ([SECOND, SECOND[:0]], {}, r"raw_speech\[1\]: got an empty clip"),
    "nan": (with_sample(np.nan), {}, r"raw_speech\[0\]: got NaN or infinite samples"),
    "infinite": ([SECOND, with_sample(-np.inf)], {}, r"raw_speech\[1\]: got NaN or infinite"),
    "too large for single precision": (with_sample(1e300), {}, "NaN or infinite"),
    "so loud that the spectrum overflows": (with_sample(1e30), {}, r"raw_speech\[0\]: got samples up to 1e\+30"),
    "shorter than a window": (SECOND[:9], {}, "got a clip of 9 samples.* expected at least"),
    "text": ("hello.wav", {}, "raw_speech: got str"),
    "None": (None, {}, "raw_speech: got NoneType"),
    "None in a list": ([SECOND, None], {}, r"raw_speech\[1\]: got"),
    "list of text": (["a.wav"], {}, r"raw_speech\[0\]: got"),
    "ragged nested list": ([[0.1, [0.2]]], {}, r"raw_speech\[0\]: got"),
    "object array": (np.array([None, 1.0]), {}, r"raw_speech\[0\]: got"),
    "unknown padding": (SECOND, dict(padding="left"), "padding: got 'left', expected 'max_length'"),
    "unequal without padding": ([SECOND, SECOND[:8000]], dict(padding=False), "expected equal lengths"),
    "length zero": (SECOND, dict(max_length=0), "max_length: got 0"),
    "length a float": (SECOND, dict(max_length=10.5), "max_length: got 10.5"),
    "multiple negative": (SECOND, dict(pad_to_multiple_of=-16), "pad_to_multiple_of: got -16"),
    "unknown tensors": (SECOND, dict(return_tensors="tf"), "return_tensors: got 'tf'"),
}


@EVERY
@pytest.mark.parametrize("case", list(AUDIO))
def test_extractor(tester, case):
    audio, changes, message = AUDIO[case]
    options = {"sampling_rate": tester.spec.sampling_rate} | changes
    with pytest.raises(ValueError, match=message):
        tester.feature_extractor()(audio, **options)


@EVERY
def test_extractor_that_cannot_work(tester):
    """Refused when it is made, or read from a file; not when it divides by zero."""
    names = ["sampling_rate", "max_length"]
    names += ["num_mel_bins", "std", "frame_shift", "min_frames"] if tester in SPECTROGRAMS else ["eps", "min_length"]
    make = type(tester.feature_extractor())
    for name in names:
        for value in (0, -1, float("nan"), float("inf")):
            with pytest.raises(ValueError, match=f"FeatureExtractor: {name}={value}: expected more than 0"):
                make(**(tester.extractor_sizes | {name: value}))
    if tester in SPECTROGRAMS:
        for name in ("frame_length", "frame_shift"):
            with pytest.raises(ValueError, match=f"{name}=0.01.*at least 2 samples and 1 sample at 16000 Hz"):
                make(**{name: 0.01})
        with pytest.raises(ValueError, match="window_type='kaiser': expected one of"):
            make(window_type="kaiser")


def test_mel_extractor_counts_frames():
    extractor = EAT.feature_extractor()
    with pytest.raises(ValueError, match="got a clip of 399 samples .0 frames., expected at least 1 frames"):
        extractor(SECOND[:399], sampling_rate=16000)
    with pytest.raises(ValueError, match=r"got a clip of 2000 samples \(11 frames\)"):
        extractor(SECOND[:2000], sampling_rate=16000, padding=False)


@EVERY
@pytest.mark.parametrize(
    "case", ["no rate", "wrong rate", "int16", "stereo", "empty", "nan", "shorter than a window", "text"]
)
def test_encode(tester, case):
    audio, changes, _ = AUDIO[case]
    rate = changes.get("sampling_rate", tester.spec.sampling_rate)
    with pytest.raises(ValueError, match="raw_speech|sampling_rate"):
        tester.model("AutoModel").encode(audio, rate, feature_extractor=tester.feature_extractor())


@EVERY
@pytest.mark.parametrize(
    "options, message",
    [
        (dict(pool="max"), "pool: got 'max'"),
        (dict(hop=2.0, window=1.0), "hop=2.0: expected .* <= hop <= window"),
        (dict(hop=0.0), "hop=0.0"),
        (dict(window=0.0), "window=0.0"),
        (dict(layers=99), "layers: got 99, expected one or several of -[0-9]+ to [0-9]+"),
        (dict(layers=[-1, -99]), r"layers: got \[-1, -99\]"),
        (dict(layers=[]), r"layers: got \[\]"),
    ],
)
def test_encode_options(tester, options, message):
    with pytest.raises(ValueError, match=message):
        tester.model("AutoModel").encode(
            tester.audio(1.0), tester.spec.sampling_rate, feature_extractor=tester.feature_extractor(), **options
        )


@EVERY
@pytest.mark.parametrize("array", [np.zeros((2, 16000), np.float32), torch.zeros(1, 16000), torch.zeros(1, 2, 16000)])
def test_encode_does_not_take_channels_for_clips(tester, array):
    """Two rows are what a stereo file is read into, as likely as two clips."""
    with pytest.raises(ValueError, match=r"audio: got shape .* expected one channel .samples,., or a list of clips"):
        tester.model("AutoModel").encode(
            array, tester.spec.sampling_rate, feature_extractor=tester.feature_extractor()
        )


@EVERY
def test_encode_that_fails_leaves_the_mode_as_it_was(tester):
    """Here half-way through: the extractor's steps do not fit the model."""

    class Broken(type(tester.feature_extractor())):
        def finish(self, features, real):
            return super().finish(features, real)[:0]

    for training in (True, False):
        model = tester.model("AutoModel").train(training)
        with pytest.raises((ValueError, RuntimeError, IndexError)):
            model.encode(
                tester.audio(1.0), tester.spec.sampling_rate, feature_extractor=Broken(**tester.extractor_sizes)
            )
        assert model.training is training


@pytest.mark.parametrize("tester", SPECTROGRAMS, ids=lambda tester: tester.method)
@pytest.mark.parametrize("name", ["AutoModel", "AutoModelForPreTraining"])
@pytest.mark.parametrize("bins", [16, 33, 40, 64])
def test_spectrogram_of_another_height(tester, name, bins):
    """Their patches would be others, or lie in the wrong places."""
    model, (values, mask) = tester.model(name), tester.inputs().values()
    assert values.shape[2] == 32
    message = rf"input_values: got shape \(3, 96, {bins}\), expected .* num_mel_bins=32 bins"
    for inputs in ({}, {"attention_mask": mask}):
        with pytest.raises(ValueError, match=message):
            model(torch.zeros(3, 96, bins), **inputs)


@pytest.mark.parametrize("tester", SPECTROGRAMS, ids=lambda tester: tester.method)
@pytest.mark.parametrize("name", ["AutoModel", "AutoModelForPreTraining"])
@pytest.mark.parametrize("shape", [(3, 95), (3, 112), (3, 6), (2, 96), (3, 1, 96)])
def test_attention_mask_of_another_shape(tester, name, shape):
    with pytest.raises(ValueError, match=r"attention_mask: got shape .* expected \(batch, frames\) = \(3, 96\)"):
        tester.model(name)(torch.zeros(3, 96, 32), torch.ones(shape, dtype=torch.long))


@pytest.mark.parametrize("tester", [t for t in TESTERS if t not in SPECTROGRAMS], ids=lambda tester: tester.method)
def test_mask_of_other_frames(tester):
    """What an adapter behind wav2vec 2.0 makes too: fewer frames than the convolutions."""
    model, inputs = tester.model("AutoModel"), tester.inputs()
    states = model(**inputs).last_hidden_state
    with pytest.raises(ValueError, match=r"attention_mask: makes a mask of frames \(3, .*expected \(3, "):
        model.split_tokens(states[:, ::2], inputs["attention_mask"])


def test_random_tokenizer_takes_only_its_own_height():
    model = next(tester for tester in TESTERS if tester.method == "beats").model("AutoModelForPreTraining")
    with pytest.raises(ValueError, match=r"input_values: got shape \(3, 96, 64\)"):
        model.tokenizer(torch.zeros(3, 96, 64))


def test_a_list_of_numpy_scalars_is_one_clip():
    extractor, samples = EAT.feature_extractor(), list(EAT.audio(1.0).numpy())
    assert torch.equal(
        extractor(samples, sampling_rate=16000)["input_values"],
        extractor(np.array(samples), sampling_rate=16000)["input_values"],
    )


def test_only_a_repository_without_extractor_gets_the_default_one(tmp_path, monkeypatch):
    """Not one that cannot be reached, nor a folder that is gone: their models may expect other numbers."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    model = EAT.model("AutoModel")
    for path in ("someone/model", str(tmp_path / "deleted")):
        model.config._name_or_path = path
        with pytest.raises(OSError, match=f"{path}: cannot tell whether it holds a preprocessor_config.json"):
            model.encode(EAT.audio(1.0), 16000)
    # what huggingface_hub notes down once the Hub has answered that there is no such file
    repository, commit = tmp_path / "models--someone--model", 40 * "a"
    (repository / "snapshots" / commit).mkdir(parents=True)
    (repository / ".no_exist" / commit).mkdir(parents=True)
    (repository / ".no_exist" / commit / "preprocessor_config.json").touch()
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(commit)
    model.config._name_or_path = "someone/model"
    assert model.own_feature_extractor().to_dict() == type(EAT.feature_extractor())().to_dict()
    # a file that is there, but damaged
    (tmp_path / "preprocessor_config.json").write_text("{")
    model.config._name_or_path = str(tmp_path)
    with pytest.raises(OSError, match="cannot tell"):
        model.own_feature_extractor()


# EAT's own

EAT = next(tester for tester in TESTERS if tester.method == "eat")


@pytest.mark.parametrize("shape", [(2, 96), (96, 32), (2, 15, 32), (2, 0, 32), (2, 1, 96, 32)])
def test_model_input_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"input_values: got shape .* expected \(batch, frames, mel bins\)"):
        EAT.model("AutoModel")(torch.zeros(shape))


def test_more_frames_than_positions():
    with pytest.raises(ValueError, match="input_values: got 272 frames, expected at most 256; `encode` cuts"):
        EAT.model("AutoModel")(torch.zeros(1, 272, 32))


@pytest.mark.parametrize(
    "mask, message",
    [
        (torch.ones(4, 12, dtype=torch.bool), "0 to 0 of 12 positions are visible"),
        (torch.zeros(4, 11, dtype=torch.bool), r"got shape \(4, 11\), expected \(a multiple of 2, 12\)"),
        (torch.zeros(3, 12, dtype=torch.bool), r"got shape \(3, 12\)"),
        (torch.eye(4, 12).bool() & (torch.arange(4) < 1)[:, None], "11 to 12 of 12"),
    ],
)
def test_masks(mask, message):
    with pytest.raises(ValueError, match=f"bool_masked_pos.*{message}"):
        EAT.model("AutoModelForPreTraining")(torch.zeros(2, 96, 32), bool_masked_pos=mask)


def test_ratio_that_leaves_nothing_visible():
    model = EAT.model("AutoModelForPreTraining", mask_ratio=0.95)
    with pytest.raises(ValueError, match="mask_ratio=0.95 leaves none of 12 positions visible"):
        model(torch.zeros(2, 96, 32))


def test_multi_hot_of_another_width():
    with pytest.raises(ValueError, match=r"labels: got shape \(2, 5\), expected multi-hot \(2, 3\)"):
        EAT.model("AutoModelForAudioClassification")(torch.zeros(2, 96, 32), labels=torch.zeros(2, 5))


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(num_attention_heads=5), "hidden_size=768 is not a multiple of num_attention_heads=5"),
        (dict(hidden_size=30, num_attention_heads=2), "hidden_size=30 is not a multiple of 4"),
        (dict(num_mel_bins=100), "num_mel_bins=100 is not a multiple of patch_size=16"),
        (dict(mask_ratio=0.0), "mask_ratio=0.0: expected a value between 0 and 1"),
        (dict(mask_ratio=1.0), "mask_ratio=1.0"),
        (dict(mask_block_size=0), "mask_block_size=0"),
        (dict(num_clones=0), "num_clones=0"),
        (dict(decoder_kernel_size=4), "decoder_kernel_size=4 is not odd"),
        (dict(decoder_groups=7), "hidden_size=768 is not a multiple of decoder_groups=7"),
        (dict(average_top_k_layers=13), "average_top_k_layers=13: expected 1 to 12, or None"),
        (dict(average_top_k_layers=0), "average_top_k_layers=0"),
        (dict(ema_decay=0.99, ema_end_decay=0.9), "ema_decay=0.99, ema_end_decay=0.9"),
        (dict(hidden_dropout_prob=1.0), "hidden_dropout_prob=1.0: expected a value in"),
        (dict(drop_path_rate=-0.1), "drop_path_rate=-0.1"),
    ],
)
def test_configurations_that_contradict_themselves(changes, message):
    with pytest.raises(ValueError, match=message):
        EatConfig(**changes)


SIZES = {
    "audiomae": ("num_mel_bins", "patch_size", "decoder_hidden_size", "decoder_num_attention_heads"),
    "beats": ("num_mel_bins", "patch_size", "patch_hidden_size", "position_groups", "predictor_num_layers"),
    "dinosr": ("num_conv_pos_embedding_groups", "vocab_size", "mask_length"),
    "eat": ("num_mel_bins", "patch_size", "decoder_groups", "decoder_num_layers", "max_time_patches"),
    "ssamba": ("num_mel_bins", "patch_size", "time_stride", "state_size"),
    "wav2vec2": ("num_conv_pos_embedding_groups", "num_codevector_groups", "pretraining_mask_length"),
}


@EVERY
@pytest.mark.parametrize("value", [0, -4])
def test_sizes_are_positive(tester, value):
    shared = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    for name in (*shared, *SIZES[tester.method]):
        with pytest.raises(ValueError, match=rf"Config: .*{name}.*{value}"):
            tester.config(**{name: value})


@EVERY
def test_activations_have_names(tester):
    with pytest.raises(ValueError, match="hidden_act='foo': expected one of .*gelu"):
        tester.config(hidden_act="foo")
    if tester.spec.input == "waveform":
        with pytest.raises(ValueError, match="feat_extract_activation='foo': expected one of .*gelu"):
            tester.config(feat_extract_activation="foo")
        with pytest.raises(ValueError, match=r"conv_stride=.*, 0.: expected at least 1"):
            tester.config(conv_stride=[*tester.config().conv_stride[:-1], 0])


def test_pooling_that_beats_cannot_do():
    """It has no class token."""
    with pytest.raises(StrictDataclassError, match="classifier_pooling"):
        BeatsConfig(classifier_pooling="cls")
    assert BeatsConfig().classifier_pooling == "mean"


@pytest.mark.parametrize(
    "changes", [dict(hidden_size="768"), dict(num_clones=1.5), dict(classifier_pooling="max"), dict(mask_ratio=None)]
)
def test_configuration_fields_of_another_type(changes):
    with pytest.raises(StrictDataclassError, match=f"{next(iter(changes))}' expected"):
        EatConfig(**changes)


def test_a_configuration_that_was_changed_is_checked_when_saved(tmp_path):
    config = EatConfig()
    config.num_attention_heads = 5
    with pytest.raises(StrictDataclassError, match="is not a multiple of num_attention_heads=5"):
        config.save_pretrained(tmp_path)
