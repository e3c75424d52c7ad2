# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""From a recipe and the name of a data set to a pre-trained model folder, for any method of the registry."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from hf_audio_ssl.data.corpus import StreamingCorpus, open_corpus
from hf_audio_ssl.data.dataset import ClipDataset, StreamingClipDataset, group_weights, seconds_to_crop
from hf_audio_ssl.registry import MethodSpec, get_method, load_class
from hf_audio_ssl.training.arguments import (
    DATA_KEYS,
    DATASET_KEYS,
    PROBE_KEYS,
    PretrainingArguments,
    Recipe,
    load_recipe,
    make_arguments,
    refuse_unknown,
)
from hf_audio_ssl.training.loop import PretrainingResult, pretrain


def run_pretraining(
    *,
    recipe: str | Path | None = None,
    method: str | None = None,
    dataset: Any = None,
    init_from: str | Path | None = None,
    model: dict[str, Any] | None = None,
    features: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
    probe: dict[str, Any] | Callable[[Any, int], dict[str, float]] | None = None,
    **training,
) -> PretrainingResult:
    """Pre-train a method on a data set. What is given here takes precedence over the recipe.

    Args:
        recipe: YAML file; see `load_recipe`.
        method: name in the registry, such as `"eat"`, where the recipe does not say it.
        dataset: a folder, the name of a Hub data set, or `"synthetic"`; see `open_corpus`.
        init_from: model folder or Hub id whose weights and feature extractor to start from, instead of random weights.
        model, features, data: overrides of the method's config, of its extractor, and of the data set's options.
        probe: labelled data to probe the encoder on every `probe_steps`: `{"dataset": ..., "label_pattern": ...}`
            with the options of `open_corpus` and `make_probe`; or a function, see `pretrain`.
        training: fields of `PretrainingArguments`.

    Raises `ValueError` naming the key for settings that the method, the data set or the arguments do not have, and
    what `pretrain` raises.
    """
    spec, plan = find_plan(recipe, method)
    args = make_arguments({**plan.training, **training})
    model, features = {**plan.model, **(model or {})}, {**plan.features, **(features or {})}
    config_class, model_class = (load_class(spec, name) for name in ("AutoConfig", "AutoModelForPreTraining"))
    refuse_unknown_fields(model, config_class)
    extractor = make_extractor(spec, features, init_from)
    if not callable(probe):
        probe = _make_probe({**plan.probe, **(probe or {})}, extractor)
    if bool(probe) != bool(args.probe_steps):
        given = "there is a probe" if probe else "no probe is given"
        raise ValueError(f"probe_steps={args.probe_steps}, but {given}: expected both or neither")
    if (args.mel_shift or args.spectral_tilt) and spec.input != "spectrogram":
        raise ValueError(
            f"mel_shift={args.mel_shift}, spectral_tilt={args.spectral_tilt}: {spec.name} takes waves, expected 0; "
            "data.speed_perturb and data.gain_db vary them"
        )
    clips = open_clips(dataset, {**plan.data, **(data or {})}, extractor, args)
    torch.manual_seed(args.seed)  # the first weights
    if init_from is None:
        own = model_class(config_class(**model))
    else:
        own = model_class.from_pretrained(init_from, **model)
    return pretrain(own, extractor, clips, args, probe=probe)


def find_plan(recipe: str | Path | None, method: str | None) -> tuple[MethodSpec, Recipe]:
    """The method that `method` or the recipe names, and the recipe, an empty one without a file.

    Raises `ValueError` if they name none, or two.
    """
    plan = load_recipe(recipe) if recipe else Recipe(None, {}, {}, {}, {})
    if method and plan.method and get_method(method) != get_method(plan.method):
        raise ValueError(f"method={method!r}, but recipe {str(recipe)!r} is for {plan.method!r}")
    if not (method or plan.method):
        raise ValueError("method: none given, and no recipe that names one")
    return get_method(method or plan.method), plan


def refuse_unknown_fields(model: dict[str, Any], config_class: type) -> None:
    """Raise a `ValueError` that lists what of `model` the config has no fields for."""
    known = [field.name for field in dataclasses.fields(config_class)]
    refuse_unknown(model, known, f"model ({config_class.__name__})")


def make_extractor(spec: MethodSpec, features: dict[str, Any], init_from: str | Path | None = None):
    """The feature extractor of a method, or of the folder `init_from`, with overrides."""
    extractor_class = load_class(spec, "AutoFeatureExtractor")
    refuse_unknown(features, list(extractor_class().to_dict()), f"features ({extractor_class.__name__})")
    return extractor_class.from_pretrained(init_from, **features) if init_from else extractor_class(**features)


def _make_probe(settings: dict, extractor) -> Callable[[Any, int], dict[str, float]] | None:
    """The periodic probe that a recipe describes, or None."""
    refuse_unknown(settings, PROBE_KEYS, "probe")
    if not settings:
        return None
    if "dataset" not in settings:
        raise ValueError(f"probe: got {', '.join(settings)}, expected a dataset too")
    from hf_audio_ssl.evaluation import make_probe

    options = {name: settings[name] for name in DATASET_KEYS["probe corpus"] if name in settings}
    how = {name: settings[name] for name in DATASET_KEYS["probe"] if name in settings}
    return make_probe(open_corpus(settings["dataset"], **options), extractor, **how)


def open_clips(dataset, data: dict, extractor, args: PretrainingArguments):
    """What `pretrain` trains on: the clips of a data set (see `open_corpus`), streamed or not.

    `data` holds the options of a recipe's `data:` block, `dataset` among them where the argument is None.
    """
    refuse_unknown(data, DATA_KEYS, "data")
    dataset = dataset or data.get("dataset")
    if not dataset:
        raise ValueError("dataset: none given, expected a folder, the name of a Hub data set, or 'synthetic'")
    corpus = open_corpus(dataset, **{name: data[name] for name in DATASET_KEYS["corpus"] if name in data})
    options = {name: data[name] for name in DATASET_KEYS["clips"] if name in data}
    # the extractor refuses clips that are too short: they are skipped like damaged ones
    options.setdefault("min_seconds", extractor.min_samples("max_length") / extractor.sampling_rate)
    options |= {"seed": args.seed, "skipped_path": Path(args.output_dir) / "skipped.jsonl"}
    seconds = seconds_to_crop(extractor, args.clip_seconds)
    sampling = {name: data[name] for name in DATASET_KEYS["sampling"] if data.get(name) is not None}
    if sampling and getattr(corpus, "groups", None) is None:
        raise ValueError(
            f"data.{', data.'.join(sampling)}: the corpus has no groups to draw by, expected group_column, "
            "group_folders, or a label_pattern with a `group`, and no stream"
        )
    if isinstance(corpus, StreamingCorpus):
        if options.pop("cache_audio", False):
            raise ValueError("data.cache_audio=True: a stream is not kept in memory")
        return StreamingClipDataset(corpus, extractor.sampling_rate, seconds, args.per_device_batch_size, **options)
    if sampling:
        exponent, factors = data.get("group_exponent", 1.0), data.get("group_factors")
        options["weights"] = group_weights(corpus.groups, exponent, factors)
    return ClipDataset(corpus, extractor.sampling_rate, seconds, **options)
