# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Files that torch can read, but that hold no model."""

from pathlib import Path

import pytest
import torch

from hf_audio_ssl.conversion import ConversionError, InertRecord, original_state
from hf_audio_ssl.testing.parity import load_script

SCRIPTS = sorted((Path(__file__).parents[2] / "conversion_scripts").glob("convert_*.py"))
MALFORMED = {
    "nothing": {"model": None},
    "a list": {"model": [1]},
    "a tensor": {"model": torch.zeros(2)},
    "a whole module": {"model": InertRecord()},
    "an empty file": {},
    "numbers for names": {"model": {0: torch.zeros(2), "a": torch.zeros(2)}},
    "numbers for tensors": {"model": {"a": 1.0, "b": {"c": [2]}}},
    "numbers at the top": {1: None},
}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
@pytest.mark.parametrize("name", list(MALFORMED))
def test_converters_refuse_it(script, name):
    module = load_script(script)
    for function in (module.convert, module.feature_extractor):
        with pytest.raises(ConversionError):
            function(MALFORMED[name])


def test_what_came_is_said():
    with pytest.raises(ConversionError, match=r"holds \[1\] for a model, expected a dictionary of tensors"):
        original_state(MALFORMED["a list"])
    with pytest.raises(ConversionError, match=r"2 entries that are no tensors, expected none: a: 1.0, b.c: \[2\]"):
        original_state(MALFORMED["numbers for tensors"])
    assert list(original_state(MALFORMED["numbers for names"])) == ["0", "a"]
