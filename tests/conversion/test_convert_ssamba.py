# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""SSAMBA's files: pre-trained and fine-tuned state dicts, whose settings are partly elsewhere."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification, AutoModelForPreTraining

from hf_audio_ssl.conversion import ConversionError, read_checkpoint
from hf_audio_ssl.testing.parity import load_script

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests/parity/cases/ssamba"
SCRIPT = load_script(ROOT / "conversion_scripts/convert_ssamba.py")


@pytest.fixture
def pretrained():
    return read_checkpoint(CASES / "pretraining/checkpoint.pt")


@pytest.fixture
def finetuned():
    return read_checkpoint(CASES / "classification/checkpoint.pt")


def settings(name):
    return json.loads((CASES / name / "case.json").read_text())["original_config"]


def test_sizes_come_from_the_file_and_pairs_are_the_default(pretrained):
    model, case = SCRIPT.convert(pretrained), settings("pretraining")
    config, vision = model.config, case["vision_mamba_config"]
    assert type(model).__name__ == "SsambaForPreTraining"
    assert config.bidirectional and 2 * config.num_hidden_layers == vision["depth"]
    assert config.hidden_size == vision["embed_dim"] and config.num_mel_bins == case["input_fdim"]
    assert (config.position_rows, config.position_columns) == (8, 5)
    assert set(model.conversion_report) == {
        f"module.{name}" for name in ("p_input_fdim", "p_input_tdim", "v.head.weight", "v.head.bias")
    }
    with torch.no_grad():
        x = torch.randn(2, 80, 128)
        expected = SCRIPT.convert(pretrained, case).ssamba(x).last_hidden_state
        assert torch.equal(model.ssamba(x).last_hidden_state, expected)


def test_an_odd_layer_has_no_partner(pretrained):
    """`for i in range(depth // 2)`: the original leaves it out."""
    odd = {key: value for key, value in pretrained.items() if ".layers.3." not in key}
    model = SCRIPT.convert(odd)
    assert model.config.num_hidden_layers == 1
    assert "no partner" in model.conversion_report["module.v.layers.2.norm.weight"]
    sequential = SCRIPT.convert(odd, {"if_bidirectional": "false"})
    assert sequential.config.num_hidden_layers == 3 and not sequential.config.bidirectional


def test_sum_of_the_directions_instead_of_their_mean(pretrained):
    """`if_devide_out=False` becomes twice the output projection."""
    mean, total = SCRIPT.convert(pretrained), SCRIPT.convert(pretrained, {"if_devide_out": False})
    x = torch.randn(1, 80, 128)
    with torch.no_grad():
        first = [m.ssamba(x, output_block_states=True).block_states[0] for m in (mean, total)]
    assert torch.equal(2 * first[0], first[1])


@pytest.mark.parametrize(
    "case, changes, grid, columns, rows",
    [
        # a cut from the middle of five columns; the same rows
        ("pretraining", dict(input_tdim=48), (8, 3), [1, 2, 3], range(8)),
        # fewer rows: the cut that was meant, where the original fails
        ("pretraining", dict(input_tdim=48, input_fdim=64), (4, 3), [1, 2, 3], range(2, 6)),
    ],
)
def test_positions_are_cut_from_the_middle(pretrained, case, changes, grid, columns, rows):
    whole = SCRIPT.convert(pretrained).ssamba.embeddings.positions
    model = SCRIPT.convert(pretrained, settings(case) | changes)
    assert type(model).__name__ == "SsambaModel"
    assert (model.config.position_rows, model.config.position_columns) == grid
    assert torch.equal(model.embeddings.positions, whole[list(rows)][:, columns])
    assert any("another grid" in reason for reason in model.conversion_report.values())


def test_strides_of_a_finetuned_file_are_inferred_or_asked_for(finetuned):
    with_settings = SCRIPT.convert(finetuned, settings("classification"))
    assert with_settings.config.frequency_stride == with_settings.config.time_stride == 10
    assert (with_settings.config.position_rows, with_settings.config.position_columns) == (12, 9)
    model = SCRIPT.convert(finetuned)  # 108 positions are rows of 12, not of 8
    x = torch.randn(2, 96, 128)
    with torch.no_grad():
        assert torch.equal(model(x).logits, with_settings(x).logits)
    # 96 are both
    finetuned["module.v.pos_embed"] = finetuned["module.v.pos_embed"][:, :97]
    with pytest.raises(ConversionError, match=r"96 positions fit patch strides \[10, 16\]: give fstride"):
        SCRIPT.convert(finetuned)


@pytest.mark.parametrize("key", ["module.mask_embed", "module.v.layers.1.mixer.A_b_log", "module.v.norm_f.weight"])
def test_missing_and_left_over_keys_are_errors(pretrained, key):
    value = pretrained.pop(key)
    with pytest.raises(ConversionError, match="missing"):
        SCRIPT.convert(pretrained)
    pretrained |= {key: value, "module.v.extra": value}
    with pytest.raises(ConversionError, match="left over: v.extra"):
        SCRIPT.convert(pretrained)


def test_other_checkpoints_are_refused(pretrained):
    with pytest.raises(ConversionError, match="no SSAMBA checkpoint"):
        SCRIPT.convert({"model.weight": torch.zeros(1)})
    with pytest.raises(ConversionError, match="rotary"):
        SCRIPT.convert(pretrained, {"if_rope": True})


@pytest.mark.parametrize(
    "case, auto, name, length",
    [
        ("pretraining", AutoModelForPreTraining, "SsambaForPreTraining", 80),
        ("classification", AutoModelForAudioClassification, "SsambaForAudioClassification", 96),
    ],
)
def test_command_writes_a_folder_that_opens(case, auto, name, length, tmp_path):
    command = [sys.executable, str(ROOT / "conversion_scripts/convert_ssamba.py")]
    command += ["--checkpoint", str(CASES / case / "checkpoint.pt"), "--output", str(tmp_path / "model")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert type(auto.from_pretrained(tmp_path / "model")).__name__ == name
    assert AutoFeatureExtractor.from_pretrained(tmp_path / "model").max_length == length
    report = json.loads((tmp_path / "model/conversion.json").read_text())
    assert report["class"] == name and "module.v.head.weight" in report["dropped"]
