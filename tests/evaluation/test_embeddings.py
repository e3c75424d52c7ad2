# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Embeddings of corpora, probes of models, and extraction, with a tiny EAT."""

import json

import numpy as np
import pytest
import soundfile
import torch

from hf_audio_ssl import EatConfig, EatFeatureExtractor, EatForPreTraining, EatModel
from hf_audio_ssl.data.corpus import Corpus, open_corpus
from hf_audio_ssl.evaluation import (
    cross_validate,
    embed_corpus,
    extract,
    format_rows,
    layerwise_probe,
    make_probe,
    mel_baseline,
    prototypical_probe,
    run_probe,
)

RATE = 16000
PATTERN = "(?P<label>low|high)_(?P<group>[a-z]+)_[0-9]+"


@pytest.fixture(scope="module")
def extractor():
    return EatFeatureExtractor(num_mel_bins=32, max_length=64, mean=-6.0, std=3.0)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    sizes = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, num_mel_bins=32)
    return EatModel(EatConfig(**sizes, max_time_patches=16)).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two pitches by three speakers, each at a level and length of their own; one clip is shorter than a patch."""
    path = tmp_path_factory.mktemp("audio")
    rng = np.random.default_rng(0)
    for speaker, level in (("ada", 0.05), ("bob", 0.2), ("cyd", 0.6)):
        for label, pitch in (("low", 300), ("high", 2400)):
            for number in range(4):
                length = 1600 if (speaker, label, number) == ("ada", "low", 0) else 4000 + 900 * number
                wave = level * np.sin(2 * np.pi * pitch * np.arange(length) / RATE) + 0.001 * rng.normal(size=length)
                soundfile.write(path / f"{label}_{speaker}_{number}.wav", wave, RATE, subtype="FLOAT")
    return path


@pytest.fixture(scope="module")
def corpus(folder):
    return open_corpus(folder, label_pattern=PATTERN)


def test_rows_stand_in_the_order_of_the_corpus(model, extractor, corpus):
    embeddings = embed_corpus(model, extractor, corpus, batch_size=2)
    assert embeddings.x.shape == (24, 32)
    assert embeddings.labels.tolist() == corpus.labels and embeddings.groups.tolist() == corpus.groups
    assert embeddings.label_names == ("high", "low")
    for i in (0, 7, 23):  # independent of the batches and of their sorting by length
        wave, _ = soundfile.read(corpus.sources[i], dtype="float32")
        wave = np.pad(wave, (0, max(0, 2800 - len(wave))))
        alone = model.encode(wave, RATE, feature_extractor=extractor)[0]
        np.testing.assert_allclose(embeddings.x[i], alone, atol=1e-5)


def test_unreadable_clips_are_left_out_and_not_replaced(model, extractor, corpus, tmp_path):
    (tmp_path / "broken.wav").write_bytes(b"not audio")
    sources = [*corpus.sources[:20], str(tmp_path / "broken.wav")]
    broken = Corpus(sources, corpus.labels[:21], corpus.label_names, corpus.groups[:21])
    with pytest.warns(UserWarning, match="broken.wav"):
        embeddings = embed_corpus(model, extractor, broken)
    assert len(embeddings.x) == len(embeddings.labels) == len(embeddings.groups) == 20


def test_multi_label_corpora_give_multi_hot_rows(model, extractor, corpus):
    several = Corpus(corpus.sources[:4], [[0], [1], [0, 1], []], ("a", "b"))
    embeddings = embed_corpus(model, extractor, several)
    assert embeddings.labels.tolist() == [[1, 0], [0, 1], [1, 1], [0, 0]] and embeddings.groups is None
    unlabelled = embed_corpus(model, extractor, Corpus(corpus.sources[:4]))
    with pytest.raises(ValueError, match="no labels"):
        cross_validate(unlabelled)


def test_mel_baseline_ignores_padding(extractor, corpus):
    embeddings = mel_baseline(corpus, extractor, "mean_std")
    assert embeddings.x.shape == (24, 64)
    wave, _ = soundfile.read(corpus.sources[5], dtype="float32")
    mel = extractor(wave, sampling_rate=RATE, padding=False)["input_values"][0]
    np.testing.assert_allclose(embeddings.x[5], torch.cat([mel.mean(0), mel.std(0, correction=0)]), atol=1e-4)
    with pytest.raises(ValueError, match="statistic.*median"):
        mel_baseline(corpus, extractor, "median")


def test_probe_of_a_saved_model_against_its_baselines(model, extractor, folder, tmp_path):
    model.save_pretrained(tmp_path)
    extractor.save_pretrained(tmp_path)
    rows = run_probe(str(tmp_path), str(folder), probes=("linear", "prototypical"), label_pattern=PATTERN)
    assert [row["features"] for row in rows[::2]] == ["mel mean", "mel mean + deviation", "untrained", "pre-trained"]
    assert all(set(row["per_group"]) == {"ada", "bob", "cyd"} for row in rows)
    assert rows[0]["accuracy"] == 1.0  # two pitches: the mel spectrum says it all
    table = format_rows(rows)
    assert "| pre-trained | linear |" in table and len(table.splitlines()) == 2 + len(rows)
    how = dict(probes=("prototypical",), baselines=False, label_pattern=PATTERN)
    assert run_probe(tmp_path, folder, **how) == [row for row in rows if row["features"] == "pre-trained"][1:]
    with pytest.raises(ValueError, match="svm"):
        run_probe(model, str(folder), probes=("svm",))


def test_every_layer_is_probed_in_one_pass(model, extractor, corpus):
    figures = layerwise_probe(model, extractor, corpus, probe=prototypical_probe)
    assert len(figures) == 3
    for layer in range(3):
        alone = embed_corpus(model, extractor, corpus, layers=layer)
        assert cross_validate(alone, prototypical_probe)["mean"] == pytest.approx(figures[layer])


def test_periodic_probe_leaves_a_training_model_as_it_was(extractor, corpus):
    sizes = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, num_mel_bins=32)
    decoder = dict(decoder_hidden_size=16, decoder_num_layers=1, decoder_groups=4, num_clones=2)
    model = EatForPreTraining(EatConfig(**sizes, **decoder)).train()
    before, state = {name: p.clone() for name, p in model.state_dict().items()}, torch.get_rng_state()
    figures = make_probe(corpus, extractor, probes=("linear", "knn"))(model, 10)
    assert set(figures) == {"linear_accuracy", "knn_accuracy"}
    assert model.training and torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[name], p) for name, p in model.state_dict().items())
    expected = cross_validate(embed_corpus(model, extractor, corpus))["mean"]["accuracy"]
    assert figures["linear_accuracy"] == expected


@pytest.mark.parametrize("ending", [".npz", ".safetensors", ".parquet"])
def test_extracted_frames_can_be_read_back(model, extractor, folder, corpus, tmp_path, ending):
    done = []
    output = tmp_path / f"frames{ending}"
    counts = extract(model, folder, output, feature_extractor=extractor, window=0.32, hop=0.16, batch_size=5,
                     progress=lambda clips, total: done.append((clips, total)))  # fmt: skip
    assert done[-1] == (24, 24) and counts["clips"] == 24 and counts["skipped"] == 0 and counts["dim"] == 32
    wave, _ = soundfile.read(corpus.sources[3], dtype="float32")
    expected = model.encode(wave, RATE, pool="frames", window=0.32, hop=0.16, feature_extractor=extractor)[0]
    if ending == ".parquet":
        import pandas

        table = pandas.read_parquet(output)
        mine = table[table.path == corpus.sources[3]]
        embeddings, times = np.stack(mine.embedding), mine.time
        assert len(table) == counts["rows"]
    else:
        if ending == ".npz":
            arrays = dict(np.load(output))
            paths = arrays["paths"].tolist()
        else:
            from safetensors import safe_open

            with safe_open(output, "np") as file:
                arrays = {name: file.get_tensor(name) for name in file.keys()}
                paths = json.loads(file.metadata()["paths"])
        assert paths == corpus.sources
        start, stop = arrays["offsets"][3:5]
        embeddings, times = arrays["embeddings"][start:stop], arrays["times"][start:stop]
        assert len(arrays["embeddings"]) == counts["rows"] == arrays["offsets"][-1]
    np.testing.assert_allclose(embeddings, expected.embeddings, atol=1e-5)
    np.testing.assert_allclose(times, expected.times, atol=1e-6)
    assert [path.name for path in tmp_path.iterdir()] == [output.name]


def test_extraction_of_clips_skips_the_unreadable(model, extractor, folder, tmp_path):
    audio = tmp_path / "audio"
    audio.mkdir()
    (audio / "a.wav").write_bytes((folder / "low_bob_0.wav").read_bytes())
    (audio / "b.wav").write_bytes(b"not audio")
    counts = extract(model, audio, tmp_path / "clips.npz", pool="mean", feature_extractor=extractor)
    assert counts == {"clips": 1, "rows": 1, "dim": 32, "skipped": 1}
    assert set(np.load(tmp_path / "clips.npz")) == {"embeddings", "paths"}
    model.save_pretrained(tmp_path / "model")
    extractor.save_pretrained(tmp_path / "model")
    assert extract(tmp_path / "model", str(audio), str(tmp_path / "again.npz"), pool="mean") == counts
    (audio / "a.wav").unlink()
    with pytest.raises(ValueError, match="none of its 1 clips"):
        extract(model, audio, tmp_path / "none.npz", feature_extractor=extractor)
    with pytest.raises(ValueError, match="npz, .safetensors, .parquet"):
        extract(model, audio, tmp_path / "clips.csv", feature_extractor=extractor)
