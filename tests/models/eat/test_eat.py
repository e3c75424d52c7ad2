# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""What is particular to EAT. Shared behaviour: tests/models/test_methods.py; numbers of the original: tests/parity."""

from pathlib import Path

import pytest
import torch

from hf_audio_ssl import EatConfig, EatFeatureExtractor, EatForPreTraining
from hf_audio_ssl.testing.mixins import find_testers

TESTER = find_testers(Path(__file__).parents[1])["eat"]
PRETRAINING, CLASSIFICATION = "AutoModelForPreTraining", "AutoModelForAudioClassification"


def mask_with_visible(visible, rows, patches):
    mask = torch.ones(rows, patches, dtype=torch.bool)
    mask[:, visible] = False
    return mask


@pytest.mark.parametrize(
    "changes, millions",
    [({}, 88), (dict(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096,
                     decoder_hidden_size=1024, decoder_num_layers=3, decoder_kernel_size=5), 309)],
)  # fmt: skip
def test_sizes_of_the_paper(changes, millions):
    """README of the authors: 88M and 309M parameters, the teacher not counted."""
    with torch.device("meta"):
        model = EatForPreTraining(EatConfig(**changes))
    student = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert student / 1e6 == pytest.approx(millions, rel=0.06)


def test_losses_are_equations_4_and_5():
    """Written out clip by clip and patch by patch, with a padded clip."""
    model = TESTER.model(PRETRAINING, frame_loss_weight=0.7, utterance_loss_weight=0.2)
    arguments = TESTER.arguments(PRETRAINING)
    output = model(**arguments)
    clones, dim = model.config.num_clones, model.config.hidden_size
    mask, targets = arguments["bool_masked_pos"], output.targets
    frame, utterance = [], []
    for row in range(len(mask)):
        clip = row // clones
        real = TESTER.short_steps // 16 * 2 if clip == len(targets) - 1 else mask.shape[1]
        for patch in range(real):
            if mask[row, patch]:
                frame.append((output.predictions[row, patch] - targets[clip, patch]).square().sum() / dim**0.5)
        mean = targets[clip, :real].mean(dim=0)
        utterance.append((output.utterance_prediction[row] - mean).square().sum() / dim**0.5)
    torch.testing.assert_close(output.frame_loss, 0.7 * torch.stack(frame).mean())
    torch.testing.assert_close(output.utterance_loss, 0.2 * torch.stack(utterance).mean())
    torch.testing.assert_close(output.loss, output.frame_loss + output.utterance_loss)
    summed = TESTER.model(PRETRAINING, utterance_loss_weight=0.2, utterance_loss_reduction="sum")(**arguments)
    torch.testing.assert_close(summed.utterance_loss, 0.2 * torch.stack(utterance).sum())


def test_targets_are_normalised_over_the_clip_then_over_channels():
    model, inputs = TESTER.model(PRETRAINING), TESTER.inputs()
    with torch.no_grad():
        states = model.teacher(**inputs, output_ffn_states=True).ffn_states
    real = TESTER.short_steps // 16 * 2
    expected = 0
    for state in states:
        state = state[-1, 1 : 1 + real]
        expected = expected + (state - state.mean(0)) / (state.var(0, correction=0) + 1e-5).sqrt()
    expected = torch.nn.functional.layer_norm(expected / len(states), (model.config.hidden_size,))
    torch.testing.assert_close(model(**inputs).targets[-1, :real], expected, atol=1e-5, rtol=1e-4)


def test_average_top_k_takes_the_last_layers():
    model, inputs = TESTER.model(PRETRAINING, average_top_k_layers=1), TESTER.inputs()
    with torch.no_grad():
        last = model.teacher(**inputs, output_ffn_states=True).ffn_states[-1][0, 1:]
    expected = (last - last.mean(0)) / (last.var(0, correction=0) + 1e-5).sqrt()
    expected = torch.nn.functional.layer_norm(expected, (model.config.hidden_size,))
    torch.testing.assert_close(model(**inputs).targets[0], expected, atol=1e-5, rtol=1e-4)


def test_a_padded_clip_is_predicted_like_the_clip_alone():
    """Neither attention nor the decoder's convolutions reach into the padding, not even where the student saw it."""
    model, config = TESTER.model(PRETRAINING), TESTER.config()
    real, patches = TESTER.short_steps // 16 * 2, TESTER.steps // 16 * 2
    values = TESTER.inputs()["input_values"][:1]
    noise = torch.randn(config.num_clones, patches, config.hidden_size)
    # the last visible patch of the padded clip lies in the padding, just behind the border
    visible, seen = [0, 3], [0, 3, real]
    attention_mask = (torch.arange(TESTER.steps) < TESTER.short_steps).long()[None]
    with torch.no_grad():
        padded = model(values, attention_mask, mask_with_visible(seen, config.num_clones, patches), noise)
        alone = model(
            values[:, : TESTER.short_steps],
            bool_masked_pos=mask_with_visible(visible, config.num_clones, real),
            mask_noise=noise[:, :real],
        )
    torch.testing.assert_close(padded.predictions[:, :real], alone.predictions, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(padded.targets[:, :real], alone.targets, atol=1e-5, rtol=1e-4)
    for name in ("frame_loss", "utterance_loss"):
        torch.testing.assert_close(padded[name], alone[name], atol=1e-5, rtol=1e-5)


def test_clones_share_the_teacher_and_differ_in_their_masks():
    calls = []
    model = TESTER.model(PRETRAINING, num_clones=5)
    model.teacher.register_forward_hook(lambda module, args, output: calls.append(output.last_hidden_state.shape))
    output = model(TESTER.inputs()["input_values"])
    assert calls == [(3, 13, 32)]
    assert output.targets.shape == (3, 12, 32) and output.predictions.shape == (15, 12, 32)
    assert len(output.bool_masked_pos.unique(dim=0)) > 1
    assert output.masked_share.item() == pytest.approx(10 / 12)


def test_only_visible_patches_reach_the_layers():
    model, lengths = TESTER.model(PRETRAINING), []
    model.eat.layers[0].register_forward_pre_hook(lambda module, args: lengths.append(args[0].shape[1]))
    model(TESTER.inputs()["input_values"])
    assert lengths == [1 + 2]


def test_masks_of_any_number_of_clones_are_taken():
    model, inputs = TESTER.model(PRETRAINING), TESTER.inputs()
    output = model(inputs["input_values"], bool_masked_pos=mask_with_visible([0, 5, 7], 3 * 4, 12))
    assert output.predictions.shape[0] == 12


def test_ema_decay_grows_linearly_then_stays():
    model = TESTER.model(PRETRAINING)
    assert [round(model.ema_decay_at(step), 6) for step in (0, 5, 10, 1000)] == [0.9, 0.945, 0.99, 0.99]
    released = EatForPreTraining.ema_decay_at
    config = EatConfig()
    model.config = config
    assert released(model, 50_000) == pytest.approx((0.9998 + 0.99999) / 2)


def test_a_model_in_training_keeps_its_teacher_in_evaluation():
    model = TESTER.model(PRETRAINING, hidden_dropout_prob=0.5).train()
    assert model.training and model.eat.training and not any(m.training for m in model.teacher.modules())
    inputs = TESTER.inputs()
    assert torch.equal(model(**inputs).targets, model(**inputs).targets)


def test_pooling_by_mean_leaves_padding_out():
    model = TESTER.model(CLASSIFICATION, classifier_pooling="mean")
    inputs = TESTER.inputs()
    with torch.no_grad():
        logits = model(**inputs).logits
        alone = model(inputs["input_values"][-1:, : TESTER.short_steps]).logits
        by_token = TESTER.model(CLASSIFICATION)(**inputs).logits
    torch.testing.assert_close(logits[-1:], alone, atol=1e-5, rtol=1e-4)
    assert (logits - by_token).abs().max() > 1e-3


def test_label_smoothing_is_for_training_only():
    model, arguments = TESTER.model(CLASSIFICATION, label_smoothing=0.2), TESTER.arguments(CLASSIFICATION)
    plain = TESTER.model(CLASSIFICATION)
    assert model(**arguments).loss == plain(**arguments).loss
    assert model.train()(**arguments).loss != plain.train()(**arguments).loss


def test_frames_without_label_and_padded_frames_count_for_nothing():
    name = "AutoModelForAudioFrameClassification"
    model, arguments = TESTER.model(name), TESTER.arguments(name)
    output = model(**arguments)
    real = TESTER.short_steps // 16
    keep = torch.ones(3, 6, dtype=torch.bool)
    keep[-1, real:] = False
    expected = torch.nn.functional.cross_entropy(output.logits[keep], arguments["labels"][keep])
    torch.testing.assert_close(output.loss, expected)
    arguments["labels"][0] = -100
    keep[0] = False
    expected = torch.nn.functional.cross_entropy(output.logits[keep], arguments["labels"][keep])
    torch.testing.assert_close(model(**arguments).loss, expected)
    hot = torch.nn.functional.one_hot(arguments["labels"].clamp(min=0), 3).float()
    assert model(**(arguments | {"labels": hot})).loss.isfinite()


def test_extractor_presets_pad_before_they_normalise():
    extractor = EatFeatureExtractor()
    features = extractor(TESTER.audio(1.0), sampling_rate=16000, return_attention_mask=True)
    assert features["input_values"].shape == (1, 1024, 128) and features["attention_mask"].sum() == 98
    padded = features["input_values"][0, 98:]
    torch.testing.assert_close(padded, torch.full_like(padded, 4.268 / (2 * 4.569)))


def test_extractor_ignores_a_constant_offset():
    extractor, wave = TESTER.feature_extractor(), TESTER.audio(0.5)
    one = extractor(wave, sampling_rate=16000)["input_values"]
    other = extractor(wave + 0.25, sampling_rate=16000)["input_values"]
    torch.testing.assert_close(one, other, atol=1e-3, rtol=0)


def test_clip_embeddings_are_statistics_of_all_tokens():
    torch.manual_seed(0)
    model = TESTER.model("AutoModel").eval()
    size = model.config.patch_size
    extractor = EatFeatureExtractor(num_mel_bins=model.config.num_mel_bins, min_frames=size, max_length=8 * size)
    wave = 0.1 * torch.randn(400 + 160 * (5 * size - 1))
    encoded = {
        pool: model.encode(wave, 16000, pool=pool, feature_extractor=extractor)
        for pool in ("mean", "mean_std", "frames")
    }
    inputs = extractor(wave, sampling_rate=16000, padding="longest", return_attention_mask=True)
    with torch.no_grad():
        tokens = model(**inputs).last_hidden_state[0, 1:]
    torch.testing.assert_close(encoded["mean"][0], tokens.mean(0), atol=1e-5, rtol=1e-4)
    expected = torch.cat([tokens.mean(0), tokens.std(0, correction=0)])
    torch.testing.assert_close(encoded["mean_std"][0], expected, atol=1e-5, rtol=1e-4)
    frames = tokens.unflatten(0, (-1, model.config.num_mel_patches)).mean(1)
    torch.testing.assert_close(encoded["frames"][0].embeddings, frames, atol=1e-5, rtol=1e-4)
