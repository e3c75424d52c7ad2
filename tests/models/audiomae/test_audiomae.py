# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""What is particular to Audio-MAE. Shared behaviour: tests/models/test_methods.py; numbers of the original:
tests/parity.
"""

from pathlib import Path

import pytest
import torch

from hf_audio_ssl import (
    AudioMaeConfig,
    AudioMaeFeatureExtractor,
    AudioMaeForAudioClassification,
    AudioMaeForPreTraining,
    AudioMaeModel,
)
from hf_audio_ssl.modules.positional import sincos_table
from hf_audio_ssl.testing.mixins import find_testers

TESTER = find_testers(Path(__file__).parents[1])["audiomae"]
PRETRAINING, CLASSIFICATION = "AutoModelForPreTraining", "AutoModelForAudioClassification"
DECODERS = pytest.mark.parametrize("decoder_type", ["local", "global"])


def mask_with_visible(visible, rows, patches):
    mask = torch.ones(rows, patches, dtype=torch.bool)
    mask[:, visible] = False
    return mask


def tokens_seen(model):
    """A list that grows by the number of tokens each time the first layer runs."""
    lengths = []
    model.base_model.layers[0].register_forward_pre_hook(lambda module, args: lengths.append(args[0].shape[1]))
    return lengths


@pytest.mark.parametrize(
    "changes, millions",
    [({}, 86), (dict(hidden_size=384, num_attention_heads=6, intermediate_size=1536), 21.5),
     (dict(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096), 304)],
)  # fmt: skip
def test_sizes_of_the_paper(changes, millions):
    """Encoders of ViT-B, ViT-S and ViT-L with one input channel and without classifier."""
    with torch.device("meta"):
        model = AudioMaeModel(AudioMaeConfig(**changes))
    assert model.num_parameters() / 1e6 == pytest.approx(millions, rel=0.02)


# objective


@pytest.mark.parametrize("norm_pix_loss", [True, False])
def test_loss_is_the_error_of_the_masked_patches(norm_pix_loss):
    """Written out patch by patch, with a padded clip."""
    model = TESTER.model(PRETRAINING, norm_pix_loss=norm_pix_loss)
    arguments = TESTER.arguments(PRETRAINING)
    output = model(**arguments, output_reconstruction=True)
    errors = []
    for clip in range(3):
        rows = (TESTER.short_steps if clip == 2 else TESTER.steps) // 16
        for patch in range(2 * rows):
            t, f = divmod(patch, 2)
            area = (clip, slice(16 * t, 16 * t + 16), slice(16 * f, 16 * f + 16))
            cells, predicted = arguments["input_values"][area].flatten(), output.predictions[clip, patch]
            mean, std = (cells.mean(), (cells.var() + 1e-6).sqrt()) if norm_pix_loss else (0, 1)
            torch.testing.assert_close(output.targets[clip, patch], (cells - mean) / std, atol=1e-5, rtol=1e-4)
            shown = output.reconstruction[area].flatten()
            torch.testing.assert_close(shown, predicted * std + mean, atol=1e-5, rtol=1e-4)
            if arguments["bool_masked_pos"][clip, patch]:
                errors.append((predicted - (cells - mean) / std).square().mean())
    torch.testing.assert_close(output.loss, torch.stack(errors).mean())
    torch.testing.assert_close(output.reconstruction_loss, output.loss)
    assert output.reconstruction.shape == arguments["input_values"].shape


def test_reconstruction_is_made_on_request():
    assert TESTER.model(PRETRAINING)(**TESTER.arguments(PRETRAINING)).reconstruction is None


def test_only_visible_patches_reach_the_encoder():
    model = TESTER.model(PRETRAINING)
    lengths = tokens_seen(model)
    output = model(TESTER.inputs()["input_values"])
    assert lengths == [1 + 3] and output.masked_share.item() == pytest.approx(9 / 12)
    assert len(output.bool_masked_pos.unique(dim=0)) > 1


def test_whole_columns_and_rows_are_masked_on_request():
    model = TESTER.model(PRETRAINING, mask_strategy="time_frequency", mask_time_ratio=0.3, mask_frequency_ratio=0.5)
    lengths = tokens_seen(model)
    visible = model(TESTER.inputs()["input_values"]).bool_masked_pos.view(3, 6, 2) == 0
    assert lengths == [1 + 4]
    assert torch.equal(visible, visible.any(dim=2, keepdim=True) & visible.any(dim=1, keepdim=True))
    assert (visible.any(dim=2).sum(dim=1) == 4).all() and (visible.any(dim=1).sum(dim=1) == 1).all()


def test_ratios_that_leave_nothing_visible():
    for changes in (dict(mask_ratio=0.95), dict(mask_strategy="time_frequency", mask_frequency_ratio=0.6)):
        with pytest.raises(ValueError, match="leaves none of"):
            TESTER.model(PRETRAINING, **changes)(TESTER.inputs()["input_values"])


@DECODERS
def test_a_padded_clip_is_predicted_like_the_clip_alone(decoder_type):
    """Neither encoder nor decoder attends to the padding, not even where a visible patch lies in it."""
    model = TESTER.model(PRETRAINING, decoder_type=decoder_type)
    real, values = 10, TESTER.inputs()["input_values"][:1]
    attention_mask = (torch.arange(96) < 80).long()[None]
    with torch.no_grad():
        padded = model(values, attention_mask, mask_with_visible([0, 3, real], 1, 12))
        alone = model(values[:, :80], bool_masked_pos=mask_with_visible([0, 3], 1, real))
    torch.testing.assert_close(padded.predictions[:, :real], alone.predictions, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(padded.loss, alone.loss, atol=1e-5, rtol=1e-5)


def test_the_global_decoder_compiles_and_follows_the_attention_implementation():
    model, arguments = TESTER.model(PRETRAINING, decoder_type="global").train(), TESTER.arguments(PRETRAINING)
    losses = []
    for implementation in ("eager", "sdpa"):
        model.set_attn_implementation(implementation)
        assert model.decoder.layers[0].attention.config._attn_implementation == implementation
        losses.append(model(**arguments).loss)
    torch.testing.assert_close(losses[0], losses[1], atol=1e-6, rtol=1e-5)
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    assert compiled(**TESTER.inputs()).loss.isfinite()
    torch.compiler.reset()


def test_layers_of_the_decoder_are_not_recorded():
    model = TESTER.model(PRETRAINING, decoder_type="global")
    model.set_attn_implementation("eager")
    output = model(**TESTER.arguments(PRETRAINING), output_hidden_states=True, output_attentions=True)
    assert [state.shape for state in output.hidden_states] == 3 * [(3, 4, 32)]
    assert [weights.shape for weights in output.attentions] == 2 * [(3, 2, 4, 4)]


# positions


def codes(model, patches):
    return model.embeddings.positions(patches, torch.zeros(1))


@pytest.mark.parametrize("kind", ["transposed", "aligned", "learned"])
def test_every_patch_has_the_code_of_its_place_or_of_the_authors_place(kind):
    model = TESTER.model("AutoModel", position_embedding=kind)
    table = codes(model, 32).detach()
    assert not table[0].any()
    for t in range(16):
        for f in range(2):
            row, column = (t, f) if kind == "aligned" else divmod(2 * t + f, 16)
            expected = torch.cat([sincos_table(torch.tensor([x]), 16)[0] for x in (column, row)])
            torch.testing.assert_close(table[1 + 2 * t + f], expected.float())


@pytest.mark.parametrize("kind", ["transposed", "aligned"])
def test_longer_clips_go_on_with_codes_that_are_new(kind):
    model = TESTER.model("AutoModel", position_embedding=kind)
    long = codes(model, 200)
    assert torch.equal(long[:33], codes(model, 32)) and len(long[1:].unique(dim=0)) == 200
    with torch.no_grad():
        assert model(torch.randn(1, 1600, 32)).last_hidden_state.shape == (1, 201, 32)


def test_learned_positions_end_where_they_end():
    model = TESTER.model("AutoModel", position_embedding="learned", num_time_patches=6)
    model(torch.randn(1, 96, 32)).last_hidden_state.sum().backward()
    assert model.embeddings.positions.table.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="got 14 patches, expected at most 12"):
        model(torch.randn(1, 112, 32))


# fine-tuning


def test_columns_and_rows_are_dropped_in_training_only():
    model = TESTER.model(CLASSIFICATION, classifier_mask_time_ratio=0.3, classifier_mask_frequency_ratio=0.5)
    lengths, values = tokens_seen(model), TESTER.inputs()["input_values"]
    for mode in (True, False):
        model.train(mode)(values)
    assert lengths == [1 + 4 * 1, 1 + 12]
    assert not torch.equal(model.train()(values).logits, model(values).logits)


def test_the_head_averages_what_it_sees():
    """Mean of the visible, real patches of the last layer, which no norm has passed; then norm and classifier."""
    model, inputs = TESTER.model(CLASSIFICATION), TESTER.inputs()
    visible = torch.tensor([[0, 1, 4, 5, 8]] * 3)
    with torch.no_grad():
        output = model(**inputs, visible=visible, output_hidden_states=True)
        last = output.hidden_states[-1][:, 1:]
        pooled = torch.stack([last[0].mean(0), last[1].mean(0), last[2, :4].mean(0)])
        torch.testing.assert_close(output.logits, model.classifier(model.norm(pooled)), atol=1e-5, rtol=1e-4)
        by_token = TESTER.model(CLASSIFICATION, classifier_pooling="cls")(**inputs, output_hidden_states=True)
        expected = model.classifier(model.norm(by_token.hidden_states[-1][:, 0]))
        torch.testing.assert_close(by_token.logits, expected, atol=1e-5, rtol=1e-4)


def test_norms_of_encoder_and_head_are_not_mistaken_for_each_other(tmp_path):
    pretrained = TESTER.model(PRETRAINING)
    with torch.no_grad():
        pretrained.audiomae.final_norm.weight.fill_(7)
    pretrained.save_pretrained(tmp_path / "pretrained")
    head, report = AudioMaeForAudioClassification.from_pretrained(
        tmp_path / "pretrained", output_loading_info=True, num_labels=3
    )
    assert sorted(report["missing_keys"]) == ["classifier.bias", "classifier.weight", "norm.bias", "norm.weight"]
    assert (head.norm.weight == 1).all()
    with torch.no_grad():
        head.norm.weight.fill_(5)
    head.save_pretrained(tmp_path / "head")
    encoder, report = AudioMaeModel.from_pretrained(tmp_path / "head", output_loading_info=True)
    assert sorted(report["missing_keys"]) == ["final_norm.bias", "final_norm.weight"]
    assert (encoder.final_norm.weight == 1).all()


# encoder and extractor


def test_contextual_embedding_is_the_mean_of_normed_layers():
    model = TESTER.model("AutoModel")
    with torch.no_grad():
        output = model(**TESTER.inputs(), output_hidden_states=True)
        states = [model.final_norm(state) for state in output.hidden_states[1:]]
        torch.testing.assert_close(states[-1], output.last_hidden_state)
        mean = model.contextual_embedding(output.hidden_states, first_layer=0)
        torch.testing.assert_close(mean, (states[0] + states[1]) / 2)
        assert torch.equal(model.contextual_embedding(output.hidden_states, first_layer=1), states[1])
    with pytest.raises(ValueError, match="first_layer: got 9, expected less than 2 layers"):
        model.contextual_embedding(output.hidden_states)


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(num_mel_bins=100), "num_mel_bins=100 is not a multiple of patch_size=16"),
        (dict(decoder_hidden_size=516), "decoder_hidden_size=516 is not a multiple of decoder_num_attention_heads=16"),
        (dict(hidden_size=762, num_attention_heads=6), "hidden_size=762 is not a multiple of 4"),
        (dict(decoder_window_shift=4), "decoder_window_shift=4: expected 0 to decoder_window_size - 1"),
        (dict(mask_ratio=1.0), "mask_ratio=1.0: expected a value between 0 and 1"),
        (dict(classifier_mask_time_ratio=1), "classifier_mask_time_ratio=1: expected"),
        (dict(num_time_patches=0), "num_time_patches=0: expected at least 1"),
    ],
)
def test_configurations_that_contradict_themselves(changes, message):
    with pytest.raises(ValueError, match=message):
        AudioMaeConfig(**changes)


def test_extractor_presets_pad_before_they_normalise():
    features = AudioMaeFeatureExtractor()(TESTER.audio(1.0), sampling_rate=16000, return_attention_mask=True)
    assert features["input_values"].shape == (1, 1024, 128) and features["attention_mask"].sum() == 98
    padded = features["input_values"][0, 98:]
    torch.testing.assert_close(padded, torch.full_like(padded, 4.2677393 / (2 * 4.5689974)))


def test_initialisation_is_maes():
    model = AudioMaeForPreTraining(AudioMaeConfig(num_hidden_layers=1, decoder_num_hidden_layers=1))
    attention, decoder = model.audiomae.layers[0].attention, model.decoder
    for linear, outputs in (
        (attention.q_proj, 3 * 768),
        (decoder.embed, 512),
        (decoder.layers[0].attention.qkv, 3 * 512),
        (decoder.prediction, 256),
    ):
        bound = (6 / (outputs + linear.weight.shape[1])) ** 0.5
        assert 0.99 * bound < linear.weight.abs().max() <= bound
    assert decoder.mask_token.std().item() == pytest.approx(0.02, rel=0.2)
    assert (decoder.layers[0].attention.temperature == 1).all()
