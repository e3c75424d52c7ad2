# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""From the authors' checkpoints to `save_pretrained` folders: safe reading, renaming rules, reports."""

from hf_audio_ssl.conversion.reading import InertRecord, read_checkpoint
from hf_audio_ssl.conversion.rules import (
    ConversionError,
    Rule,
    convert_state_dict,
    drop,
    flatten_state,
    load_converted,
    original_state,
    original_tensor,
    rename,
    split,
)
from hf_audio_ssl.conversion.script import run_conversion

__all__ = [
    "ConversionError",
    "InertRecord",
    "Rule",
    "convert_state_dict",
    "drop",
    "flatten_state",
    "load_converted",
    "original_state",
    "original_tensor",
    "read_checkpoint",
    "rename",
    "run_conversion",
    "split",
]
