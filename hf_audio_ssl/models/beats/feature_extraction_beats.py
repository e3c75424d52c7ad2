# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
from hf_audio_ssl.feature_extraction_base import MelFeatureExtractor


class BeatsFeatureExtractor(MelFeatureExtractor):
    """Kaldi log-mel spectrograms as BEATs was trained on: samples in 16-bit scale, povey window, AudioSet's mean.

    The original neither pads nor cuts. Here clips are padded to `max_length` (ten seconds) unless told otherwise, and
    the attention mask, which comes by default, leaves the padding out.
    """

    def __init__(self, **options):
        own = {"mean": 15.41663, "std": 6.55582, "window_type": "povey", "waveform_scale": 2.0**15, "min_frames": 16}
        own["return_attention_mask"] = True
        super().__init__(**{**own, **options})
