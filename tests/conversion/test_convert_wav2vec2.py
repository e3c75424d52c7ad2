# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Checkpoints in the authors' layouts; their numbers are compared in tests/parity."""

import json
import pickle
from argparse import Namespace
from pathlib import Path

import pytest
import torch
import transformers

from hf_audio_ssl import Wav2Vec2Config, Wav2Vec2ForPreTraining, Wav2Vec2Model
from hf_audio_ssl.conversion import ConversionError, read_checkpoint, run_conversion
from hf_audio_ssl.testing.parity import load_script

ROOT = Path(__file__).parents[2]
SCRIPT = load_script(ROOT / "conversion_scripts/convert_wav2vec2.py")
CASES = ROOT / "tests/parity/cases/wav2vec2"


def checkpoint(case):
    return read_checkpoint(CASES / case / "checkpoint.pt")


def test_settings_come_from_a_namespace():
    """The layout of 2020: everything flat in `args`, which is never unpickled as what it says it is."""
    model = SCRIPT.convert(checkpoint("base_pretraining"))
    assert type(model) is Wav2Vec2ForPreTraining
    config = model.config
    assert (config.feat_extract_norm, config.do_stable_layer_norm, config.conv_bias) == ("group", False, False)
    assert (config.feature_grad_mult, config.feature_penalty_weight, config.diversity_loss_weight) == (0.1, 10.0, 0.1)
    assert (config.layerdrop, config.feat_quantizer_dropout, config.activation_dropout) == (0.05, 0.1, 0.0)
    assert (config.num_conv_pos_embeddings, config.num_conv_pos_embedding_groups) == (128, 16)
    assert config.conv_stride == [5, 2, 2, 2, 2, 2, 2]
    # 400,000 updates: the temperature has long reached its end
    assert model.gumbel_temperature == 0.5 and model.conversion_report == {}
    extractor = SCRIPT.feature_extractor(checkpoint("base_pretraining"))
    assert not extractor.do_normalize and not extractor.return_attention_mask and extractor.eps == 1e-5


def test_settings_come_from_a_tree():
    model = SCRIPT.convert(checkpoint("large_pretraining"))
    config = model.config
    assert (config.feat_extract_norm, config.do_stable_layer_norm, config.conv_bias) == ("layer", True, True)
    assert (config.feature_grad_mult, config.feature_penalty_weight) == (1.0, 0.0)
    assert config.gumbel_temperature_end == 0.1 and model.gumbel_temperature.item() == pytest.approx(0.1)
    extractor = SCRIPT.feature_extractor(checkpoint("large_pretraining"))
    assert extractor.do_normalize and extractor.return_attention_mask


@pytest.mark.parametrize("case", ["base_pretraining", "large_pretraining"])
def test_the_folder_opens_in_plain_transformers_with_the_same_numbers(case, tmp_path):
    folder = run_conversion(
        SCRIPT.convert, CASES / case / "checkpoint.pt", tmp_path / "out", feature_extractor=SCRIPT.feature_extractor
    )
    ours = Wav2Vec2Model.from_pretrained(folder).eval()
    theirs = transformers.AutoModel.from_pretrained(folder).eval()
    assert type(theirs).__module__.startswith("transformers.")
    values = torch.randn(2, 4000)
    with torch.no_grad():
        assert torch.equal(ours(values).last_hidden_state, theirs(values).last_hidden_state)
    head = transformers.AutoModelForPreTraining.from_pretrained(folder)
    assert torch.equal(
        head.quantizer.codevectors, Wav2Vec2ForPreTraining.from_pretrained(folder).quantizer.codevectors
    )
    assert json.loads((folder / "conversion.json").read_text())["class"] == "Wav2Vec2ForPreTraining"


def test_a_recogniser_is_transformers_own_and_writes_letters(tmp_path):
    folder = run_conversion(
        SCRIPT.convert, CASES / "ctc/checkpoint.pt", tmp_path / "out", feature_extractor=SCRIPT.feature_extractor
    )
    model = transformers.AutoModelForCTC.from_pretrained(folder)
    assert type(model) is transformers.Wav2Vec2ForCTC and model.config.ctc_zero_infinity
    assert (model.config.mask_time_prob, model.config.mask_feature_prob, model.config.layerdrop) == (0.5, 0.1, 0.1)
    processor = transformers.AutoProcessor.from_pretrained(folder)
    ids = processor.tokenizer.convert_tokens_to_ids([*"HELLO"])
    blank, space = processor.tokenizer.pad_token_id, processor.tokenizer.convert_tokens_to_ids("|")
    assert (blank, space) == (model.config.pad_token_id, 4) == (0, 4)
    heard = [ids[0], ids[0], ids[1], ids[2], blank, ids[3], ids[4], space, space, ids[0]]
    assert processor.tokenizer.decode(heard) == "HELLO H"
    recognise = transformers.pipeline("automatic-speech-recognition", model=str(folder), device="cpu")
    assert isinstance(recognise(torch.randn(8000).numpy())["text"], str)


def test_old_recognisers_keep_their_settings_in_nested_namespaces():
    content = checkpoint("ctc")
    cfg = content["cfg"]
    inner = cfg["model"].pop("w2v_args")["model"]
    flat = cfg["task"] | cfg["criterion"] | cfg["model"] | {"w2v_args": _record(inner)}
    again = SCRIPT.convert(content | {"args": _record(flat), "cfg": None})
    expected = SCRIPT.convert(checkpoint("ctc"))
    assert again.config.to_dict() == expected.config.to_dict()
    for name, value in expected.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def _record(state):
    from hf_audio_ssl.conversion import InertRecord

    record = type("argparse.Namespace", (InertRecord,), {})()
    record.__setstate__(state)
    return record


def test_without_settings_the_sizes_still_come_from_the_tensors():
    content = {"model": checkpoint("large_encoder")["model"]}
    model = SCRIPT.convert(content, {"encoder_attention_heads": 4, "conv_feature_layers": None})
    assert (model.config.hidden_size, model.config.num_hidden_layers) == (32, 3)
    assert model.config.conv_kernel == [10, 3, 3, 3, 3, 2, 2] and model.config.do_stable_layer_norm
    assert SCRIPT.feature_extractor(content).do_normalize


def test_an_encoder_without_the_head_and_equal_widths():
    content = checkpoint("base_encoder")
    state = {
        key: value
        for key, value in content["model"].items()
        if not key.startswith(("quantizer", "project_q", "final_proj", "post_extract_proj"))
    }
    width = state["layer_norm.weight"].shape[0]
    with pytest.raises(ConversionError, match="missing: feature_projection.projection"):
        SCRIPT.convert(content | {"model": state})
    # as if the convolutions were as wide as the transformer: then the original has no projection
    wide = {
        key: torch.zeros(32, *value.shape[1:]) if key.startswith("feature_extractor.conv_layers.6") else value
        for key, value in state.items()
    }
    wide |= {name: torch.ones(32) for name in ("layer_norm.weight", "layer_norm.bias")}
    model = SCRIPT.convert(content | {"model": wide})
    assert type(model) is Wav2Vec2Model and width == 24
    assert torch.equal(model.feature_projection.projection.weight, torch.eye(32))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda state: state.pop("encoder.layers.1.fc1.weight"), "missing: .*encoder.layers.1.feed_forward"),
        (lambda state: state.update({"adapter.weight": torch.ones(1)}), "left over: adapter.weight"),
        (lambda state: state.update({"final_proj.bias": torch.ones(3)}), "shape of project_hid.bias"),
        (lambda state: state.pop("feature_extractor.conv_layers.0.0.weight"), "no wav2vec 2.0 checkpoint"),
        (lambda state: state.pop("encoder.pos_conv.0.weight_v"), "pos_conv.0.weight_v is missing"),
    ],
)
def test_what_does_not_fit_is_an_error(change, message):
    content = checkpoint("base_encoder")
    change(content["model"])
    with pytest.raises(ConversionError, match=message):
        SCRIPT.convert(content)


def test_settings_that_are_not_followed_are_reported():
    model = SCRIPT.convert(checkpoint("base_encoder"), {"cross_sample_negatives": 10, "encoder_attention_heads": 4})
    assert list(model.conversion_report) == ["settings: cross_sample_negatives"]
    with pytest.raises(ConversionError, match="activation_fn='tanh'"):
        SCRIPT.convert(checkpoint("base_encoder"), {"activation_fn": "tanh"})


def test_strides_are_read_without_evaluating_anything():
    assert SCRIPT.strides("[(512, 10, 5)] + [(512,3,2)] * 4 + [(512,2,2)] + [(512,2,2)]", 7) == [5, 2, 2, 2, 2, 2, 2]
    assert SCRIPT.strides("[(512, 10, 5), (512, 8, 4)] + [(512, 4, 2)] * 3", 5) == [5, 4, 2, 2, 2]
    for text, layers in (("[(512, 10, 5)]", 2), ("__import__('os')", 1), (None, 5)):
        with pytest.raises(ConversionError, match="conv_feature_layers"):
            SCRIPT.strides(text, layers)


def test_symbols_of_another_alphabet(tmp_path):
    content = checkpoint("ctc")
    symbols = ["<s>", "<pad>", "</s>", "<unk>", "|", *(chr(0x905 + i) for i in range(27))]
    recogniser = SCRIPT.feature_extractor(content, {"dictionary": symbols})
    recogniser.save_pretrained(tmp_path)
    vocabulary = json.loads((tmp_path / "vocab.json").read_text())
    assert vocabulary["<pad>"] == 0 and vocabulary["<s>"] == 1 and vocabulary[chr(0x905)] == 5
    with pytest.raises(ConversionError, match="dictionary: 5 symbols, but the file has 32 outputs"):
        SCRIPT.feature_extractor(content, {"dictionary": symbols[:5]})


def test_a_real_namespace_in_a_pickle_stays_inert(tmp_path):
    state = checkpoint("base_encoder")["model"]
    settings = Namespace(encoder_attention_heads=4, layer_norm_first=False, normalize=True)
    torch.save({"args": settings, "model": state}, tmp_path / "old.pt")
    content = read_checkpoint(tmp_path / "old.pt")
    assert not isinstance(content["args"], Namespace)
    assert SCRIPT.convert(content).config.num_attention_heads == 4
    assert SCRIPT.feature_extractor(content).do_normalize
    assert pickle.loads(pickle.dumps(settings)) == settings
    assert isinstance(SCRIPT.convert(content).config, Wav2Vec2Config)
