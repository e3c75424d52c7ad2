# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
from hf_audio_ssl.feature_extraction_base import WaveformFeatureExtractor


class DinoSrFeatureExtractor(WaveformFeatureExtractor):
    """Waveforms as DinoSR was trained on: 16 kHz, each clip with mean 0 and variance 1 before it is padded.

    `min_length` must be the receptive field of the model's convolutions: 400 samples by default.
    """
