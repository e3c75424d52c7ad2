# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Audio self-supervised learning as first-class `transformers` models. Importing the package registers all methods."""

import importlib

from hf_audio_ssl.auto import guard_torchaudio, register_all
from hf_audio_ssl.registry import methods

__version__ = "0.1.0.dev0"

guard_torchaudio()
register_all()

_HOME = {name: spec.package for spec in methods().values() for name in spec.public_names}


def __getattr__(name):
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'hf_audio_ssl' has no attribute {name!r}")


def __dir__():
    return ["methods", "__version__", *_HOME]
