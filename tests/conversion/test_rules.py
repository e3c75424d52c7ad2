# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
import pytest
import torch
from torch import nn

from hf_audio_ssl.conversion import (
    ConversionError,
    convert_state_dict,
    drop,
    flatten_state,
    load_converted,
    original_tensor,
    rename,
    split,
)

RULES = [
    rename(r"blocks\.(\d+)\.norm\.(weight|bias)", r"layers.\1.norm.\2"),
    split(r"blocks\.(\d+)\.qkv", *(rf"layers.\1.{part}" for part in "qkv")),
    split(r"columns", "left", "right", dim=1),
    drop(r"head\..*", "no head in this model"),
]


def test_rules_rename_split_and_drop():
    qkv = torch.arange(12.0).view(6, 2)
    state = {"blocks.3.norm.weight": torch.ones(2), "blocks.0.qkv": qkv, "columns": qkv, "head.bias": torch.ones(1)}
    converted, dropped = convert_state_dict(state, RULES)
    assert dropped == {"head.bias": "no head in this model"}
    assert converted.keys() == {"layers.3.norm.weight", "layers.0.q", "layers.0.k", "layers.0.v", "left", "right"}
    assert torch.equal(converted["layers.0.k"], qkv[2:4]) and torch.equal(converted["right"], qkv[:, 1:])
    # nothing shares memory with the original
    converted["layers.0.q"].fill_(-1)
    assert qkv[0, 0] == 0


def test_original_tensor_puts_the_parts_together_again():
    state = {"blocks.0.qkv": torch.randn(6, 2), "columns": torch.randn(3, 4), "blocks.1.norm.bias": torch.randn(2)}
    converted, _ = convert_state_dict(state, RULES)
    for key, value in state.items():
        assert torch.equal(original_tensor(key, RULES, converted.__getitem__), value)
    with pytest.raises(ConversionError, match="'other' is not one of this method's"):
        original_tensor("other", RULES, converted.__getitem__)


def test_nested_state_becomes_flat():
    one, two = torch.ones(1), torch.ones(2)
    assert flatten_state({"a.b": one, "_ema": {"a.b": two, "c": {"d": one}}}) == {
        "a.b": one,
        "_ema.a.b": two,
        "_ema.c.d": one,
    }


def test_every_left_over_key_is_listed():
    state = {"blocks.0.qkv": torch.ones(6), "blocks.0.qkv.extra": torch.ones(1), "xblocks.0.qkv": torch.ones(6)}
    with pytest.raises(ConversionError) as error:
        convert_state_dict(state, RULES)
    assert "left over: blocks.0.qkv.extra" in str(error.value) and "left over: xblocks.0.qkv" in str(error.value)


def test_two_keys_for_one_name_are_an_error():
    rules = [rename("a|b", "c")]
    with pytest.raises(ConversionError, match="claimed twice: c"):
        convert_state_dict({"a": torch.ones(1), "b": torch.ones(1)}, rules)


def test_load_converted_is_all_or_nothing():
    model = nn.Linear(2, 3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ConversionError) as error:
        load_converted(model, {"weight": torch.zeros(3, 3), "more": torch.zeros(1)})
    text = str(error.value)
    assert "missing: bias" in text and "left over: more" in text
    assert "shape of weight: got (3, 3), expected (3, 2)" in text
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    load_converted(model, {"weight": torch.zeros(3, 2), "bias": torch.ones(3)})
    assert model.bias.tolist() == [1, 1, 1]
