# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""The authors' fairseq layout, and files that are not it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoFeatureExtractor, AutoModelForPreTraining

import hf_audio_ssl
from hf_audio_ssl.conversion import ConversionError, read_checkpoint
from hf_audio_ssl.testing.parity import load_script

ROOT = Path(__file__).parents[2]
CASE = ROOT / "tests/parity/cases/dinosr/pretraining"
SCRIPT = load_script(ROOT / "conversion_scripts/convert_dinosr.py")


@pytest.fixture
def checkpoint():
    return read_checkpoint(CASE / "checkpoint.pt")


@pytest.fixture
def settings():
    return json.loads((CASE / "case.json").read_text())["original_config"]


def test_sizes_come_from_the_checkpoint(checkpoint, settings):
    config, case = SCRIPT.convert(checkpoint, settings).config, settings["model"]
    assert config.hidden_size == case["encoder_embed_dim"] and config.num_hidden_layers == case["encoder_layers"]
    assert config.intermediate_size == case["encoder_ffn_embed_dim"]
    assert config.num_codebooks == case["average_top_k_layers"] and config.codebook_size == case["codebook_size"]
    assert config.num_conv_pos_embeddings == case["pos_conv_depth"]
    assert config.conv_pos_kernel_size == case["conv_pos"] // case["pos_conv_depth"]
    assert config.num_conv_pos_embedding_groups == case["conv_pos_groups"]
    assert (config.conv_kernel, config.conv_stride) == ([10, 3, 3, 3, 3, 2, 2], [5, 2, 2, 2, 2, 2, 2])
    assert config.ema_anneal_steps == case["ema_anneal_end_step"] and config.layerdrop == case["encoder_layerdrop"]
    assert not config.mask_padding


def test_a_teacher_that_is_never_frozen(checkpoint, settings):
    settings["model"]["freeze_teacher_step"] = -1
    assert SCRIPT.convert(checkpoint, settings).config.freeze_teacher_step is None


def test_teacher_of_the_file_is_kept_and_an_absent_one_restarts(checkpoint, settings):
    model = SCRIPT.convert(checkpoint, settings)
    student = model.dinosr.encoder.state_dict()
    assert any(not torch.equal(value, student[name]) for name, value in model.teacher.state_dict().items())
    del checkpoint["model"]["_ema"]
    model = SCRIPT.convert(checkpoint, settings)
    student = model.dinosr.encoder.state_dict()
    assert all(torch.equal(value, student[name]) for name, value in model.teacher.state_dict().items())


def test_frozen_copies_are_dropped_with_a_reason(checkpoint, settings):
    checkpoint["model"]["_pre_encoder_ln"] = {"weight": torch.ones(16)}
    report = SCRIPT.convert(checkpoint, settings).conversion_report
    assert list(report) == ["_pre_encoder_ln.weight"] and "copy" in report["_pre_encoder_ln.weight"]


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda state: state.pop("mask_emb"), "missing: dinosr.masked_spec_embed"),
        (lambda state: state.update(quantizer=torch.ones(1)), "left over: quantizer"),
        (lambda state: state.pop("_codebook1"), r"_codebook: the checkpoint holds numbers \[0, 2\]"),
        (lambda state: state.pop("heads.0.weight"), "no DinoSR checkpoint: expected the keys heads.0.weight"),
    ],
)
def test_files_that_are_not_whole(checkpoint, settings, damage, message):
    damage(checkpoint["model"])
    with pytest.raises(ConversionError, match=message):
        SCRIPT.convert(checkpoint, settings)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"layer_norm_first": True}, "layer_norm_first=True: only models with False can be converted"),
        ({"discrete": False}, "discrete=False"),
        ({"extractor_mode": "default"}, "extractor_mode='default'"),
    ],
)
def test_variants_that_the_paper_does_not_use(checkpoint, settings, changes, message):
    settings["model"].update(changes)
    with pytest.raises(ConversionError, match=message):
        SCRIPT.convert(checkpoint, settings)


def test_convolutions_are_read_and_never_executed():
    read = SCRIPT.convolution_layers
    assert read("[(512,10,5)] + [(512,3,2)] * 2") == [(512, 10, 5), (512, 3, 2), (512, 3, 2)]
    assert read("2 * [(1, 2, 3)] + [[4, 5, 6]]") == [(1, 2, 3), (1, 2, 3), (4, 5, 6)]
    for text in ("__import__('os').system('true')", "[(1, 2)]", "[(1, 2, 3)", "7", "[x]"):
        with pytest.raises(ConversionError, match="conv_feature_layers: got"):
            read(text)


def test_command_writes_a_folder_that_transformers_opens(tmp_path, checkpoint, settings):
    torch.save({"cfg": settings, "model": checkpoint["model"]}, tmp_path / "dinosr.ckpt")
    script = ROOT / "conversion_scripts/convert_dinosr.py"
    command = [sys.executable, script, "--checkpoint", tmp_path / "dinosr.ckpt", "--output", tmp_path / "out"]
    path = str(Path(hf_audio_ssl.__file__).parents[1])
    done = subprocess.run(command, capture_output=True, text=True, env={"PYTHONPATH": path, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    again = AutoModelForPreTraining.from_pretrained(tmp_path / "out").state_dict()
    expected = SCRIPT.convert(checkpoint, settings).state_dict()
    assert expected.keys() == again.keys() and all(torch.equal(value, again[name]) for name, value in expected.items())
    extractor = AutoFeatureExtractor.from_pretrained(tmp_path / "out")
    assert (extractor.sampling_rate, extractor.max_length, extractor.min_length) == (16000, 320000, 400)
