# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
import json
import warnings
from itertools import islice

import datasets
import numpy as np
import pytest
import soundfile
import torch
from torch.utils.data import DataLoader

from hf_audio_ssl.data.corpus import open_corpus
from hf_audio_ssl.data.dataset import CorpusReadError, StreamingClipDataset

RATE = 8000
NUM_CLIPS = 22


def stream(tmp_path, num_shards=1, damaged=()):
    paths = []
    for number in range(NUM_CLIPS):
        path = tmp_path / f"{number:02d}.wav"
        ramp = np.arange(4000, dtype=np.float32) / 2**20 + number / 64  # tells the clip and the place of a crop
        soundfile.write(path, ramp, RATE, subtype="FLOAT")
        if number in damaged:
            path.write_bytes(b"not audio")
        paths.append(str(path))
    features = datasets.Features({
        "audio": {"bytes": datasets.Value("binary"), "path": datasets.Value("string")},
        "label": datasets.ClassLabel(num_classes=NUM_CLIPS),
    })  # fmt: skip
    rows = {"audio": [{"bytes": None, "path": path} for path in paths], "label": list(range(NUM_CLIPS))}
    dataset = datasets.Dataset.from_dict(rows, features=features).cast_column("audio", datasets.Audio(decode=False))
    return open_corpus(dataset.to_iterable_dataset(num_shards=num_shards))


def take(corpus, batches, batch_size=4, workers=0, **arguments):
    arguments = {"seed": 3, "shuffle_buffer": 8, **arguments}
    dataset = StreamingClipDataset(corpus, RATE, 0.1, batch_size, **arguments)
    with warnings.catch_warnings(record=True):
        return list(islice(DataLoader(dataset, batch_size=None, num_workers=workers), batches))


def labels(batches):
    return [batch["labels"].tolist() for batch in batches]


def same(one, other):
    return len(one) == len(other) and all(
        torch.equal(a["labels"], b["labels"]) and torch.equal(torch.stack(a["audio"]), torch.stack(b["audio"]))
        for a, b in zip(one, other, strict=True)
    )


def test_epochs_follow_one_another_and_are_shuffled_anew(tmp_path):
    seen = sum(labels(take(stream(tmp_path), 11)), [])
    first, second = seen[:NUM_CLIPS], seen[NUM_CLIPS:]
    assert sorted(first) == sorted(second) == list(range(NUM_CLIPS))
    assert first != second and first != sorted(first)
    assert sum(labels(take(stream(tmp_path), 5, shuffle_buffer=1)), []) == list(range(20))


def test_crops_change_with_the_position(tmp_path):
    batches = take(stream(tmp_path), 11)
    starts = {}
    for batch in batches:
        for label, wave in zip(batch["labels"].tolist(), batch["audio"], strict=True):
            assert wave.shape == (800,)
            starts.setdefault(label, set()).add(round((wave[0].item() - label / 64) * 2**20))
    assert sum(len(places) == 2 for places in starts.values()) > 15
    assert same(batches, take(stream(tmp_path), 11))


@pytest.mark.parametrize(("processes", "workers"), [(1, 2), (2, 0), (2, 3), (4, 0)])
def test_one_shard_order_does_not_depend_on_processes_and_workers(tmp_path, processes, workers):
    whole = take(stream(tmp_path), 8)
    parts = [
        take(stream(tmp_path), 8, 4 // processes, workers, num_processes=processes, process_index=rank)
        for rank in range(processes)
    ]
    assert [sum(slices, []) for slices in zip(*map(labels, parts), strict=True)] == labels(whole)
    waves = [sum((batch["audio"] for batch in step), []) for step in zip(*parts, strict=True)]
    assert all(torch.equal(torch.stack(a), torch.stack(b["audio"])) for a, b in zip(waves, whole, strict=True))


@pytest.mark.parametrize("num_shards", [1, 6])
@pytest.mark.parametrize("workers", [0, 2])
def test_resumes_at_any_step(tmp_path, num_shards, workers):
    corpus = stream(tmp_path, num_shards)
    whole = take(corpus, 12, workers=workers)
    for start_step in (1, 4, 7):
        assert same(take(corpus, 12 - start_step, workers=workers, start_step=start_step), whole[start_step:])


def test_many_shards_are_shared_out(tmp_path):
    corpus = stream(tmp_path, num_shards=4)
    parts = [sum(labels(take(corpus, 10, workers=2, num_processes=2, process_index=rank)), []) for rank in range(2)]
    assert not set(parts[0]) & set(parts[1])
    assert set(parts[0]) | set(parts[1]) == set(range(NUM_CLIPS))


def test_damaged_clips_are_replaced_within_the_batch(tmp_path):
    listed = tmp_path / "skipped.jsonl"
    corpus = stream(tmp_path, damaged=(5,))
    clean = labels(take(stream(tmp_path, damaged=()), 10))
    stream(tmp_path, damaged=(5,))
    batches = take(corpus, 10, skipped_path=listed)
    for batch, intended in zip(labels(batches), clean, strict=True):
        assert len(batch) == 4 and 5 not in batch and set(batch) <= set(intended)
        assert all(got == wanted for got, wanted in zip(batch, intended, strict=True) if wanted != 5)
    assert [json.loads(line)["path"] for line in listed.read_text().splitlines()] == [str(tmp_path / "05.wav")]
    assert same(take(corpus, 5, start_step=5), batches[5:])
    with pytest.raises(CorpusReadError):
        take(stream(tmp_path, damaged=range(NUM_CLIPS)), 1)
    with pytest.raises(CorpusReadError, match="max_skipped_share"):
        take(stream(tmp_path, damaged=range(0, NUM_CLIPS, 2)), 100)


def test_an_empty_stream_is_an_error(tmp_path):
    empty = open_corpus(datasets.IterableDataset.from_generator(no_examples, features=datasets.Features({
        "audio": datasets.Audio(decode=False)
    })))  # fmt: skip
    with pytest.raises(ValueError, match="no examples"):
        take(empty, 1)


def no_examples():
    yield from ()
