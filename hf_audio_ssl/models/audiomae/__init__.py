# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
from hf_audio_ssl.registry import Checkpoint, MethodSpec, lazy_module

SPEC = MethodSpec(
    name="audiomae",
    prefix="AudioMae",
    title="Masked Autoencoders that Listen",
    arxiv="2207.06405",
    year=2022,
    repository="https://github.com/facebookresearch/AudioMAE",
    license="CC-BY-NC-4.0",
    family="spectrogram transformer",
    taxonomy="generative",
    input="spectrogram",
    sampling_rate=16000,
    checkpoints=(
        Checkpoint("Audio-MAE ViT-B", "authors' drive, pretrained.pth", "AS-2M", "CC-BY-NC-4.0", "local decoder"),
        Checkpoint("Audio-MAE ViT-B, fine-tuned", "authors' drive, finetuned.pth", "AS-2M", "CC-BY-NC-4.0"),
    ),
    parity="verified",
)

__getattr__, __dir__ = lazy_module(SPEC)
