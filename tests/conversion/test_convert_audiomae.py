# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Audio-MAE's layouts: the authors' pre-trained (either decoder) and fine-tuned files, and bare state dicts."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoFeatureExtractor, AutoModel, AutoModelForAudioClassification, AutoModelForPreTraining

from hf_audio_ssl import AudioMaeConfig, AudioMaeForPreTraining
from hf_audio_ssl.conversion import ConversionError, read_checkpoint, run_conversion
from hf_audio_ssl.testing.parity import load_script

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests/parity/cases/audiomae"
SCRIPT = load_script(ROOT / "conversion_scripts/convert_audiomae.py")


def checkpoint(name):
    return read_checkpoint(CASES / name / "checkpoint.pt")


def settings(name):
    return json.loads((CASES / name / "case.json").read_text())["original_config"]


def with_fixed_positions(content, kind, num_mel_patches=4):
    """As the authors' own pre-training leaves the tables: untouched."""
    for key in ("pos_embed", "decoder_pos_embed"):
        table = content["model"][key]
        config = AudioMaeConfig(
            hidden_size=table.shape[2], num_attention_heads=1, num_mel_bins=16 * num_mel_patches,
            num_time_patches=(table.shape[1] - 1) // num_mel_patches, position_embedding=kind,
        )  # fmt: skip
        content["model"][key] = SCRIPT.AudioMaePositions(config).fixed(table.shape[1] - 1)[None]
    return content


def test_settings_come_from_the_file_or_from_the_caller():
    for case, kind, shift in (
        ("pretraining_local_decoder", "local", 2),
        ("pretraining_local_decoder_noshift", "local", 0),
        ("pretraining_global_decoder", "global", 2),
    ):
        original = settings(case)
        for config in (
            SCRIPT.convert(checkpoint(case), original).config,
            # the file's own record lacks the sizes of these tiny cases
            SCRIPT.convert(checkpoint(case), {**checkpoint(case)["args"].state, **sizes(original)}).config,
        ):
            assert (config.decoder_type, config.decoder_window_shift) == (kind, shift)
            assert (config.num_attention_heads, config.decoder_num_attention_heads) == (2, 4)
            assert (config.mask_ratio, config.norm_pix_loss, config.mask_strategy) == (0.8, True, "patches")
    changed = settings("pretraining_local_decoder") | {"norm_pix_loss": False, "mask_2d": True, "mask_t_prob": 0.6}
    config = SCRIPT.convert(checkpoint("pretraining_local_decoder"), changed).config
    assert (config.norm_pix_loss, config.mask_strategy, config.mask_time_ratio) == (False, "time_frequency", 0.6)


def sizes(original):
    return {name: original[name] for name in ("img_size", "num_heads", "decoder_num_heads")}


def test_sizes_of_the_released_files_need_no_settings():
    """They hold an argparse record without widths; 64 dimensions per head, 16 heads in the decoder, 128 mel bins."""
    with torch.device("meta"):
        ours = AudioMaeForPreTraining(AudioMaeConfig()).state_dict()
    assert ours["decoder.layers.15.attention.qkv.weight"].shape == (1536, 512)
    state = {
        "patch_embed.proj.weight": torch.zeros(768, 1, 16, 16),
        "blocks.0.mlp.fc1.weight": torch.zeros(3072, 768),
        "pos_embed": torch.zeros(1, 513, 768),
        "decoder_pos_embed": torch.zeros(1, 513, 512),
        "decoder_embed.weight": torch.zeros(512, 768),
    }
    state = with_fixed_positions({"model": state}, "transposed", 8)["model"]
    for i in range(16):
        state[f"decoder_blocks.{i}.attn.tau"] = torch.zeros(16)
        state[f"decoder_blocks.{i}.mlp.fc1.weight"] = torch.zeros(2048, 512)
        state[f"decoder_blocks.{i}.attn.meta_mlp.fc1.weight"] = torch.zeros(384, 2)
    expected = AudioMaeConfig(num_hidden_layers=1)
    assert SCRIPT.infer_config(state, {}).to_dict() == expected.to_dict()


@pytest.mark.parametrize("kind", ["transposed", "aligned"])
def test_a_fixed_table_is_recognised_and_not_stored(kind):
    name = "pretraining_local_decoder"
    content = with_fixed_positions(checkpoint(name), kind)
    model = SCRIPT.convert(content, settings(name))
    assert model.config.position_embedding == kind and model.config.num_time_patches == 8
    assert not any("positions" in key for key in model.state_dict())
    assert sorted(model.conversion_report) == ["decoder_pos_embed", "pos_embed"]
    content["model"]["decoder_pos_embed"][0, 3] += 1e-3
    trained = SCRIPT.convert(content, settings(name))
    assert trained.config.position_embedding == "learned" and trained.conversion_report == {}
    x = torch.randn(2, 128, 64)
    with torch.no_grad():
        torch.testing.assert_close(trained.audiomae(x)[0], model.audiomae(x)[0], atol=1e-5, rtol=1e-4)


def test_bare_weights_of_an_encoder():
    content, expected = checkpoint("encoder")["model"], SCRIPT.convert(checkpoint("encoder"), settings("encoder"))
    content = {k: v for k, v in content.items() if "decoder" not in k and k != "mask_token"}
    model = SCRIPT.convert(content, settings("encoder"))
    assert type(model).__name__ == "AudioMaeModel"
    x = torch.randn(2, 128, 64)
    with torch.no_grad():
        assert torch.equal(model(x)[0], expected.audiomae(x)[0])


@pytest.mark.parametrize(
    "case, auto, name",
    [
        ("pretraining_local_decoder", AutoModelForPreTraining, "AudioMaeForPreTraining"),
        ("classification", AutoModelForAudioClassification, "AudioMaeForAudioClassification"),
    ],
)
def test_conversion_writes_a_folder_that_opens(case, auto, name, tmp_path):
    (tmp_path / "original.json").write_text(json.dumps(settings(case) | {"dataset": "esc50"}))
    folder = run_conversion(
        SCRIPT.convert,
        CASES / case / "checkpoint.pt",
        tmp_path / "model",
        original_config=tmp_path / "original.json",
        feature_extractor=SCRIPT.feature_extractor,
    )
    converted, again = SCRIPT.convert(checkpoint(case), settings(case)), auto.from_pretrained(folder)
    assert type(again).__name__ == name
    assert [n for n, v in converted.state_dict().items() if not torch.equal(again.state_dict()[n], v)] == []
    assert type(AutoModel.from_pretrained(folder)).__name__ == "AudioMaeModel"
    extractor = AutoFeatureExtractor.from_pretrained(folder)
    assert (extractor.mean, extractor.std, extractor.max_length) == (-6.6268077, 5.358466, 512)


def drop_key(state):
    del state["blocks.1.attn.qkv.weight"]
    return "missing: .*layers.1.attention"


def extra_key(state):
    state["blocks.1.attn.rel_pos"] = torch.ones(1)
    return r"left over: blocks\.1\.attn\.rel_pos"


def wrong_shape(state):
    state["decoder_blocks.1.mlp.fc2.weight"] = torch.ones(3, 3)
    return r"shape of decoder\.layers\.1\.mlp\.fc2\.weight: got \(3, 3\)"


def other_method(state):
    state.clear()
    state["encoder.layers.0.self_attn.k_proj.weight"] = torch.ones(4, 4)
    return "no Audio-MAE checkpoint: .*k_proj"


@pytest.mark.parametrize("damage", [drop_key, extra_key, wrong_shape, other_method])
def test_unfit_checkpoints_are_refused(damage):
    content = checkpoint("pretraining_local_decoder")
    message = damage(content["model"])
    with pytest.raises(ConversionError, match=message):
        SCRIPT.convert(content, settings("pretraining_local_decoder"))


def test_overlapping_patches_are_refused():
    with pytest.raises(ConversionError, match="use_custom_patch"):
        SCRIPT.convert(checkpoint("encoder"), settings("encoder") | {"use_custom_patch": True})
