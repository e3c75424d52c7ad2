# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
from hf_audio_ssl.feature_extraction_base import MelFeatureExtractor


class SsambaFeatureExtractor(MelFeatureExtractor):
    """Log-mel spectrograms as SSAMBA was trained on: 128 bins, clip mean removed, padded, then normalised.

    The defaults are those of AudioSet with LibriSpeech: 1024 frames (10 s), mean -4.268, std 4.569. ESC-50: 512,
    -6.627, 5.358. Speech Commands: 128, -6.846, 5.565. UrbanSound8K: 6144, -5.138, 4.230. The originals run over
    padded frames; ask for `return_attention_mask=True` to skip them.
    """

    def __init__(self, **options):
        own = {"mean": -4.2677393, "std": 4.5689974, "remove_clip_mean": True, "min_frames": 16}
        super().__init__(**{**own, **options})
