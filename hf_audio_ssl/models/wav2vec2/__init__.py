# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
from hf_audio_ssl.registry import Checkpoint, MethodSpec, lazy_module

_FAIRSEQ = "fairseq, wav2vec/"

SPEC = MethodSpec(
    name="wav2vec2",
    model_type="wav2vec2",
    title="wav2vec 2.0: A Framework for Self-Supervised Learning of Speech Representations",
    arxiv="2006.11477",
    year=2020,
    repository="https://github.com/facebookresearch/fairseq",
    license="MIT",
    family="waveform transformer",
    taxonomy="contrastive",
    input="waveform",
    sampling_rate=16000,
    classes={
        "AutoConfig": "Wav2Vec2Config",
        "AutoModel": "Wav2Vec2Model",
        "AutoModelForPreTraining": "Wav2Vec2ForPreTraining",
        # transformers' own
        "AutoModelForAudioClassification": "Wav2Vec2ForSequenceClassification",
        "AutoModelForCTC": "Wav2Vec2ForCTC",
        "AutoFeatureExtractor": "Wav2Vec2FeatureExtractor",
    },
    modules={
        "configuration_wav2vec2": ("Wav2Vec2Config",),
        "modeling_wav2vec2": ("Wav2Vec2Model", "Wav2Vec2ForPreTraining"),
        "feature_extraction_wav2vec2": ("Wav2Vec2FeatureExtractor",),
    },
    checkpoints=(
        Checkpoint("base", _FAIRSEQ + "wav2vec_small.pt", "LibriSpeech", "MIT"),
        Checkpoint("large", _FAIRSEQ + "libri960_big.pt", "LibriSpeech", "MIT"),
        Checkpoint("large LV-60", _FAIRSEQ + "wav2vec_vox_new.pt", "Libri-Light", "MIT"),
        Checkpoint("base, CTC 960 h", _FAIRSEQ + "wav2vec_small_960h.pt", "LibriSpeech", "MIT", "CTC"),
        Checkpoint("large LV-60, CTC 960 h", _FAIRSEQ + "wav2vec_vox_960h_new.pt", "Libri-Light", "MIT", "CTC"),
        Checkpoint(
            "Robust wav2vec 2.0",
            _FAIRSEQ + "w2v_large_lv_fsh_swbd_cv.pt",
            "Libri-Light, Fisher, Switchboard, CommonVoice",
            "MIT",
            "four domains, arXiv 2104.01027",
        ),
        Checkpoint(
            "XLSR-53",
            _FAIRSEQ + "xlsr_53_56k.pt",
            "MLS, CommonVoice, BABEL",
            "MIT",
            "53 languages, 56,000 h, arXiv 2006.13979",
        ),
        Checkpoint(
            "XLS-R 0.3B",
            _FAIRSEQ + "xlsr2_300m.pt",
            "VoxPopuli, MLS, CommonVoice, BABEL, VoxLingua107",
            "MIT",
            "128 languages, 436,000 h, arXiv 2111.09296",
        ),
        Checkpoint(
            "CLSRIL-23",
            "Vakyansh (Ekstep), fairseq layout",
            "Indic speech",
            "see the authors",
            "23 languages, about 10,000 h, arXiv 2107.07402",
        ),
    ),
    parity="verified",
)

__getattr__, __dir__ = lazy_module(SPEC)
