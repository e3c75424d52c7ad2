# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""One `MethodSpec` per method: the single source of every table, card, CLI list and parametrised test."""

import importlib
import pkgutil
from dataclasses import dataclass, field
from functools import cache
from typing import Literal


@dataclass(frozen=True)
class Checkpoint:
    """A set of weights that the authors released. `source` is the file or Hub repository it is found under."""

    name: str
    source: str
    dataset: str
    license: str
    note: str = ""


@dataclass(frozen=True)
class MethodSpec:
    """What the package knows about one method, exported as `SPEC` by `hf_audio_ssl.models.<name>`.

    Names follow from `name="eat"`, `prefix="Eat"` and `heads=("PreTraining", ...)`: `EatForPreTraining` in
    `modeling_eat`, registered with `AutoModelForPreTraining`, and so on. `more` are public classes of `modeling_eat`
    beside these. A method on transformers' own classes states `classes` and `modules` itself.
    """

    name: str
    title: str
    arxiv: str
    year: int
    repository: str
    license: str
    family: str
    taxonomy: Literal["generative", "contrastive", "predictive", "multimodal"]
    input: Literal["spectrogram", "waveform"]
    sampling_rate: int
    prefix: str = ""
    heads: tuple[str, ...] = ("PreTraining", "AudioClassification", "AudioFrameClassification")
    more: tuple[str, ...] = ()
    model_type: str = ""
    # Auto class -> class, e.g. {"AutoModel": "EatModel"}: one that `modules` names, or else one of transformers
    classes: dict[str, str] = field(default_factory=dict, hash=False)
    # module of the method's folder -> the public names it defines; keeps imports lazy
    modules: dict[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    checkpoints: tuple[Checkpoint, ...] = ()
    # "verified": every parity case passes; "in progress" otherwise
    parity: Literal["verified", "in progress"] = "in progress"

    def __post_init__(self):
        named = {f"AutoModelFor{head}": f"{self.prefix}For{head}" for head in self.heads}
        config, model, extractor = (self.prefix + part for part in ("Config", "Model", "FeatureExtractor"))
        derived = {
            "model_type": f"ssl_{self.name}",
            "classes": {"AutoConfig": config, "AutoModel": model, **named, "AutoFeatureExtractor": extractor},
            "modules": {
                f"configuration_{self.name}": (config,),
                f"modeling_{self.name}": (model, *named.values(), *self.more),
                f"feature_extraction_{self.name}": (extractor,),
            },
        }
        for name, value in derived.items():
            if not getattr(self, name):
                object.__setattr__(self, name, value)

    @property
    def package(self) -> str:
        return f"hf_audio_ssl.models.{self.name}"

    @property
    def native(self) -> bool:
        """Whether the model type is transformers' own. Then its Auto classes stay as they are: they open the method's
        folders, and `from_pretrained` below does so with our classes.
        """
        return not self.model_type.startswith("ssl_")

    @property
    def public_names(self) -> tuple[str, ...]:
        return tuple(name for names in self.modules.values() for name in names)


@cache
def methods() -> dict[str, MethodSpec]:
    """All methods by name. Found by scanning `hf_audio_ssl.models`, so that adding one edits no central file."""
    from hf_audio_ssl import models

    names = sorted(info.name for info in pkgutil.iter_modules(models.__path__) if info.ispkg)
    return {name: importlib.import_module(f"hf_audio_ssl.models.{name}").SPEC for name in names}


def get_method(name: str) -> MethodSpec:
    """The spec called `name` (folder name or `model_type`). Raises `ValueError` with the known names otherwise."""
    for spec in methods().values():
        if name in (spec.name, spec.model_type):
            return spec
    raise ValueError(f"unknown method {name!r}: expected one of {', '.join(methods())}")


def load_class(spec: MethodSpec, auto_class: str):
    """The class that `spec` registers with `auto_class`, e.g. `load_class(spec, "AutoModelForPreTraining")`."""
    if auto_class not in spec.classes:
        raise ValueError(f"{spec.name} has no class for {auto_class}: it has {', '.join(spec.classes)}")
    return getattr(importlib.import_module(spec.package), spec.classes[auto_class])


def from_pretrained(auto_class: str, path, **kwargs):
    """What `auto_class`, such as "AutoModel", loads from a folder or Hub id; for a method built on transformers' own
    model type with our class, which adds `encode` and the like.
    """
    import transformers

    try:
        config, _ = transformers.PreTrainedConfig.get_config_dict(path, revision=kwargs.get("revision"))
    except OSError:
        config = {}  # an extractor alone, or nothing at all: transformers will say so
    for spec in methods().values():
        if spec.native and spec.model_type == config.get("model_type"):
            return load_class(spec, auto_class).from_pretrained(path, **kwargs)
    return getattr(transformers, auto_class).from_pretrained(path, **kwargs)


def lazy_module(spec: MethodSpec):
    """`__getattr__` and `__dir__` for a method's `__init__.py`: submodules load when one of their names is used."""
    home = {name: module for module, names in spec.modules.items() for name in names}

    def __getattr__(name):
        if name in home:
            return getattr(importlib.import_module(f"{spec.package}.{home[name]}"), name)
        if name in spec.classes.values():
            return getattr(importlib.import_module("transformers"), name)
        raise AttributeError(f"module {spec.package!r} has no attribute {name!r}")

    def __dir__():
        return ["SPEC", *home]

    return __getattr__, __dir__
