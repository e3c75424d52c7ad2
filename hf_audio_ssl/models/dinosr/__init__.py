# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
from hf_audio_ssl.registry import Checkpoint, MethodSpec, lazy_module

SPEC = MethodSpec(
    name="dinosr",
    prefix="DinoSr",
    heads=("PreTraining", "AudioClassification", "AudioFrameClassification", "CTC"),
    title="DinoSR: Self-Distillation and Online Clustering for Self-supervised Speech Representation Learning",
    arxiv="2305.10005",
    year=2023,
    repository="https://github.com/Alexander-H-Liu/dinosr",
    license="none stated",
    family="waveform transformer",
    taxonomy="predictive",
    input="waveform",
    sampling_rate=16000,
    checkpoints=(
        Checkpoint(
            "DinoSR base",
            "data.csail.mit.edu/placesaudio/dinosr/dinosr.ckpt",
            "LibriSpeech 960 h",
            "none stated",
            "fairseq layout, pre-trained",
        ),
    ),
    parity="verified",
)

__getattr__, __dir__ = lazy_module(SPEC)
