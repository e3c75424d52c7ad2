# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
from hf_audio_ssl.feature_extraction_base import MelFeatureExtractor


class AudioMaeFeatureExtractor(MelFeatureExtractor):
    """Log-mel spectrograms as Audio-MAE was trained on: 128 bins, clip mean removed, padded, then normalised.

    The defaults are AudioSet's: 10 s (1024 frames), mean -4.268, std 4.569. ESC-50: 512, -6.627, 5.359. Speech
    Commands: 128, -6.846, 5.565. The originals attend to padded frames; ask for `return_attention_mask=True` to
    leave them out.
    """

    def __init__(self, **options):
        super().__init__(
            **{"mean": -4.2677393, "std": 4.5689974, "remove_clip_mean": True, "min_frames": 16, **options}
        )
