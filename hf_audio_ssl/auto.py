# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Registration of every method with transformers' Auto classes, without importing a single modeling file.

`AutoModel.register` wants the class object, and importing `PreTrainedModel` alone doubles the time of `import torch,
transformers`. transformers' own models are found by *name*: a table from model type to class name, and the module
`transformers.models.<model_type>`. We enter our names in the same tables and alias our (lazy) method packages under
that module name; from then on our classes load exactly as native ones do, when first used.
"""

import importlib
import sys
from functools import cache

import transformers.utils
from transformers.models.auto import configuration_auto, feature_extraction_auto, modeling_auto

from hf_audio_ssl.registry import MethodSpec, methods


def _mapping(auto_class: str):
    """The lazy table behind an Auto class."""
    if auto_class == "AutoFeatureExtractor":
        return feature_extraction_auto.FEATURE_EXTRACTOR_MAPPING
    return getattr(modeling_auto, auto_class)._model_mapping


def register(spec: MethodSpec) -> None:
    """Make `spec` known to AutoConfig and to every Auto class that it names. Idempotent.

    transformers' own model types are left alone: whoever imports this package gets no other class for them.
    """
    if spec.native:
        return
    config_name = spec.classes["AutoConfig"]
    sys.modules[f"transformers.models.{spec.model_type}"] = importlib.import_module(spec.package)
    configuration_auto.CONFIG_MAPPING_NAMES[spec.model_type] = config_name
    for auto_class, class_name in spec.classes.items():
        if auto_class == "AutoConfig":
            continue
        mapping = _mapping(auto_class)
        mapping._model_mapping[spec.model_type] = class_name
        # built once from the names known at import time, so later names must be added by hand
        mapping._reverse_config_mapping[config_name] = spec.model_type


def register_all() -> None:
    for spec in methods().values():
        register(spec)


@cache
def _torchaudio_loads() -> bool:
    try:
        importlib.import_module("torchaudio")
    except (ImportError, OSError, RuntimeError):
        return False
    return True


def guard_torchaudio() -> None:
    """Let transformers use torchaudio only where it loads.

    Beside a torch that it was not built for, `import torchaudio` raises OSError or RuntimeError. transformers asks
    only whether it is installed, and then cannot import a single feature extractor, pipeline or Trainer.
    """
    transformers.utils.is_torchaudio_available = _torchaudio_loads
    transformers.utils.import_utils.is_torchaudio_available = _torchaudio_loads
