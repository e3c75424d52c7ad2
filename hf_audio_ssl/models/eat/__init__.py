# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
from hf_audio_ssl.registry import Checkpoint, MethodSpec, lazy_module

SPEC = MethodSpec(
    name="eat",
    prefix="Eat",
    title="EAT: Self-Supervised Pre-Training with Efficient Audio Transformer",
    arxiv="2401.03497",
    year=2024,
    repository="https://github.com/cwx-worst-one/EAT",
    license="MIT",
    family="spectrogram transformer",
    taxonomy="predictive",
    input="spectrogram",
    sampling_rate=16000,
    checkpoints=(
        Checkpoint("EAT-base, 10 epochs", "authors' drive, fairseq layout", "AS-2M", "MIT"),
        Checkpoint("EAT-base, 30 epochs", "worstchan/EAT-base_epoch30_pretrain", "AS-2M", "MIT"),
        Checkpoint("EAT-base, 30 epochs, fine-tuned", "worstchan/EAT-base_epoch30_finetune_AS2M", "AS-2M", "MIT"),
        Checkpoint("EAT-large, 20 epochs", "worstchan/EAT-large_epoch20_pretrain", "AS-2M", "MIT"),
        Checkpoint("EAT-large, 20 epochs, fine-tuned", "worstchan/EAT-large_epoch20_finetune_AS2M", "AS-2M", "MIT"),
    ),
    parity="verified",
)

__getattr__, __dir__ = lazy_module(SPEC)
