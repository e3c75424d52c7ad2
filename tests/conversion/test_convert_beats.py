# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Conversion of BEATs beyond the numbers (tests/parity): layouts, settings, damaged files."""

from pathlib import Path

import pytest
import torch

from hf_audio_ssl import BeatsForAudioClassification, BeatsForPreTraining, BeatsModel, BeatsTokenizer
from hf_audio_ssl.conversion import ConversionError, read_checkpoint, run_conversion
from hf_audio_ssl.testing.parity import load_script

ROOT = Path(__file__).parents[2]
SCRIPT = load_script(ROOT / "conversion_scripts/convert_beats.py")
CASES = ROOT / "tests/parity/cases/beats"


def checkpoint(case):
    return read_checkpoint(CASES / case / "checkpoint.pt")


@pytest.mark.parametrize(
    "case, model_class",
    [("encoder", BeatsModel), ("classification", BeatsForAudioClassification), ("tokenizer", BeatsTokenizer)],
)
def test_the_class_follows_from_the_file_and_every_key_is_accounted_for(case, model_class, tmp_path):
    file = checkpoint(case)
    model = SCRIPT.convert(file)
    assert type(model) is model_class
    used = set(file["model"]) - set(model.conversion_report)
    assert len(used) == len(model.state_dict())
    assert all(model.conversion_report.values())
    folder = run_conversion(
        SCRIPT.convert, CASES / case / "checkpoint.pt", tmp_path / "out", feature_extractor=SCRIPT.feature_extractor
    )
    again = model_class.from_pretrained(folder)
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_the_last_copy_of_the_tied_table_counts():
    file = checkpoint("encoder")
    key = "encoder.layers.{}.self_attn.relative_attention_bias.weight"
    file["model"][key.format(0)] = file["model"][key.format(0)] + 1
    table = SCRIPT.convert(file).encoder.relative_position.embedding.weight
    assert torch.equal(table, file["model"][key.format(1)])


def test_labels_get_the_names_in_the_file():
    file = checkpoint("classification")
    assert SCRIPT.convert(file).config.id2label == file["label_dict"]
    assert SCRIPT.convert(file).config.problem_type == "multi_label_classification"
    del file["label_dict"]
    assert SCRIPT.convert(file).config.id2label[3] == "3"


def test_settings_come_from_the_file_or_beside_it():
    file = checkpoint("encoder")
    config = SCRIPT.convert(file).config
    assert (config.max_position_distance, config.gradient_decay_ratio, config.deep_norm) == (160, 0.6, True)
    changed = SCRIPT.convert(file, file["cfg"] | {"max_distance": 99, "encoder_layerdrop": 0.3}).config
    assert (changed.max_position_distance, changed.layerdrop) == (99, 0.3)
    # the original's own defaults where the settings are incomplete, the release's where there are none
    assert SCRIPT.convert(file, {"encoder_attention_heads": 4}).config.deep_norm is False
    assert SCRIPT.convert(file["model"]).config.deep_norm is True


def test_the_new_names_of_weight_normalisation_and_gated_units_are_read():
    file = checkpoint("encoder")
    state = file["model"]
    expected = SCRIPT.convert(file).state_dict()
    for old, new in (("weight_g", "original0"), ("weight_v", "original1")):
        state[f"encoder.pos_conv.0.parametrizations.weight.{new}"] = state.pop(f"encoder.pos_conv.0.{old}")
    assert all(torch.equal(value, expected[name]) for name, value in SCRIPT.convert(file).state_dict().items())
    file["cfg"] |= {"activation_fn": "glu", "deep_norm": False}
    for layer in range(2):
        for name in ("weight", "bias"):
            value = state.pop(f"encoder.layers.{layer}.fc1.{name}")
            state[f"encoder.layers.{layer}.fc1.linear.{name}"] = torch.cat([value, value])
    assert SCRIPT.convert(file).config.gated_mlp


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda state: state.pop("encoder.layers.1.fc2.bias"), r"missing: encoder.layers.1.mlp.fc2.bias"),
        (lambda state: state.update({"decoder.weight": torch.zeros(1)}), "left over: decoder.weight"),
        (lambda state: state.pop("patch_embedding.weight"), "no BEATs checkpoint"),
        (lambda state: state.pop("encoder.pos_conv.0.weight_v"), "positional convolution is missing"),
        (lambda state: state.update({"encoder.layer_norm.bias": torch.zeros(3)}), "shape of encoder.norm.bias"),
    ],
)
def test_damaged_files_are_refused(damage, message):
    file = checkpoint("encoder")
    damage(file["model"])
    with pytest.raises(ConversionError, match=message):
        SCRIPT.convert(file)


def test_a_converted_tokenizer_teaches_and_a_converted_encoder_goes_on(tmp_path):
    SCRIPT.convert(checkpoint("tokenizer")).save_pretrained(tmp_path / "tokenizer")
    learner = BeatsForPreTraining.from_tokenizer(str(tmp_path / "tokenizer"))
    values = torch.randn(2, 96, 128)
    assert torch.equal(learner(values).targets, SCRIPT.convert(checkpoint("tokenizer"))(values).codes)
    encoder = SCRIPT.convert(checkpoint("encoder"))
    encoder.save_pretrained(tmp_path / "encoder")
    model = BeatsForPreTraining.from_pretrained(tmp_path / "encoder")
    assert torch.equal(model.beats(values).last_hidden_state, encoder(values).last_hidden_state)
    assert model(values).loss.isfinite()
