# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""What only SSAMBA does. Shared behaviour: tests/models/test_methods.py; numbers of the original: tests/parity."""

from pathlib import Path

import pytest
import torch

from hf_audio_ssl import SsambaConfig, SsambaFeatureExtractor, SsambaForPreTraining, SsambaModel
from hf_audio_ssl.testing.mixins import find_testers

TESTER = find_testers(Path(__file__).parents[1])["ssamba"]
PRETRAINING, CLASSIFICATION = "AutoModelForPreTraining", "AutoModelForAudioClassification"
FRAMES = "AutoModelForAudioFrameClassification"


@pytest.mark.parametrize(
    "width, millions", [(192, 6.8), (384, 25), (768, 96)]
)  # fmt: skip
def test_sizes_of_the_paper(width, millions):
    """The paper's tiny, small and base: the blocks' parameters, in 24 blocks."""
    config = SsambaConfig(hidden_size=width, intermediate_size=2 * width, time_step_rank=width // 16)
    with torch.device("meta"):
        model = SsambaModel(config)
    assert sum(len(layer.blocks) for layer in model.layers) == 24
    assert sum(p.numel() for p in model.layers.parameters()) / 1e6 == pytest.approx(millions, rel=0.03)


def test_losses_written_out_clip_by_clip():
    """With a clip whose second half is padding: its patches are no targets, and no negatives."""
    model, arguments = TESTER.model(PRETRAINING, generative_loss_weight=0.5), TESTER.arguments(PRETRAINING)
    output = model(**arguments)
    values, width, size = arguments["input_values"], TESTER.steps // 16, 16
    likelihoods, hits, errors = [], [], []
    for clip in range(3):
        columns = TESTER.short_steps // 16 if clip == 2 else width
        for mask, kind in (
            (arguments["bool_masked_pos"], "contrastive"),
            (arguments["bool_masked_pos_generative"], "generative"),
        ):
            cells = mask[clip].nonzero().flatten().tolist()
            pixels = torch.stack(
                [values[clip, c % width * size :][:size, c // width * size :][:, :size].T.flatten() for c in cells]
            )
            real = [i for i, c in enumerate(cells) if c % width < columns]
            if kind == "generative":
                errors += list((output.reconstruction[clip, real] - pixels[real]).square().mean(dim=1))
                continue
            torch.testing.assert_close(output.targets[clip], pixels)
            scores = pixels[real] @ output.predictions[clip, real].T
            likelihoods += list(scores.log_softmax(dim=1).diagonal())
            hits += (scores.softmax(dim=1).argmax(dim=0) == torch.arange(len(real))).tolist()
    torch.testing.assert_close(output.contrastive_loss, -torch.stack(likelihoods).mean(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(output.generative_loss, torch.stack(errors).mean())
    torch.testing.assert_close(output.loss, output.contrastive_loss + 0.5 * output.generative_loss)
    assert output.accuracy.item() == pytest.approx(sum(hits) / len(hits))
    assert output.masked_share.item() == pytest.approx(len(hits) / 36)


def test_each_objective_sees_its_own_mask():
    model, arguments = TESTER.model(PRETRAINING), TESTER.arguments(PRETRAINING)
    first = model(**arguments)
    arguments["bool_masked_pos_generative"] = arguments["bool_masked_pos_generative"].flip(1)
    second = model(**arguments)
    assert torch.equal(first.predictions, second.predictions) and first.contrastive_loss == second.contrastive_loss
    assert first.generative_loss != second.generative_loss
    drawn = model(arguments["input_values"])
    assert (drawn.bool_masked_pos.sum(1) == 7).all() and (drawn.bool_masked_pos_generative.sum(1) == 7).all()
    assert not torch.equal(drawn.bool_masked_pos, drawn.bool_masked_pos_generative)


def test_masked_patches_are_hidden():
    """Whatever stands in them, the encoder sees the mask token."""
    model, arguments = TESTER.model(PRETRAINING), TESTER.arguments(PRETRAINING)
    arguments.pop("attention_mask")
    cell = arguments["bool_masked_pos"][0].nonzero()[0, 0].item()
    before = model(**arguments).predictions
    row, column = divmod(cell, TESTER.steps // 16)
    arguments["input_values"][0, 16 * column : 16 * column + 16, 16 * row : 16 * row + 16] += 5
    assert torch.equal(model(**arguments).predictions, before)


def test_stream_of_pairs_doubles_and_that_of_single_blocks_does_not():
    values = TESTER.inputs()["input_values"]
    for bidirectional, factor in ((True, 2), (False, 1)):
        model = TESTER.model("AutoModel", bidirectional=bidirectional)
        with torch.no_grad():
            output = model(values, output_hidden_states=True, output_block_states=True)
        width = len(output.block_states) // 2
        assert width == factor and len(output.hidden_states) == 3
        for k in range(2):
            found = sum(output.block_states[k * width : (k + 1) * width])
            expected = factor * output.hidden_states[k] + found
            if k == 1:  # the last hidden state is normed
                expected = model.norm(model.norm(expected))
            torch.testing.assert_close(output.hidden_states[k + 1], expected)
        assert torch.equal(output.hidden_states[-1], output.last_hidden_state)


def test_every_token_hears_of_every_other():
    """A scan runs one way, a block both: there is no causal blind spot, not even in one block."""
    model = TESTER.model("AutoModel", bidirectional=False, num_hidden_layers=1)
    x = torch.randn(1, 96, 32)
    with torch.no_grad():
        before = model(x).last_hidden_state
        for column in (0, 5):
            changed = x.clone()
            changed[:, 16 * column : 16 * column + 16] += 1
            moved = (model(changed).last_hidden_state - before).abs().amax(dim=2)[0]
            assert (moved > 1e-7).all()


def test_rms_norms_have_no_bias():
    names = dict(TESTER.model("AutoModel", rms_norm=True).named_parameters())
    assert "norm.weight" in names and not any(name.endswith("norm.bias") for name in names)


def test_drop_path_grows_over_the_blocks():
    model = TESTER.model("AutoModel", drop_path_rate=0.3)
    assert [block.drop_path.p for layer in model.layers for block in layer.blocks] == pytest.approx([0, 0.1, 0.2, 0.3])


def test_branches_start_smaller_in_deeper_models():
    shallow, deep = (TESTER.model("AutoModel", num_hidden_layers=n) for n in (1, 4))
    bound = 48**-0.5  # torch's, of a layer with 48 inputs
    for model, blocks in ((shallow, 2), (deep, 8)):
        largest = max(layer.blocks[1].mixer.out_proj.weight.abs().max().item() for layer in model.layers)
        assert largest == pytest.approx(bound * blocks**-0.5, rel=0.02)


def test_longer_than_the_table():
    """Positions are stretched; a clip that is longer than the table is not changed by a yet longer neighbour."""
    model = TESTER.model("AutoModel")
    values = torch.randn(2, 16 * 20, 32)
    mask = torch.ones(2, 16 * 20, dtype=torch.long)
    mask[1, 16 * 9 :] = 0
    with torch.no_grad():
        both, alone = model(values, mask), model(values[1:, : 16 * 9])
        whole = model(values[:1])
    torch.testing.assert_close(both.pooler_output[1:], alone.pooler_output, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(both.last_hidden_state[:1], whole.last_hidden_state, atol=1e-5, rtol=1e-4)


def test_a_pretrained_folder_opens_with_overlapping_patches(tmp_path):
    """As the authors fine-tune: the same weights on a finer grid."""
    TESTER.model(PRETRAINING).save_pretrained(tmp_path)
    model, report = SsambaModel.from_pretrained(
        tmp_path, frequency_stride=10, time_stride=10, output_loading_info=True
    )
    assert not report["missing_keys"] and not report["mismatched_keys"]
    output = model.eval()(TESTER.inputs()["input_values"])
    assert output.last_hidden_state.shape == (3, 1 + 2 * 9, 32)
    _, tokens, valid = model.split_tokens(output.last_hidden_state, TESTER.inputs()["attention_mask"])
    assert tokens.shape == (3, 9, 2, 32) and valid.sum(dim=1).tolist() == [9, 9, 4]
    with pytest.raises(ValueError, match="pre-training needs patches without overlap, patch_size=16"):
        SsambaForPreTraining(model.config)


def test_pooling():
    inputs = TESTER.inputs()
    by_mean, by_token = (TESTER.model(CLASSIFICATION, classifier_pooling=pool) for pool in ("mean", "cls"))
    with torch.no_grad():
        output = by_mean.ssamba(**inputs)
        mean = by_mean.classifier(by_mean.norm(output.pooler_output))
        token = by_token.classifier(by_token.norm(output.last_hidden_state[:, 0]))
        torch.testing.assert_close(by_mean(**inputs).logits, mean)
        torch.testing.assert_close(by_token(**inputs).logits, token)
        tokens = output.last_hidden_state[2, 1:].unflatten(0, (2, 6))[:, : TESTER.short_steps // 16]
    torch.testing.assert_close(output.pooler_output[2], tokens.mean(dim=(0, 1)), atol=1e-6, rtol=1e-5)


def test_frames_are_columns_of_patches():
    model, inputs = TESTER.model(FRAMES), TESTER.inputs()
    with torch.no_grad():
        states = model.ssamba(**inputs).last_hidden_state[:, 1:].unflatten(1, (2, 6)).mean(dim=1)
        torch.testing.assert_close(model(**inputs).logits, model.classifier(model.norm(states)))


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(mask_ratio=1.0), "mask_ratio=1.0"),
        (dict(min_mask_cluster=4), "min_mask_cluster=4, max_mask_cluster=3"),
        (dict(state_size=0), "state_size=0"),
        (dict(patch_size=64), "num_mel_bins=32 is less than patch_size=64"),
    ],
)
def test_contradictions_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        TESTER.config(**changes)


def test_a_clip_of_one_patch_cannot_be_masked():
    with pytest.raises(ValueError, match="num_masked=1: expected 1 to 0 of 1 cells"):
        TESTER.model(PRETRAINING, num_mel_bins=16)(torch.randn(2, 16, 16))


def test_extractor_pads_before_it_normalises():
    features = SsambaFeatureExtractor()(TESTER.audio(1.0), sampling_rate=16000, return_attention_mask=True)
    assert features["input_values"].shape == (1, 1024, 128) and features["attention_mask"].sum() == 98
    padded = features["input_values"][0, 98:]
    torch.testing.assert_close(padded, torch.full_like(padded, 4.2677393 / (2 * 4.5689974)))
