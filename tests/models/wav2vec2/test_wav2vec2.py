# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""What is particular to wav2vec 2.0. Shared: tests/models/test_methods.py; numbers of the original: tests/parity."""

from pathlib import Path

import pytest
import torch
import transformers

from hf_audio_ssl import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2ForPreTraining, Wav2Vec2Model
from hf_audio_ssl.testing.mixins import find_testers

TESTER = find_testers(Path(__file__).parents[1])["wav2vec2"]
PRETRAINING = "AutoModelForPreTraining"
LARGE = dict(
    hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096, codevector_dim=768,
    proj_codevector_dim=768, feat_extract_norm="layer", conv_bias=True, do_stable_layer_norm=True,
)  # fmt: skip


@pytest.mark.parametrize("changes, millions", [({}, 95.0), (LARGE, 317.4)])
def test_sizes_of_the_paper(changes, millions):
    with torch.device("meta"):
        model = Wav2Vec2ForPreTraining(Wav2Vec2Config(**changes))
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, rel=0.002)


def test_loss_is_that_of_transformers_plus_the_penalty():
    """transformers' class on the same weights, masks and distractors, where there is no noise."""
    model = TESTER.model(PRETRAINING, diversity_loss_weight=0.1)
    theirs = transformers.Wav2Vec2ForPreTraining(model.config).eval()
    theirs.load_state_dict({k: v for k, v in model.state_dict().items() if k != "gumbel_temperature"})
    theirs.config.apply_spec_augment = True
    values = TESTER.inputs()["input_values"]
    arguments = TESTER.explicit_randomness(model.config, {"input_values": values})
    arguments.pop("gumbel_noise")
    ours, expected = model(values, **arguments), theirs(values, **arguments)
    masked = arguments["mask_time_indices"].sum()
    torch.testing.assert_close(ours.contrastive_loss, expected.contrastive_loss / masked)
    # theirs counts chosen codes outside of training, the original probable ones always
    torch.testing.assert_close(ours.code_perplexity, expected.codevector_perplexity, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.projected_states, expected.projected_states)
    features = model.wav2vec2.feature_extractor(values)
    torch.testing.assert_close(ours.feature_penalty_loss, features.square().mean())
    torch.testing.assert_close(ours.loss, ours.contrastive_loss + ours.diversity_loss + ours.feature_penalty_loss)
    total = 2 * model.config.num_codevectors_per_group
    torch.testing.assert_close(ours.diversity_loss, 0.1 * (total - ours.prob_perplexity) / total)


def test_losses_of_clips_average_to_the_loss():
    model, arguments = TESTER.model(PRETRAINING), TESTER.arguments(PRETRAINING)
    output = model(**arguments)
    count = output.mask_time_indices.sum(dim=1)
    torch.testing.assert_close((output.clip_losses * count).sum() / count.sum(), output.contrastive_loss)
    alone = {name: value[:1] for name, value in arguments.items()}
    torch.testing.assert_close(model(**alone).clip_losses[0], output.clip_losses[0])


def test_convolutions_learn_slower_and_nothing_else_changes():
    arguments = TESTER.arguments(PRETRAINING)
    losses, grads = [], []
    for mult in (1.0, 0.1):
        model = TESTER.model(PRETRAINING, feature_grad_mult=mult)
        losses.append(model(**arguments).loss)
        losses[-1].backward()
        grads.append({name: p.grad for name, p in model.named_parameters()})
    assert losses[0] == losses[1]
    for name, grad in grads[1].items():
        factor = 0.1 if "feature_extractor" in name else 1.0
        torch.testing.assert_close(grad, factor * grads[0][name], atol=1e-7, rtol=1e-4, msg=name)


def test_temperature_falls_with_the_steps_and_is_saved(tmp_path):
    model = TESTER.model(PRETRAINING, gumbel_temperature=2.0, gumbel_temperature_end=0.5)
    assert model.gumbel_temperature == 2
    for step, expected in ((1, 1.98), (50, 2 * 0.99**50), (1000, 0.5)):
        model.after_optimizer_step(step)
        assert model.gumbel_temperature.item() == pytest.approx(expected)
        assert model(**TESTER.arguments(PRETRAINING)).temperature.item() == pytest.approx(expected)
    model.save_pretrained(tmp_path)
    assert Wav2Vec2ForPreTraining.from_pretrained(tmp_path).gumbel_temperature == 0.5


def test_published_folders_without_our_fields_open(tmp_path):
    sizes = {name: value for name, value in TESTER.sizes.items() if hasattr(transformers.Wav2Vec2Config(), name)}
    theirs = transformers.Wav2Vec2ForPreTraining(transformers.Wav2Vec2Config(**sizes))
    theirs.save_pretrained(tmp_path)
    ours = Wav2Vec2ForPreTraining.from_pretrained(tmp_path)
    assert all(torch.equal(value, ours.state_dict()[name]) for name, value in theirs.state_dict().items())
    assert ours.gumbel_temperature == 2 and ours.config.feature_penalty_weight == 10


def test_initial_weights_are_the_originals():
    """fairseq: He for convolutions, torch's own for the projections, N(0, 0.02) in the transformer."""
    torch.manual_seed(0)
    model = Wav2Vec2ForPreTraining(Wav2Vec2Config(hidden_size=128, num_hidden_layers=2, num_attention_heads=4,
                                                  intermediate_size=128, conv_dim=[64] * 7))  # fmt: skip
    encoder = model.wav2vec2
    deviations = {
        encoder.feature_extractor.conv_layers[2].conv.weight: (2 / (64 * 3)) ** 0.5,
        encoder.feature_projection.projection.weight: (1 / 64 / 3) ** 0.5,
        encoder.encoder.pos_conv_embed.conv.weight: (4 / (128 * 128)) ** 0.5,
        encoder.encoder.layers[1].attention.k_proj.weight: 0.02,
        model.project_hid.weight: (1 / 128 / 3) ** 0.5,
        model.project_q.weight: (1 / 256 / 3) ** 0.5,
        model.quantizer.weight_proj.weight: 1.0,
        model.quantizer.codevectors: 12**-0.5,
    }
    for parameter, deviation in deviations.items():
        assert parameter.std().item() == pytest.approx(deviation, rel=0.06)
    assert encoder.masked_spec_embed.min() >= 0 and encoder.masked_spec_embed.std() > 0.2


def test_group_norm_hears_the_padding_and_encode_does_not():
    """As in the original; embeddings do not depend on the batch all the same."""
    model = TESTER.model("AutoModel", feat_extract_norm="group")
    extractor = TESTER.feature_extractor()
    clips = [TESTER.audio(seconds, seed) for seed, seconds in enumerate((0.3, 0.2, 0.3, 0.5))]
    inputs = extractor(clips, sampling_rate=16000)
    with torch.no_grad():
        padded = model(**inputs).last_hidden_state[1, :50]
        alone = model(**extractor(clips[1], sampling_rate=16000)).last_hidden_state[0, :50]
    assert (padded - alone).abs().max() > 1e-3
    together = model.encode(clips, 16000, feature_extractor=extractor)
    for clip, embedding in zip(clips, together):
        torch.testing.assert_close(model.encode(clip, 16000, feature_extractor=extractor)[0], embedding)


def test_frames_are_centred_on_what_they_hear():
    model = Wav2Vec2Model(Wav2Vec2Config(hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
                                         intermediate_size=32, conv_dim=[8] * 7))  # fmt: skip
    assert (model.receptive_field, model.input_steps_per_frame) == (400, 320)
    (frames,) = model.encode(torch.randn(16000), 16000, pool="frames", feature_extractor=Wav2Vec2FeatureExtractor())
    assert len(frames.times) == 49
    torch.testing.assert_close(frames.times[:2], torch.tensor([200, 520]) / 16000)


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(num_attention_heads=5), "hidden_size=32 is not a multiple of num_attention_heads=5"),
        (dict(pretraining_mask_prob=0.0), "pretraining_mask_prob=0.0"),
        (dict(feature_grad_mult=0.0), "feature_grad_mult=0.0"),
        (dict(gumbel_temperature_end=3.0), "gumbel_temperature=2.0, gumbel_temperature_end=3.0"),
        (dict(conv_stride=[5, 4]), "convolutional layers is incorrect"),
    ],
)
def test_contradictions_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        TESTER.config(**changes)


def test_bad_explicit_randomness_is_refused():
    model, arguments = TESTER.model(PRETRAINING), TESTER.arguments(PRETRAINING)
    with pytest.raises(ValueError, match=r"mask_time_indices: got shape \(3, 23\), expected \(3, 24\)"):
        model(**(arguments | {"mask_time_indices": arguments["mask_time_indices"][:, 1:]}))
    with pytest.raises(ValueError, match="distractors of another clip"):
        model(**(arguments | {"sampled_negative_indices": arguments["sampled_negative_indices"].flip(0)}))
    with pytest.raises(ValueError, match="mask_time_prob=0 and mask_feature_prob=0 leave out the vector"):
        TESTER.model(PRETRAINING, mask_time_prob=0.0)


def test_quiet_clips_differ_from_transformers_extractor_by_eps_only(tmp_path):
    ours, quiet = Wav2Vec2FeatureExtractor(), 1e-3 * TESTER.audio(0.2)
    ours.save_pretrained(tmp_path)
    theirs = transformers.AutoFeatureExtractor.from_pretrained(tmp_path)
    assert type(theirs) is transformers.Wav2Vec2FeatureExtractor and theirs.return_attention_mask
    expected = torch.tensor(theirs(quiet.numpy(), sampling_rate=16000)["input_values"][0])
    loud = 1000 * quiet
    same = torch.tensor(theirs(loud.numpy(), sampling_rate=16000)["input_values"][0])
    torch.testing.assert_close(ours(loud, sampling_rate=16000)["input_values"][0], same, atol=2e-4, rtol=1e-3)
    factor = expected / ours(quiet, sampling_rate=16000)["input_values"][0]
    assert factor.median() > 5
    equal = Wav2Vec2FeatureExtractor(eps=1e-7)(quiet, sampling_rate=16000)["input_values"][0]
    torch.testing.assert_close(equal, expected, atol=1e-5, rtol=1e-4)
