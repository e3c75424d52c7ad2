# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
from hf_audio_ssl.feature_extraction_base import MelFeatureExtractor


class BeatsFeatureExtractor(MelFeatureExtractor):
    """Kaldi log-mel spectrograms as BEATs was trained on: samples in 16-bit scale, povey window, AudioSet's mean.

    The original neither pads nor cuts. Here clips are padded to `max_length` (ten seconds) unless told otherwise, and
    the attention mask, which comes by default, leaves the padding out.
    """

    def __init__(
        self,
        max_length: int = 1024,
        mean: float = 15.41663,
        std: float = 6.55582,
        window_type: str = "povey",
        waveform_scale: float = 2.0**15,
        min_frames: int = 16,
        return_attention_mask: bool = True,
        **kwargs,
    ):
        super().__init__(
            max_length=max_length,
            mean=mean,
            std=std,
            window_type=window_type,
            waveform_scale=waveform_scale,
            min_frames=min_frames,
            return_attention_mask=return_attention_mask,
            **kwargs,
        )


__all__ = ["BeatsFeatureExtractor"]
