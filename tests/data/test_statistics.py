# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
import datasets
import numpy as np
import pytest
import torch

from hf_audio_ssl.data.corpus import Corpus, open_corpus
from hf_audio_ssl.data.statistics import corpus_statistics
from hf_audio_ssl.feature_extraction_base import MelFeatureExtractor

RATE = 16000


def noise(seconds, seed, rate=RATE):
    wave = 0.1 * np.random.default_rng(seed).standard_normal(int(seconds * rate))
    return {"array": wave.astype(np.float32), "sampling_rate": rate}


def test_equals_the_moments_of_all_frames():
    extractor = MelFeatureExtractor(num_mel_bins=32, mean=-3.0, std=2.0)
    sources = [noise(0.3 + 0.1 * seed, seed) for seed in range(7)]
    result = corpus_statistics(Corpus(sources), extractor, batch_size=3)
    frames = torch.cat([extractor.log_mel([torch.from_numpy(source["array"])])[0][0] for source in sources]).double()
    assert result["mean"] == pytest.approx(frames.mean().item(), abs=1e-6)
    assert result["std"] == pytest.approx(frames.std(unbiased=False).item(), abs=1e-6)
    assert (result["clips"], result["frames"], result["skipped"]) == (7, len(frames), 0)
    assert result["seconds"] == pytest.approx(0.3 * 7 + 0.1 * 21)


def test_normalised_features_have_zero_mean_and_half_deviation():
    corpus = open_corpus("synthetic", num_clips=36)
    found = corpus_statistics(corpus, MelFeatureExtractor())
    extractor = MelFeatureExtractor(mean=found["mean"], std=found["std"])
    waves = [item["audio"]["array"] for item in corpus]
    features = extractor(waves, sampling_rate=RATE, padding="longest")["input_values"]
    assert features.mean().item() == pytest.approx(0, abs=1e-3)
    assert features.std().item() == pytest.approx(0.5, abs=1e-3)


def test_draws_clips_and_skips_damaged_and_short_ones(tmp_path):
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"no audio")
    sources = [noise(0.2, 0), str(broken), noise(0.001, 1), noise(0.4, 2, rate=8000)]
    seen = []
    result = corpus_statistics(Corpus(sources), MelFeatureExtractor(), progress=seen.append)
    assert (result["clips"], result["skipped"]) == (2, 2) and seen[-1] == 2
    assert result["seconds"] == pytest.approx(0.6)
    many = Corpus([noise(0.2, seed) for seed in range(20)])
    some = [corpus_statistics(many, MelFeatureExtractor(), max_clips=5, seed=seed) for seed in (0, 0, 1)]
    assert some[0]["clips"] == 5 and some[0] == some[1] != some[2]
    with pytest.raises(ValueError, match="1 were skipped"):
        corpus_statistics(Corpus([str(broken)]), MelFeatureExtractor())


def test_long_files_are_taken_in_pieces(monkeypatch):
    corpus = Corpus([noise(3.0, 0)])
    whole = corpus_statistics(corpus, MelFeatureExtractor())
    monkeypatch.setattr("hf_audio_ssl.data.statistics._PIECE_SECONDS", 1.0)
    pieces = corpus_statistics(corpus, MelFeatureExtractor())
    assert pieces["clips"] == 1 and pieces["seconds"] == pytest.approx(3.0) and pieces["frames"] < whole["frames"]
    assert pieces["mean"] == pytest.approx(whole["mean"], abs=0.02)


def test_streams(tmp_path):
    folder = tmp_path / "corpus"
    from hf_audio_ssl.data.synthetic import write_corpus

    write_corpus(folder, num_clips=6, seconds=0.5)
    files = [{"bytes": path.read_bytes(), "path": None} for path in sorted(folder.glob("*.wav"))]
    features = {"audio": {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}}
    dataset = datasets.Dataset.from_dict({"audio": files}, features=datasets.Features(features))
    dataset = dataset.cast_column("audio", datasets.Audio())
    extractor = MelFeatureExtractor()
    assert corpus_statistics(open_corpus(dataset, streaming=True), extractor) == corpus_statistics(
        open_corpus(folder), extractor
    )
    assert corpus_statistics(open_corpus(dataset, streaming=True), extractor, max_clips=2)["clips"] == 2
