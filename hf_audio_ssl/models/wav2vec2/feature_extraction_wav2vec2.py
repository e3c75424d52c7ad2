# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
from hf_audio_ssl.feature_extraction_base import WaveformFeatureExtractor


class Wav2Vec2FeatureExtractor(WaveformFeatureExtractor):
    """Waveforms as wav2vec 2.0 takes them, in batches, on any device.

    Reads and writes the files of transformers' class of the same name. That one adds 1e-7 to the variance, the
    original `eps=1e-5`: the same for speech at normal level, several times larger numbers for a nearly silent clip.
    The base model and large LS-960 take the samples as they are (`do_normalize=False`), without an attention mask.
    """
