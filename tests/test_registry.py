# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
import re

import pytest
import torch
import transformers
from transformers import PreTrainedConfig, PreTrainedModel

import hf_audio_ssl
from hf_audio_ssl.auto import register, register_all
from hf_audio_ssl.registry import from_pretrained, get_method, load_class, methods

SPECS = list(methods().values())
EVERY = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)


@EVERY
def test_spec_is_complete(spec):
    # a native model of that name must not break our import one day, unless it is the one that we build on
    assert spec.native == hasattr(transformers, spec.classes["AutoConfig"])
    assert spec.model_type.startswith("ssl_") or spec.native
    assert re.fullmatch(r"\d{4}\.\d{4,5}", spec.arxiv) and spec.repository.startswith("https://")
    assert {"AutoConfig", "AutoModel", "AutoModelForPreTraining", "AutoFeatureExtractor"} <= spec.classes.keys()
    foreign = set(spec.classes.values()) - set(spec.public_names)
    assert not foreign if not spec.native else all(hasattr(transformers, name) for name in foreign)
    assert spec.title and spec.license and spec.taxonomy and spec.sampling_rate > 0
    for checkpoint in spec.checkpoints:
        assert checkpoint.name and checkpoint.source and checkpoint.dataset and checkpoint.license


@EVERY
def test_public_names_are_where_the_registry_says(spec):
    for name in spec.public_names:
        cls = getattr(hf_audio_ssl, name)
        assert cls.__name__ == name and cls.__module__.startswith(spec.package + ".") and name in dir(hf_audio_ssl)
    for auto_class in spec.classes:
        assert load_class(spec, auto_class).__name__ == spec.classes[auto_class]


@EVERY
def test_found_by_name_and_type(spec):
    assert load_class(spec, "AutoConfig").model_type == spec.model_type
    for key in (spec.name, spec.model_type):
        assert get_method(key) is spec


@EVERY
def test_auto_classes_know_the_method(spec):
    config_class = load_class(spec, "AutoConfig")
    found = type(transformers.AutoConfig.for_model(spec.model_type))
    assert found is config_class if not spec.native else issubclass(config_class, found)
    for auto_class, name in spec.classes.items():
        if auto_class == "AutoConfig":
            continue
        mapping = (
            transformers.FEATURE_EXTRACTOR_MAPPING
            if auto_class == "AutoFeatureExtractor"
            else getattr(transformers, auto_class)._model_mapping
        )
        found = mapping[config_class]
        found = found[0] if isinstance(found, tuple) else found
        assert found.__name__ == name and found.__module__.startswith("transformers." if spec.native else spec.package)
        assert config_class in mapping


@EVERY
def test_registering_twice_changes_nothing(spec):
    before = transformers.AutoModel._model_mapping[load_class(spec, "AutoConfig")]
    register(spec)
    register_all()
    assert transformers.AutoModel._model_mapping[load_class(spec, "AutoConfig")] is before


def test_a_later_registration_by_the_user_wins():
    """`Auto*.register`, as transformers documents it, works beside and over ours."""

    class MineConfig(PreTrainedConfig):
        model_type = "test_registry_mine"

    class Mine(PreTrainedModel):
        config_class = MineConfig

        def __init__(self, config):
            super().__init__(config)
            self.layer = torch.nn.Linear(2, 2)
            self.post_init()

    class BetterEat(hf_audio_ssl.EatModel):
        pass

    sizes = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, decoder_groups=4)
    config = hf_audio_ssl.EatConfig(**sizes, decoder_hidden_size=16, num_mel_bins=32, max_time_patches=4)
    transformers.AutoConfig.register("test_registry_mine", MineConfig)
    transformers.AutoModel.register(MineConfig, Mine)
    mapping = transformers.AutoModel._model_mapping
    try:
        assert type(transformers.AutoModel.from_config(MineConfig())) is Mine
        with pytest.raises(ValueError, match="already used"):
            transformers.AutoModel.register(hf_audio_ssl.EatConfig, BetterEat)
        transformers.AutoModel.register(hf_audio_ssl.EatConfig, BetterEat, exist_ok=True)
        assert type(transformers.AutoModel.from_config(config)) is BetterEat
        assert type(transformers.AutoModelForPreTraining.from_config(config)) is hf_audio_ssl.EatForPreTraining
    finally:
        mapping._extra_content.pop(hf_audio_ssl.EatConfig, None)
        mapping._extra_content.pop(MineConfig, None)
        transformers.models.auto.configuration_auto.CONFIG_MAPPING._extra_content.pop("test_registry_mine", None)
    assert type(transformers.AutoModel.from_config(config)) is hf_audio_ssl.EatModel


def test_unknown_names_are_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown method 'nonsense': expected one of .*eat"):
        get_method("nonsense")
    with pytest.raises(ValueError, match="has no class for AutoModelForCTC: it has AutoConfig"):
        load_class(get_method("eat"), "AutoModelForCTC")
    with pytest.raises(ImportError, match="cannot import name .Nonsense."):
        from hf_audio_ssl import Nonsense  # noqa: F401


def test_transformers_own_model_types_stay_transformers():
    """Whoever imports the package gets what transformers gives without it, for every class of wav2vec 2.0."""
    native = transformers.models.wav2vec2
    config = transformers.AutoConfig.for_model("wav2vec2")
    assert type(config) is native.Wav2Vec2Config is transformers.Wav2Vec2Config
    for auto_class, name in {
        "AutoModel": "Wav2Vec2Model",
        "AutoModelForPreTraining": "Wav2Vec2ForPreTraining",
        "AutoModelForCTC": "Wav2Vec2ForCTC",
        "AutoModelForAudioClassification": "Wav2Vec2ForSequenceClassification",
    }.items():
        assert getattr(transformers, auto_class)._model_mapping[type(config)] is getattr(native, name)


def test_from_pretrained_gives_our_class_for_a_native_model_type(tmp_path):
    sizes = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, conv_dim=(8,) * 7)
    sizes |= dict(num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2)
    theirs = transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(**sizes))
    theirs.save_pretrained(tmp_path)
    ours = from_pretrained("AutoModel", tmp_path)
    assert type(ours) is hf_audio_ssl.Wav2Vec2Model and isinstance(ours, transformers.Wav2Vec2Model)
    assert all(torch.equal(value, ours.state_dict()[name]) for name, value in theirs.state_dict().items())
    transformers.Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(tmp_path)
    extractor = from_pretrained("AutoFeatureExtractor", tmp_path)
    assert type(extractor) is hf_audio_ssl.Wav2Vec2FeatureExtractor and not extractor.do_normalize
    with pytest.raises(OSError):
        from_pretrained("AutoModel", tmp_path / "nowhere")
