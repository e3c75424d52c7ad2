# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
from hf_audio_ssl.registry import Checkpoint, MethodSpec, lazy_module

SPEC = MethodSpec(
    name="audiomae",
    model_type="ssl_audiomae",
    title="Masked Autoencoders that Listen",
    arxiv="2207.06405",
    year=2022,
    repository="https://github.com/facebookresearch/AudioMAE",
    license="CC-BY-NC-4.0",
    family="spectrogram transformer",
    taxonomy="generative",
    input="spectrogram",
    sampling_rate=16000,
    classes={
        "AutoConfig": "AudioMaeConfig",
        "AutoModel": "AudioMaeModel",
        "AutoModelForPreTraining": "AudioMaeForPreTraining",
        "AutoModelForAudioClassification": "AudioMaeForAudioClassification",
        "AutoModelForAudioFrameClassification": "AudioMaeForAudioFrameClassification",
        "AutoFeatureExtractor": "AudioMaeFeatureExtractor",
    },
    modules={
        "configuration_audiomae": ("AudioMaeConfig",),
        "modeling_audiomae": (
            "AudioMaeModel",
            "AudioMaeForPreTraining",
            "AudioMaeForAudioClassification",
            "AudioMaeForAudioFrameClassification",
        ),
        "feature_extraction_audiomae": ("AudioMaeFeatureExtractor",),
    },
    checkpoints=(
        Checkpoint("Audio-MAE ViT-B", "authors' drive, pretrained.pth", "AS-2M", "CC-BY-NC-4.0", "local decoder"),
        Checkpoint("Audio-MAE ViT-B, fine-tuned", "authors' drive, finetuned.pth", "AS-2M", "CC-BY-NC-4.0"),
    ),
    parity="verified",
    notes="Masked autoencoder: a fifth of the patches is encoded, a decoder of local windows reconstructs the rest.",
)

__getattr__, __dir__ = lazy_module(SPEC)
