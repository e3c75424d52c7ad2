# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Training: `pretrain` (Accelerate) and what it takes; fine-tuning (`transformers.Trainer`) is in `finetuning`."""

import importlib

_HOME = {
    "AfterOptimizerStep": "callbacks",
    "CheckpointError": "checkpoint",
    "NonFiniteLossError": "loop",
    "PretrainingArguments": "arguments",
    "PretrainingResult": "loop",
    "Recipe": "arguments",
    "load_recipe": "arguments",
    "make_arguments": "arguments",
    "open_clips": "run",
    "plot_history": "plots",
    "pretrain": "loop",
    "run_pretraining": "run",
}
__all__ = list(_HOME)


def __getattr__(name):
    # lazy: a Trainer user needs neither Accelerate's trackers nor the data sets
    if name in _HOME:
        return getattr(importlib.import_module(f"hf_audio_ssl.training.{_HOME[name]}"), name)
    raise AttributeError(f"module 'hf_audio_ssl.training' has no attribute {name!r}")


def __dir__():
    return __all__
