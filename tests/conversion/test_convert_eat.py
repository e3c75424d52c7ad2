# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""EAT's three layouts: fairseq pre-trained, fairseq fine-tuned, and the authors' Hub repositories."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoFeatureExtractor, AutoModel, AutoModelForAudioClassification, AutoModelForPreTraining

from hf_audio_ssl.conversion import ConversionError, flatten_state, read_checkpoint, run_conversion
from hf_audio_ssl.testing.parity import load_script

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests/parity/cases/eat"
SCRIPT = load_script(ROOT / "conversion_scripts/convert_eat.py")


@pytest.fixture
def pretrained():
    return read_checkpoint(CASES / "pretraining/checkpoint.pt")


@pytest.fixture
def finetuned():
    return read_checkpoint(CASES / "classification/checkpoint.pt")


def settings(name):
    return json.loads((CASES / name / "case.json").read_text())["original_config"]


def hub_layout(state):
    """The same weights under the names of the authors' Hub repositories."""
    result = {}
    for key, value in state.items():
        key = key.removeprefix("model.")
        if not (key.startswith("_ema") or ".decoder." in key):
            key = re.sub(
                r"modality_encoders\.IMAGE\.(context_encoder\.norm\.)?", lambda m: m[1] and "pre_norm." or "", key
            )
            result["model." + key] = value
    return result


def values(model, frames=96):
    return torch.randn(2, frames, model.config.num_mel_bins, generator=torch.Generator().manual_seed(0))


def assert_same_outputs(one, other):
    x = values(one)
    with torch.no_grad():
        for name, value in one.eval()(x).items():
            assert torch.equal(other.eval()(x)[name], value), name


def test_sizes_come_from_the_checkpoint(pretrained):
    model = SCRIPT.convert(pretrained)
    case = settings("pretraining")["model"]
    config = model.config
    assert type(model).__name__ == "EatForPreTraining"
    assert config.hidden_size == case["embed_dim"] and config.num_hidden_layers == case["depth"]
    assert config.num_attention_heads == case["num_heads"] and config.num_clones == case["clone_batch"]
    assert config.mask_block_size == case["modalities"]["image"]["mask_length"]
    assert (config.ema_decay, config.ema_end_decay) == (case["ema_decay"], case["ema_end_decay"])
    assert list(model.conversion_report) == [
        key for key in flatten_state(pretrained["model"]) if key.endswith("positional_encoder.positions")
    ]


def test_teacher_of_the_file_is_kept_and_an_absent_one_restarts(pretrained):
    model = SCRIPT.convert(pretrained)
    teacher, student = model.teacher.state_dict(), model.eat.state_dict()
    assert any(not torch.equal(teacher[name], student[name]) for name in teacher)
    del pretrained["model"]["_ema"]
    model = SCRIPT.convert(pretrained)
    teacher, student = model.teacher.state_dict(), model.eat.state_dict()
    assert all(torch.equal(teacher[name], student[name]) for name in teacher)


def test_hub_layout_of_a_pretrained_encoder(pretrained):
    expected = SCRIPT.convert(pretrained).eat
    converted = SCRIPT.convert(hub_layout(pretrained["model"]), settings("pretraining"))
    assert type(converted).__name__ == "EatModel"
    assert_same_outputs(expected, converted)


def test_hub_layout_of_a_finetuned_model(finetuned):
    expected = SCRIPT.convert(finetuned)
    encoder = finetuned["cfg"]["model"]["pretrained_model_args"]
    converted = SCRIPT.convert(hub_layout(finetuned["model"]), encoder)
    assert type(converted).__name__ == type(expected).__name__ == "EatForAudioClassification"
    assert_same_outputs(expected, converted)


def test_head_width_of_the_released_sizes_needs_no_settings(pretrained):
    """Hub repositories hold bare weights: 64 dimensions per head in both sizes."""
    for width, heads in ((768, 12), (1024, 16)):
        state = {
            "model.local_encoder.proj.weight": torch.zeros(width, 1, 16, 16),
            "model.blocks.0.mlp.fc1.weight": torch.zeros(4 * width, width),
        }
        config = SCRIPT.infer_config(state, {}, {})
        assert (config.hidden_size, config.num_attention_heads, config.intermediate_size) == (width, heads, 4 * width)


@pytest.mark.parametrize(
    "case, auto, name",
    [
        ("pretraining", AutoModelForPreTraining, "EatForPreTraining"),
        ("classification_esc50", AutoModelForAudioClassification, "EatForAudioClassification"),
    ],
)
def test_command_writes_a_folder_that_opens(case, auto, name, tmp_path):
    command = [sys.executable, str(ROOT / "conversion_scripts/convert_eat.py")]
    command += ["--checkpoint", str(CASES / case / "checkpoint.pt"), "--output", str(tmp_path / "new/model")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "new/model"
    assert {"config.json", "model.safetensors", "preprocessor_config.json", "conversion.json"} <= {
        path.name for path in folder.iterdir()
    }
    report = json.loads((folder / "conversion.json").read_text())
    assert report["class"] == name and report["checkpoint"] == "checkpoint.pt"
    assert all("positions" in key and reason for key, reason in report["dropped"].items())
    converted = SCRIPT.convert(read_checkpoint(CASES / case / "checkpoint.pt"))
    again = auto.from_pretrained(folder)
    assert [n for n, v in converted.state_dict().items() if not torch.equal(again.state_dict()[n], v)] == []
    assert type(AutoModel.from_pretrained(folder)).__name__ == "EatModel"
    extractor = AutoFeatureExtractor.from_pretrained(folder)
    assert extractor.mean == (-6.627 if "esc50" in case else -4.268)
    assert list((tmp_path / "new").iterdir()) == [folder]


def test_safetensors_of_the_hub_layout(finetuned, tmp_path):
    save_file(hub_layout(finetuned["model"]), tmp_path / "model.safetensors")
    (tmp_path / "original.json").write_text(json.dumps(finetuned["cfg"]["model"]["pretrained_model_args"]))
    folder = run_conversion(
        SCRIPT.convert,
        tmp_path / "model.safetensors",
        tmp_path / "out",
        original_config=tmp_path / "original.json",
        feature_extractor=SCRIPT.feature_extractor,
    )
    assert_same_outputs(SCRIPT.convert(finetuned), AutoModelForAudioClassification.from_pretrained(folder))


# what it refuses: with a list of what is wrong, and nothing written


def drop_key(state):
    del state["blocks.1.attn.qkv.weight"]
    return "missing: .*layers.1.attention"


def drop_teacher_key(state):
    del state["_ema"]["blocks.1.mlp.fc2.bias"]
    return r"missing: teacher\.layers\.1\.mlp\.fc2\.bias"


def extra_key(state):
    state["blocks.1.attn.rel_pos"] = torch.ones(1)
    return r"left over: blocks\.1\.attn\.rel_pos"


def wrong_shape(state):
    state["blocks.0.mlp.fc2.weight"] = torch.ones(3, 3)
    return r"shape of eat\.layers\.0\.mlp\.fc2\.weight: got \(3, 3\)"


def other_positions(state):
    state["modality_encoders.IMAGE.fixed_positional_encoder.positions"] += 1e-3
    return "is not the fixed sine-cosine table"


def other_method(state):
    state.clear()
    state["encoder.layers.0.self_attn.k_proj.weight"] = torch.ones(4, 4)
    return "no EAT checkpoint: .*k_proj"


@pytest.mark.parametrize("damage", [drop_key, drop_teacher_key, extra_key, wrong_shape, other_positions, other_method])
def test_unfit_checkpoints_leave_nothing_behind(damage, pretrained, tmp_path):
    message = damage(pretrained["model"])
    torch.save(pretrained, tmp_path / "checkpoint.pt")
    with pytest.raises(ConversionError, match=message):
        run_conversion(SCRIPT.convert, tmp_path / "checkpoint.pt", tmp_path / "out/model")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_failure_while_saving_leaves_nothing_behind(tmp_path):
    def broken(checkpoint, config):
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        run_conversion(SCRIPT.convert, CASES / "encoder/checkpoint.pt", tmp_path / "model", feature_extractor=broken)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_not_overwritten(tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="exists and is not empty"):
        run_conversion(SCRIPT.convert, CASES / "encoder/checkpoint.pt", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]
