# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""What is particular to BEATs. Shared behaviour: tests/models/test_methods.py; original numbers: tests/parity."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from hf_audio_ssl import (
    BeatsConfig,
    BeatsFeatureExtractor,
    BeatsForPreTraining,
    BeatsModel,
    BeatsTokenizer,
    BeatsTokenizerForPreTraining,
)
from hf_audio_ssl.testing.mixins import find_testers, gradients
from hf_audio_ssl.training.optimizer import parameter_groups

TESTER = find_testers(Path(__file__).parents[1])["beats"]
PRETRAINING, CLASSIFICATION = "AutoModelForPreTraining", "AutoModelForAudioClassification"
REAL = TESTER.short_steps // 16 * 2  # patches of the padded clip


def tokenizer_in_training(seed=0, teacher=None, **changes):
    torch.manual_seed(seed)
    teacher = teacher or TESTER.model("AutoModel", seed=5)
    changes = {"codebook_size": 12, "codebook_dim": 8, "estimator_num_layers": 1, "layerdrop": 0.0} | changes
    return BeatsTokenizerForPreTraining.from_teacher(teacher, **changes)


# encoder


def test_size_of_the_paper():
    with torch.device("meta"):
        model = BeatsModel(BeatsConfig())
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(90, rel=0.01)


def test_visible_patches_keep_their_places():
    """The first rows alone are the shorter clip; the same rows further on differ from it by nothing but a shift."""
    model, values = TESTER.model("AutoModel"), TESTER.inputs()["input_values"]
    visible = torch.arange(4).expand(3, -1)
    with torch.no_grad():
        first = model(values, visible=visible).last_hidden_state
        torch.testing.assert_close(first, model(values[:, :32]).last_hidden_state, atol=1e-5, rtol=1e-4)
        shifted = model(values.roll(16, dims=1), visible=visible + 2).last_hidden_state
        torch.testing.assert_close(shifted, first, atol=1e-5, rtol=1e-4)


def test_position_bias_counts_hidden_patches():
    """Without the convolution, only the bias tells where a patch stands: attention to a row farther off differs."""
    model, values = TESTER.model("AutoModel"), TESTER.inputs()["input_values"]
    apart = torch.cat([values[:, :16], values[:, :32]], dim=1)  # the second row comes one row later
    with torch.no_grad():
        model.encoder.position_convolution.gain.zero_()
        model.encoder.relative_position.embedding.weight.mul_(50)
        far = model(apart, visible=torch.tensor([0, 1, 4, 5]).expand(3, -1)).last_hidden_state
        assert (far - model(values[:, :32]).last_hidden_state).abs().max() > 1e-3
        model.encoder.relative_position.embedding.weight.zero_()
        flat = model(apart, visible=torch.tensor([0, 1, 4, 5]).expand(3, -1)).last_hidden_state
        torch.testing.assert_close(flat, model(values[:, :32]).last_hidden_state, atol=1e-5, rtol=1e-4)


def test_layers_see_visible_patches_only_and_hidden_ones_leave_no_trace():
    model, lengths = TESTER.model(PRETRAINING), []
    model.beats.encoder.layers[0].register_forward_pre_hook(lambda module, args: lengths.append(args[0].shape[1]))
    values = TESTER.inputs()["input_values"]
    mask = torch.ones(3, 12, dtype=torch.bool)
    mask[:, [1, 6, 8]] = False
    with torch.no_grad():
        first = model(values, bool_masked_pos=mask)
        values[:, :16, :16] += 5  # patch 0
        second = model(values, bool_masked_pos=mask)
    assert lengths == [3, 3]
    assert torch.equal(first.predictions, second.predictions)
    assert not torch.equal(first.targets[:, 0], second.targets[:, 0])


def test_deep_norm_scales_residuals_and_first_weights():
    model = BeatsModel(TESTER.config(hidden_size=128, intermediate_size=128, num_hidden_layers=8))
    layer = model.encoder.layers[3]
    assert layer.residual_scale == 2.0  # (2 x 8) ^ (1 / 4)
    xavier = (2 / 256) ** 0.5
    for module in (layer.attention.q_proj, layer.attention.k_proj):
        assert module.weight.std().item() == pytest.approx(xavier, rel=0.05)
    for module in (layer.attention.v_proj, layer.attention.o_proj, layer.mlp.fc1, layer.mlp.fc2):
        assert module.weight.std().item() == pytest.approx(64**-0.25 * xavier, rel=0.05)


def test_gradients_shrink_from_layer_to_layer():
    inputs = TESTER.inputs()
    full, decayed = (TESTER.model("AutoModel", gradient_decay_ratio=ratio) for ratio in (1.0, 0.5))
    for model in (full, decayed):
        # the sum would do no work: the last norm takes it out
        model(**inputs).last_hidden_state.square()[..., :5].sum().backward()
    full = {name: p.grad for name, p in full.named_parameters()}
    assert full["patch_embedding.projection.weight"].abs().max() > 1e-2
    for name, grad in ((name, p.grad) for name, p in decayed.named_parameters()):
        if ".layers.1." in name:
            torch.testing.assert_close(grad, full[name])
        elif ".layers.0." in name:
            torch.testing.assert_close(grad, 0.5 * full[name])
        elif name.startswith("patch_"):
            torch.testing.assert_close(grad, 0.25 * full[name])


def test_dropped_layers_pass_their_input_on():
    model, values = TESTER.model("AutoModel", layerdrop=0.5), TESTER.inputs()["input_values"]
    with torch.no_grad():
        states = model(values, output_hidden_states=True).hidden_states
        model.train()
        outputs = [model(values).last_hidden_state for _ in range(40)]
    for state in (states[0], states[2]):  # none and both of the layers
        assert any(torch.allclose(output, state, atol=1e-6) for output in outputs)
    assert all(grad is not None for grad in gradients(model, {"input_values": values}).values())


def test_without_position_bias_or_gate():
    for changes in ({"num_position_buckets": 0}, {"gated_position_bias": False}, {"gated_mlp": True}):
        model, inputs = TESTER.model("AutoModel", **changes), TESTER.inputs()
        names = dict(model.named_parameters())
        assert any("relative_position" in name for name in names) == (changes.get("num_position_buckets") != 0)
        assert any("gate" in name for name in names) == ("gated_mlp" in changes)
        with torch.no_grad():
            padded = model(**inputs).last_hidden_state[-1, :REAL]
            alone = model(inputs["input_values"][-1:, : TESTER.short_steps]).last_hidden_state[0]
        torch.testing.assert_close(padded, alone, atol=1e-5, rtol=1e-4)


def test_the_originals_padding_shares_tokens_out_evenly():
    model = TESTER.model("AutoModel", exact_padding=False)
    mask = (torch.arange(97) < 33).long()[None]  # 12 tokens, 8 frames each: the fifth begins in the 33rd frame
    assert model.token_mask(mask).int().tolist() == [[1] * 5 + [0] * 7]
    assert TESTER.model("AutoModel").token_mask(mask).int().tolist() == [[1] * 4 + [0] * 8]
    # half a time patch: its time does not count
    split = model.split_tokens(torch.zeros(1, 12, 32), mask)
    assert split[2].int().tolist() == [[1, 1, 0, 0, 0, 0]]


# masked prediction of labels


def test_loss_is_the_cross_entropy_of_masked_real_patches():
    model, arguments = TESTER.model(PRETRAINING), TESTER.arguments(PRETRAINING)
    output = model(**arguments)
    mask, targets, logs = arguments["bool_masked_pos"], output.targets, output.predictions.log_softmax(dim=2)
    losses, hits, real_labels = [], [], []
    for clip in range(3):
        for patch in range(REAL if clip == 2 else 12):
            real_labels.append(targets[clip, patch].item())
            if mask[clip, patch]:
                losses.append(-logs[clip, patch, targets[clip, patch]])
                hits.append(float(logs[clip, patch].argmax() == targets[clip, patch]))
    torch.testing.assert_close(output.loss, torch.stack(losses).mean())
    assert output.accuracy.item() == pytest.approx(sum(hits) / len(hits))
    assert output.codebook_used_share.item() == pytest.approx(len(set(real_labels)) / 12)
    assert output.masked_share.item() == pytest.approx(len(losses) / 36)


def test_a_padded_clip_is_predicted_like_the_clip_alone():
    model, values = TESTER.model(PRETRAINING), TESTER.inputs()["input_values"][:1]
    attention_mask = (torch.arange(TESTER.steps) < TESTER.short_steps).long()[None]
    mask = torch.ones(1, 12, dtype=torch.bool)
    # the last visible patch lies in the padding, within reach of the convolution
    mask[0, [0, 4, REAL]] = False
    with torch.no_grad():
        padded = model(values, attention_mask, mask)
        mask[0, REAL] = True
        alone = model(values[:, : TESTER.short_steps], bool_masked_pos=mask[:, :REAL])
    torch.testing.assert_close(padded.predictions[:, :REAL], alone.predictions, atol=1e-5, rtol=1e-4)
    assert torch.equal(padded.targets[:, :REAL], alone.targets)
    torch.testing.assert_close(padded.loss, alone.loss)


def test_random_labels_depend_on_the_seed_in_the_config_alone_and_are_saved(tmp_path):
    inputs = TESTER.arguments(PRETRAINING)
    one, two, other = (
        TESTER.model(PRETRAINING),
        TESTER.model(PRETRAINING, seed=1),
        TESTER.model(PRETRAINING, codebook_seed=7),
    )
    labels = one(**inputs).targets
    assert torch.equal(labels, two(**inputs).targets) and not torch.equal(labels, other(**inputs).targets)
    with torch.no_grad():
        one.tokenizer.quantizer.codebook.copy_(one.tokenizer.quantizer.codebook.flip(0))
    one.save_pretrained(tmp_path)
    again = BeatsForPreTraining.from_pretrained(tmp_path)
    assert torch.equal(again(**inputs).targets, 11 - labels)


def test_labels_of_standardised_patches_do_not_hear_the_level():
    values = TESTER.inputs()["input_values"]
    for standardised in (True, False):
        model = TESTER.model(PRETRAINING, standardise_patches=standardised)
        labels, louder = (model.tokenizer(x).codes for x in (values, 0.3 * values + 2))
        assert torch.equal(labels, louder) == standardised


def test_labels_made_beforehand_are_taken():
    model, arguments = TESTER.model(PRETRAINING), TESTER.arguments(PRETRAINING)
    expected = model(**arguments)
    model.tokenizer.forward = None  # not asked
    assert model(**arguments, target_codes=expected.targets).loss == expected.loss


def test_a_mask_that_leaves_nothing_is_refused():
    model, values = TESTER.model(PRETRAINING, mask_ratio=0.99), TESTER.inputs()["input_values"]
    with pytest.raises(ValueError, match="mask_ratio=0.99 leaves none of 12 positions visible"):
        model(values)
    with pytest.raises(ValueError, match="bool_masked_pos: got shape"):
        model(values, bool_masked_pos=torch.ones(3, 11))


# learned tokenizers


def test_a_tokenizer_learns_to_keep_what_the_teacher_knows():
    model, inputs = tokenizer_in_training().train(), TESTER.inputs()
    teacher = {name: value.clone() for name, value in model.teacher.state_dict().items()}
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.01), lr=2e-3)
    losses = []
    for _ in range(60):
        output = model(**inputs)
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        losses.append(output.distillation_loss.item())
    assert losses[-1] < 0.5 * losses[0], losses
    assert output.codebook_perplexity > 4
    assert all(torch.equal(value, teacher[name]) for name, value in model.teacher.state_dict().items())
    assert not any(m.training for m in model.teacher.modules()) and model.beats.training


def test_tokenizer_losses_are_cosine_and_commitment_of_real_patches():
    model, inputs = tokenizer_in_training(commitment_weight=0.3).train(), TESTER.inputs()
    output = model(**inputs)
    with torch.no_grad():
        targets = model.teacher(**inputs).last_hidden_state
    cosines = [
        F.cosine_similarity(output.predictions[clip, patch], targets[clip, patch], dim=0)
        for clip in range(3)
        for patch in range(REAL if clip == 2 else 12)
    ]
    torch.testing.assert_close(output.distillation_loss, 1 - torch.stack(cosines).mean())
    torch.testing.assert_close(output.loss, output.distillation_loss + output.commitment_loss)
    heavier = tokenizer_in_training(commitment_weight=0.6).train()
    torch.manual_seed(0)
    model = tokenizer_in_training(commitment_weight=0.3).train()
    torch.manual_seed(0)
    first = model(**inputs).commitment_loss
    torch.manual_seed(0)
    torch.testing.assert_close(heavier(**inputs).commitment_loss, 2 * first)


def test_every_trained_parameter_of_the_tokenizer_gets_a_gradient():
    grads = gradients(tokenizer_in_training().train(), TESTER.inputs())
    assert [name for name, grad in grads.items() if grad is None] == []
    assert not any(name.startswith("teacher.") for name in grads)


def test_padding_changes_no_code_and_no_loss_of_the_tokenizer():
    model, inputs = tokenizer_in_training().train(), TESTER.inputs()
    for _ in range(3):
        model(**inputs)
    model.eval()
    with torch.no_grad():
        first = model(**inputs)
        inputs["input_values"][-1, TESTER.short_steps :] = 17.0
        second = model(**inputs)
        padded = model(**{name: value[-1:] for name, value in inputs.items()})
        alone = model(inputs["input_values"][-1:, : TESTER.short_steps])
    for name in ("distillation_loss", "commitment_loss", "codebook_perplexity", "target_std"):
        torch.testing.assert_close(second[name], first[name], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(padded[name], alone[name], atol=1e-5, rtol=1e-5)
    assert torch.equal(second.codes[-1, :REAL], alone.codes[0])


def test_a_fine_tuned_folder_teaches_and_the_tokenizer_teaches_the_next_model(tmp_path):
    teacher = TESTER.model(CLASSIFICATION, seed=3)
    teacher.save_pretrained(tmp_path / "teacher")
    model = tokenizer_in_training(teacher=str(tmp_path / "teacher")).train()
    expected = teacher.beats.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in model.teacher.state_dict().items())
    model(**TESTER.inputs())
    model.save_pretrained(tmp_path / "tokenizer")
    assert BeatsTokenizerForPreTraining.from_pretrained(tmp_path / "tokenizer").quantizer.initialised
    tokenizer = BeatsTokenizer.from_pretrained(tmp_path / "tokenizer")
    learner = BeatsForPreTraining.from_tokenizer(str(tmp_path / "tokenizer"), mask_ratio=0.5, layerdrop=0.0)
    arguments = TESTER.arguments(PRETRAINING)
    labels = learner.train()(**arguments).targets
    assert torch.equal(labels, tokenizer(**TESTER.inputs()).codes)
    assert learner.config.codebook_size == 12 and not any(m.training for m in learner.tokenizer.modules())
    learner.save_pretrained(tmp_path / "learner")
    again = BeatsForPreTraining.from_pretrained(tmp_path / "learner").train()
    assert torch.equal(again(**arguments).targets, labels)
    assert not any(m.training or p.requires_grad for m in again.tokenizer.modules() for p in m.parameters())


def test_an_encoder_loads_from_every_folder(tmp_path, caplog):
    models = {"tokenizer": tokenizer_in_training(), "pretraining": TESTER.model(PRETRAINING)}
    for name, model in models.items():
        model.save_pretrained(tmp_path / name)
        encoder, info = BeatsModel.from_pretrained(tmp_path / name, output_loading_info=True)
        assert not info["missing_keys"] and not info["unexpected_keys"]
        assert torch.equal(encoder.projection.weight, model.beats.projection.weight)


# the rest


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(patch_size=12), "num_mel_bins=32 is not a multiple of patch_size=12"),
        (dict(position_groups=5), "hidden_size=32 is not a multiple of position_groups=5"),
        (dict(num_position_buckets=2), "num_position_buckets=2"),
        (dict(max_position_distance=4), "max_position_distance=4"),
        (dict(norm_first=True), "norm_first=True, deep_norm=True"),
        (dict(patch_size=4, exact_padding=False), "exact_padding=False: 8 bands are more than the patch_size=4"),
        (dict(layerdrop=1.0), "layerdrop=1.0"),
        (dict(tokenizer_config=dict(TESTER.sizes, codebook_size=13)), "tokenizer_config has codebook_size=13"),
        (dict(teacher_config=dict(TESTER.sizes, patch_size=8)), "teacher_config has patch_size=8"),
    ],
)
def test_contradictions_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        TESTER.config(**changes)


def test_only_a_learned_tokenizer_is_trained():
    with pytest.raises(ValueError, match="only a 'learned' tokenizer is trained"):
        BeatsTokenizerForPreTraining(TESTER.config())


def test_clip_logits_are_the_mean_over_real_tokens():
    model, inputs = TESTER.model(CLASSIFICATION), TESTER.inputs()
    with torch.no_grad():
        logits = model(**inputs).logits
        tokens = model.beats(**inputs).last_hidden_state
    torch.testing.assert_close(logits[-1], model.classifier(tokens[-1, :REAL]).mean(0))
    torch.testing.assert_close(logits[0], model.classifier(tokens[0]).mean(0))


def test_extractor_pads_with_a_mask_by_default():
    features = BeatsFeatureExtractor()(TESTER.audio(1.0), sampling_rate=16000)
    assert features["input_values"].shape == (1, 1024, 128) and features["attention_mask"].sum() == 98
