# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
import json
import warnings
from collections import Counter
from itertools import islice

import numpy as np
import pytest
import soundfile
import torch
from torch.utils.data import DataLoader

from hf_audio_ssl.data.corpus import Corpus, open_corpus
from hf_audio_ssl.data.dataset import (
    ClipDataset,
    CorpusReadError,
    GlobalBatchSampler,
    class_balanced_weights,
    collate_clips,
    group_weights,
)

RATE = 8000


def ramp_corpus(directory, lengths, rate=RATE, damaged=()):
    """Clip i counts its samples up, so that a crop tells where it comes from; damaged files are cut in half."""
    paths = []
    for number, length in enumerate(lengths):
        path = directory / f"{number:03d}.wav"
        soundfile.write(path, np.arange(length, dtype=np.float32) / 2**20, rate, subtype="FLOAT")
        if number in damaged:
            path.write_bytes(path.read_bytes()[: length * 2])
        paths.append(str(path))
    return Corpus(paths, [number % 3 for number in range(len(paths))], ["x", "y", "z"])


def start(clip):
    return round(clip["audio"][0].item() * 2**20)


def test_crops_depend_on_seed_epoch_and_index_only(tmp_path):
    corpus = ramp_corpus(tmp_path, [20000] * 4)
    dataset = ClipDataset(corpus, RATE, clip_seconds=0.5, seed=1)
    first = [start(dataset[epoch, index]) for epoch in range(3) for index in range(4)]
    assert len(set(first)) == 12 and max(first) > 8000
    shuffled = ClipDataset(corpus, RATE, clip_seconds=0.5, seed=1)
    assert [start(shuffled[epoch, index]) for epoch in (2, 0) for index in (3, 1)] == [first[k] for k in (11, 9, 3, 1)]
    shuffled.set_epoch(2)
    assert start(shuffled[3]) == first[11]
    assert start(ClipDataset(corpus, RATE, 0.5, seed=2)[0, 0]) != first[0]
    clip = dataset[0, 2]
    assert clip["audio"].dtype == torch.float32 and clip["audio"].shape == (4000,)
    assert clip["index"] == 2 and clip["label"] == 2
    expected = (first[2] + torch.arange(4000)) / 2**20
    assert torch.equal(clip["audio"], expected)


def test_lengths(tmp_path):
    corpus = ramp_corpus(tmp_path, [1000, 4000, 9000])
    fixed = ClipDataset(corpus, RATE, clip_seconds=0.5, random_crop=False)
    assert [len(fixed[i]["audio"]) for i in range(3)] == [1000, 4000, 4000] and start(fixed[2]) == 0
    assert [len(clip["audio"]) for clip in (ClipDataset(corpus, RATE)[i] for i in range(3))] == [1000, 4000, 9000]
    resampled = ClipDataset(corpus, 16000, clip_seconds=0.5)
    assert [len(resampled[i]["audio"]) for i in range(3)] == [2000, 8000, 8000]
    uneven = ClipDataset(ramp_corpus(tmp_path, [50000], rate=44100), 16000, clip_seconds=0.3333)
    assert len(uneven[0]["audio"]) == round(0.3333 * 16000)


def test_cached_audio_is_the_same_and_not_read_again(tmp_path):
    corpus = ramp_corpus(tmp_path, [20000] * 3, rate=11025)
    plain = ClipDataset(corpus, RATE, clip_seconds=0.5)
    cached = ClipDataset(corpus, RATE, clip_seconds=0.5, cache_audio=True, cache_bytes=2 * 20000 * 4)
    for epoch in range(3):
        for index in range(3):
            assert torch.equal(plain[epoch, index]["audio"], cached[epoch, index]["audio"])
    for path in corpus.sources:
        open(path, "wb").close()
    assert len(cached[4, 0]["audio"]) == len(cached[4, 1]["audio"]) == 4000
    with pytest.warns(UserWarning, match="002.wav"), pytest.raises(CorpusReadError):
        cached[4, 2]  # beyond the byte limit


def test_what_is_done_to_a_clip_does_not_reach_the_cache(tmp_path):
    dataset = ClipDataset(ramp_corpus(tmp_path, [5000]), RATE, cache_audio=True)
    whole = dataset[0]["audio"].clone()
    dataset[0]["audio"].zero_()
    assert torch.equal(dataset[0]["audio"], whole)


def test_damaged_files_are_replaced_counted_and_listed(tmp_path):
    corpus = ramp_corpus(tmp_path, [4000 + number for number in range(30)], damaged=(4, 11))
    listed = tmp_path / "skipped.jsonl"
    dataset = ClipDataset(corpus, RATE, seed=3, skipped_path=listed)
    with pytest.warns(UserWarning) as caught:
        clips = [dataset[epoch, index] for epoch in range(2) for index in range(30)]
    assert [str(w.message).split(":")[0] for w in caught] == [
        f"skipped {corpus.sources[4]} (1 of 5 clips so far)",
        f"skipped {corpus.sources[11]} (2 of 12 clips so far)",
    ]
    assert dataset.skipped == 2
    for number, clip in enumerate(clips):
        assert clip["label"] == clip["index"] % 3 and len(clip["audio"]) == 4000 + clip["index"]
        assert (clip["index"] == number % 30) == (number % 30 not in (4, 11))
    rows = [json.loads(line) for line in listed.read_text().splitlines()]
    assert [(row["path"], row["index"]) for row in rows] == [(corpus.sources[4], 4), (corpus.sources[11], 11)]
    assert "truncated" in rows[0]["error"]

    again = ClipDataset(corpus, RATE, seed=3, skipped_path=listed)  # the run after a restart
    with pytest.warns(UserWarning):
        assert [again[1, index]["index"] for index in (11, 4)] == [clips[41]["index"], clips[34]["index"]]
    assert len(listed.read_text().splitlines()) == 2


def test_too_many_damaged_files_are_an_error(tmp_path):
    corpus = ramp_corpus(tmp_path, [1000] * 20, damaged=(3, 7, 12))
    with warnings.catch_warnings(record=True):
        tolerant = ClipDataset(corpus, RATE, max_skipped_share=0.15)
        assert len([tolerant[i] for i in range(20)]) == 20
        strict = ClipDataset(corpus, RATE, skipped_path=tmp_path / "skipped.jsonl")
        with pytest.raises(CorpusReadError, match="3 of .* more than max_skipped_share=0.1.*skipped.jsonl"):
            for index in range(20):
                strict[index]
        nothing = ClipDataset(ramp_corpus(tmp_path, [1000], damaged=(0,)), RATE)
        with pytest.raises(CorpusReadError):
            nothing[0]
        loader = DataLoader(ClipDataset(corpus, RATE, max_skipped_share=0.0), num_workers=1, collate_fn=collate_clips)
        with pytest.raises(CorpusReadError, match="max_skipped_share=0"):
            list(loader)


def test_clips_that_are_too_short_count_as_unreadable(tmp_path):
    corpus = ramp_corpus(tmp_path, [1000] * 9 + [199])
    dataset = ClipDataset(corpus, 16000, 0.1, min_seconds=0.025)
    with pytest.warns(UserWarning, match="009.wav.*398 samples at 16000 Hz, under 400"):
        assert dataset[9]["index"] != 9
    assert dataset.skipped == 1 and len(ClipDataset(corpus, 16000, 0.1)[9]["audio"]) == 398


def test_other_errors_are_not_swallowed():
    corpus = Corpus([{"array": np.zeros(100, np.int16), "sampling_rate": RATE}])
    with pytest.raises(ValueError, match="int16"):
        ClipDataset(corpus, RATE)[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sampling_rate": 0}, "sampling_rate=0"),
        ({"sampling_rate": 8000, "clip_seconds": 0.0}, "clip_seconds=0.0"),
        ({"sampling_rate": 8000, "clip_seconds": 1.0, "min_seconds": 2.0}, "min_seconds=2.0"),
        ({"sampling_rate": 8000, "max_skipped_share": 1.0}, "max_skipped_share=1.0"),
    ],
)
def test_bad_dataset_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ClipDataset(open_corpus("synthetic", num_clips=2), **arguments)
    with pytest.raises(ValueError, match="empty"):
        ClipDataset(Corpus([]), RATE)


def test_every_epoch_holds_every_clip_once():
    pairs = [pair for batch in islice(GlobalBatchSampler(10, 4, seed=5), 10) for pair in batch]
    for epoch in range(4):
        assert [e for e, _ in pairs[10 * epoch : 10 * epoch + 10]] == [epoch] * 10
        assert sorted(index for _, index in pairs[10 * epoch : 10 * epoch + 10]) == list(range(10))
    assert [index for _, index in pairs[:10]] != [index for _, index in pairs[10:20]] != list(range(10))


@pytest.mark.parametrize("weights", [None, np.arange(1.0, 24.0)])
def test_order_resumes_and_does_not_depend_on_the_number_of_processes(weights):
    whole = list(islice(GlobalBatchSampler(23, 12, seed=1, weights=weights), 9))
    for processes in (2, 3, 4):
        parts = [
            list(islice(GlobalBatchSampler(23, 12 // processes, processes, rank, seed=1, weights=weights), 9))
            for rank in range(processes)
        ]
        assert [sum(slices, []) for slices in zip(*parts, strict=True)] == whole
    assert list(islice(GlobalBatchSampler(23, 12, seed=1, weights=weights, start_step=5), 4)) == whole[5:]
    assert list(islice(GlobalBatchSampler(23, 12, seed=2, weights=weights), 9)) != whole


def test_weights_even_out_the_classes():
    labels = [0] * 900 + [1] * 90 + [2] * 10
    weights = class_balanced_weights(labels)
    drawn = [
        labels[index] for batch in islice(GlobalBatchSampler(1000, 100, weights=weights), 90) for _, index in batch
    ]
    assert all(abs(share / 9000 - 1 / 3) < 0.03 for share in Counter(drawn).values())
    some = GlobalBatchSampler(6, 600, weights=[0, 1, 0, 3, 0, 0])
    drawn = Counter(index for _, index in sum(islice(some, 20), []))
    assert drawn.keys() == {1, 3} and 2.8 < drawn[3] / drawn[1] < 3.2
    np.testing.assert_allclose(class_balanced_weights([[0, 1], [0], [], [1]]), [1.0, 0.5, 0.0, 0.5])


def test_bad_sampler_arguments():
    for arguments in [(0, 1), (5, 0), (5, 1, 2, 2), (5, 1, 1, 0, 0, -1)]:
        with pytest.raises(ValueError):
            GlobalBatchSampler(*arguments)
    for weights in [[1.0] * 4, [0.0] * 5, [1, 1, 1, 1, -1], [1, 1, 1, 1, np.nan]]:
        with pytest.raises(ValueError, match="weights"):
            GlobalBatchSampler(5, 1, weights=weights)


def test_batches_do_not_depend_on_workers(tmp_path):
    corpus = ramp_corpus(tmp_path, [9000] * 21, damaged=(6,))

    def batches(workers, start_step=0):
        dataset = ClipDataset(corpus, RATE, clip_seconds=0.25, seed=2)
        with warnings.catch_warnings(record=True):
            sampler = GlobalBatchSampler(21, 4, seed=2, start_step=start_step)
            loader = DataLoader(dataset, batch_sampler=sampler, collate_fn=collate_clips, num_workers=workers)
            return [
                (b["index"].tolist(), b["labels"].tolist(), torch.stack(b["audio"]))
                for b in islice(loader, 12 - start_step)
            ]

    alone = batches(0)
    for other in (batches(2), batches(0, start_step=0)):
        for (i, l, a), (j, m, b) in zip(alone, other, strict=True):
            assert i == j and l == m and torch.equal(a, b)
    assert all(i == j and torch.equal(a, b) for (i, _, a), (j, _, b) in zip(alone[7:], batches(2, 7), strict=True))


def test_collate_keeps_lengths_and_stacks_labels():
    clips = [{"audio": torch.zeros(3), "index": 4, "label": 1}, {"audio": torch.zeros(5), "index": 2, "label": 0}]
    batch = collate_clips(clips)
    assert [len(wave) for wave in batch["audio"]] == [3, 5]
    assert batch["labels"].tolist() == [1, 0] and batch["index"].tolist() == [4, 2]
    assert "labels" not in collate_clips([{"audio": torch.zeros(3), "index": 4}])


def test_multi_label_clips_are_multi_hot():
    corpus = Corpus([{"array": np.ones(100, np.float32), "sampling_rate": RATE}] * 2, [[0, 2], []], ["a", "b", "c"])
    dataset = ClipDataset(corpus, RATE)
    batch = collate_clips([dataset[0], dataset[1]])
    assert batch["labels"].tolist() == [[1, 0, 1], [0, 0, 0]] and batch["labels"].dtype == torch.float32


def test_speed_and_level_vary_from_epoch_to_epoch(tmp_path):
    wave = np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE).astype(np.float32)
    soundfile.write(tmp_path / "tone.wav", wave / 2, RATE, subtype="FLOAT")
    dataset = ClipDataset(Corpus([str(tmp_path / "tone.wav")]), RATE, speed_perturb=0.2, gain_db=6.0)
    clips = [dataset[epoch, 0]["audio"] for epoch in range(20)]
    assert torch.equal(clips[3], dataset[3, 0]["audio"])

    speeds = torch.tensor([RATE / len(clip) for clip in clips])
    assert speeds.min() > 0.79 and speeds.max() < 1.21 and speeds.std() > 0.05
    for clip, speed in zip(clips, speeds):
        # played faster, a tone gets higher
        spectrum = torch.fft.rfft(clip).abs()
        assert abs(spectrum.argmax().item() * RATE / len(clip) - 440 * speed) < 3
    levels = torch.stack([20 * clip[1000:-1000].square().mean().sqrt().log10() for clip in clips])
    reference = 20 * np.log10(0.5 / np.sqrt(2))
    assert (levels - reference).abs().max() < 6.2 and levels.std() > 1.5
    with pytest.raises(ValueError, match="speed_perturb=1.5"):
        ClipDataset(Corpus([str(tmp_path / "tone.wav")]), RATE, speed_perturb=1.5)


def test_groups_are_drawn_by_the_exponent_and_their_factors():
    groups = ["en"] * 900 + ["sw"] * 90 + ["yo"] * 10

    def shares(**options):
        sampler = GlobalBatchSampler(1000, 100, weights=group_weights(groups, **options))
        drawn = Counter(groups[index] for batch in islice(sampler, 200) for _, index in batch)
        return {name: drawn[name] / 20000 for name in ("en", "sw", "yo")}

    assert shares(exponent=1.0) == pytest.approx({"en": 0.9, "sw": 0.09, "yo": 0.01}, abs=0.01)
    assert shares(exponent=0.0) == pytest.approx({"en": 1 / 3, "sw": 1 / 3, "yo": 1 / 3}, abs=0.02)
    roots = np.sqrt([0.9, 0.09, 0.01])
    assert shares(exponent=0.5) == pytest.approx(dict(zip(("en", "sw", "yo"), roots / roots.sum())), abs=0.02)
    assert shares(exponent=0.0, factors={"yo": 2, "en": 0}) == pytest.approx(
        {"en": 0, "sw": 1 / 3, "yo": 2 / 3}, abs=0.02
    )
    weights = group_weights(groups, 0.5)
    assert weights.sum() == pytest.approx(1) and len(set(weights[:900])) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"exponent": -1}, r"exponent=-1: expected a number in \[0, 1\]"),
        ({"factors": {"fr": 1}}, "no group fr; the groups are de, en"),
        ({"factors": {"de": -1}}, "expected none below 0"),
        ({"factors": {"de": 0, "en": 0}}, "not all 0"),
    ],
)
def test_bad_group_weights(options, message):
    with pytest.raises(ValueError, match=message):
        group_weights(["de", "en"], **options)


def test_clips_say_their_group(tmp_path):
    for folder in ("sw", "en"):
        (tmp_path / folder / "more").mkdir(parents=True)
        ramp_corpus(tmp_path / folder / "more", [1000, 1000])
    dataset = ClipDataset(open_corpus(tmp_path, group_folders=True), RATE)
    assert dataset.group_names == ("en", "sw")
    assert collate_clips([dataset[3], dataset[0]])["group"].tolist() == [1, 0]
    ramp_corpus(tmp_path, [1000])
    with pytest.raises(ValueError, match="group_folders=True: 1 files are in no sub-folder"):
        open_corpus(tmp_path, group_folders=True)
    with pytest.raises(ValueError, match="group_folders=True: label_pattern or group_column give groups already"):
        open_corpus(tmp_path, group_folders=True, label_pattern="(?P<group>[0-9])")
