# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
import io
import json
import pickle

import datasets
import numpy as np
import pytest
import soundfile

from hf_audio_ssl.audio.io import load
from hf_audio_ssl.data.corpus import Corpus, encode_labels, open_corpus

RATE = 8000


def write(path, value=0.1, samples=800):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full(samples, value, np.float32), RATE)
    return path


def wav_bytes(value=0.1, samples=800):
    buffer = io.BytesIO()
    soundfile.write(buffer, np.full(samples, value, np.float32), RATE, format="WAV", subtype="FLOAT")
    return buffer.getvalue()


def hub_like_dataset(labels, feature=None, num_clips=6):
    """A data set with encoded audio, as a Parquet file of the Hub gives."""
    audio = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
    features = {"audio": audio, **({} if feature is None else {"label": feature}), "speaker": datasets.Value("int64")}
    columns = {
        "audio": [{"bytes": wav_bytes(index / 100), "path": f"{index}.wav"} for index in range(num_clips)],
        **({} if feature is None else {"label": labels}),
        "speaker": [index // 2 for index in range(num_clips)],
    }
    dataset = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
    return dataset.cast_column("audio", datasets.Audio())


def test_folder_without_labels_is_sorted_and_recursive(tmp_path):
    for name in ["b.wav", "sub/a.flac", "a.WAV", ".hidden.wav", ".cache/x.wav", "notes.txt"]:
        if name.endswith("txt"):
            (tmp_path / name).write_text("no audio")
        else:
            write(tmp_path / name)
    corpus = open_corpus(tmp_path)
    assert corpus.paths is None and corpus.labels is None and corpus.num_clips == 3
    assert [item["path"] for item in corpus] == [str(tmp_path / name) for name in ("a.WAV", "b.wav", "sub/a.flac")]
    assert load(corpus[-1]["audio"])[0].shape == (800,) and corpus[0]["label"] is None
    with pytest.raises(IndexError):
        corpus[3]


def test_sub_folders_are_labels_and_splits(tmp_path):
    for name in ["train/dog/1.wav", "train/cat/1.wav", "train/cat/2.wav", "test/dog/3.wav"]:
        write(tmp_path / name)
    corpus = open_corpus(tmp_path, split="train")
    assert corpus.label_names == ("cat", "dog") and corpus.labels == [0, 0, 1]
    with pytest.raises(ValueError, match=r"\['test', 'train'\]"):
        open_corpus(tmp_path, split="validation")


def test_names_give_labels_groups_and_splits(tmp_path):
    for digit in (10, 2):
        for speaker in ("ann", "bob"):
            for index in range(4):
                write(tmp_path / f"{digit}_{speaker}_{index}.wav")
    pattern = r"^(?P<label>\d+)_(?P<group>[a-z]+)_\d+$"
    corpus = open_corpus(tmp_path, label_pattern=pattern, include=r"_[23]$")
    assert len(corpus) == 8 and corpus.label_names == ("2", "10")  # in numerical order
    assert corpus[0] == {
        "audio": str(tmp_path / "10_ann_2.wav"), "path": str(tmp_path / "10_ann_2.wav"), "label": 1, "group": "ann",
    }  # fmt: skip
    assert len(open_corpus(tmp_path, include=lambda path: "ann" in path)) == 8
    with pytest.raises(ValueError, match="does not match 16 of 16"):
        open_corpus(tmp_path, label_pattern="(?P<label>x)")
    with pytest.raises(ValueError, match="no group named"):
        open_corpus(tmp_path, label_pattern=r"\d")
    with pytest.raises(ValueError, match="no audio files.*include"):
        open_corpus(tmp_path, include="nothing")


def test_metadata_names_files_labels_and_groups(tmp_path):
    for name in ["x/1.wav", "x/2.wav", "3.wav"]:
        write(tmp_path / name)
    (tmp_path / "metadata.csv").write_text("file_name,label,who\nx/2.wav,dog,ann\n3.wav,cat,bob\ngone.wav,cat,bob\n")
    corpus = open_corpus(tmp_path, group_column="who")
    assert corpus.labels == [1, 0, 0] and corpus.groups == ["ann", "bob", "bob"]
    assert corpus[0]["path"] == str(tmp_path / "x/2.wav")
    assert open_corpus(tmp_path, label_column="who").label_names == ("ann", "bob")
    with pytest.raises(ValueError, match="no column `what`"):
        open_corpus(tmp_path, label_column="what")


def test_metadata_lists_are_multi_label(tmp_path):
    rows = [{"file_name": "1.wav", "labels": ["b", "a"]}, {"file_name": "2.wav", "labels": []}]
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    corpus = open_corpus(tmp_path)
    assert corpus.multi_label and corpus.labels == [[1, 0], []] and corpus.label_names == ("a", "b")


def test_a_single_label_beside_lists_is_a_list_of_one(tmp_path):
    rows = [{"file_name": "1.wav", "labels": ["cat"]}, {"file_name": "2.wav", "labels": "dog"}]
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    corpus = open_corpus(tmp_path)
    assert corpus.labels == [[0], [1]] and corpus.label_names == ("cat", "dog")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("csv", "file_name,label\n1.wav,dog\n2.wav,\n", r"no column `label`.* for 1 of 2 files: \['2.wav'\]"),
        ("csv", "file_name,label\n1.wav,dog\n\n1.wav,cat\n", "lists 1.wav in lines 2 and 4, expected one row a file"),
        ("csv", "file_name,label\n1.wav,dog,cat\n", r"line 2: more fields than columns, \['cat'\]"),
        ("csv", "file_name,label\n", "lists no files"),
        ("csv", "path,label\n1.wav,dog\n", r"line 2: no `file_name`; the columns are \['path', 'label'\]"),
        ("jsonl", '{"file_name": "1.wav"}\n{"file_name": "2.wav", "label": "a"}\n', r"no column `label`.*\['1.wav'\]"),
        ("jsonl", '{"file_name": "1.wav", "label": ["a", null]}\n', r"1 of 1 clips have no label.*clip 0 .*None"),
        ("jsonl", '{"file_name": "1.wav"}\n\n{"file_name": "1.wav"}\n', "in lines 1 and 3"),
    ],
)
def test_metadata_that_would_lose_labels_are_errors(tmp_path, name, content, message):
    (tmp_path / f"metadata.{name}").write_text(content)
    with pytest.raises(ValueError, match=message):
        open_corpus(tmp_path)


def test_a_pattern_must_find_its_label_and_group(tmp_path):
    for name in ("dog_ann", "cat"):
        write(tmp_path / f"{name}.wav")
    with pytest.raises(ValueError, match=r"does not match 1 of 2 files, or finds no group or label.*\['cat.wav'\]"):
        open_corpus(tmp_path, label_pattern="(?P<label>[a-z]+)(_(?P<group>[a-z]+))?")


def test_a_file_beside_labelled_sub_folders_costs_the_labels_with_a_warning(tmp_path):
    for name in ["cat/1.wav", "dog/1.wav", "readme.wav"]:
        write(tmp_path / name)
    with pytest.warns(UserWarning, match=r"no labels.*1 of 3 files are in none: \['readme.wav'\]"):
        assert open_corpus(tmp_path).labels is None


def test_linked_sub_folders_are_followed_and_loops_end(tmp_path):
    write(tmp_path / "elsewhere/1.wav")
    write(tmp_path / "corpus/zebra/2.wav")
    (tmp_path / "corpus/dog").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "corpus/again").symlink_to(tmp_path / "corpus/zebra")  # the same clips: only under their own folder
    (tmp_path / "elsewhere/up").symlink_to(tmp_path / "corpus")
    corpus = open_corpus(tmp_path / "corpus")
    assert [item["path"] for item in corpus] == [str(tmp_path / "corpus" / n) for n in ("dog/1.wav", "zebra/2.wav")]
    assert corpus.label_names == ("dog", "zebra")


def test_given_label_names_fix_the_ids():
    assert encode_labels(["b", "a"], ["b", "a", "c"]) == ([0, 1], ("b", "a", "c"))
    with pytest.raises(ValueError, match="'z'"):
        encode_labels(["z"], ["a"])


def test_select_keeps_ids_labels_groups_and_names(tmp_path):
    corpus = open_corpus("synthetic", num_clips=30).select([20, 3])
    assert len(corpus) == 2 and corpus.labels == [2, 3] and len(corpus.label_names) >= 12
    again = corpus.select([1])
    full = open_corpus("synthetic", num_clips=30)
    np.testing.assert_array_equal(again[0]["audio"]["array"], full[3]["audio"]["array"])
    assert again[0]["path"] == full[3]["path"]


def test_synthetic_splits_and_seeds_share_no_clip():
    opened = [
        open_corpus("synthetic", split=s, seed=seed, num_clips=18) for s in ("train", "test") for seed in (0, 1, 2)
    ]
    waves = {corpus[0]["audio"]["array"].tobytes() for corpus in opened}
    assert len(waves) == 6
    with pytest.raises(ValueError, match="num_clips must be at least 1"):
        open_corpus("synthetic", num_clips=0)
    with pytest.raises(ValueError, match="train.*test"):
        open_corpus("synthetic", split="dev")


@pytest.mark.parametrize(
    ("labels", "feature", "ids", "names"),
    [
        ([0, 1, 2, 0, 1, 2], datasets.ClassLabel(names=["x", "y", "z"]), [0, 1, 2, 0, 1, 2], ("x", "y", "z")),
        (["b", "a"] * 3, datasets.Value("string"), [1, 0] * 3, ("a", "b")),
        ([7, 5] * 3, datasets.Value("int64"), [1, 0] * 3, ("5", "7")),
        ([[0], []] * 3, datasets.List(datasets.ClassLabel(names=["x"])), [[0], []] * 3, ("x",)),
        ([["b", "a"], []] * 3, datasets.List(datasets.Value("string")), [[1, 0], []] * 3, ("a", "b")),
        (None, None, None, ()),
    ],
)
def test_datasets_labels(labels, feature, ids, names):
    dataset = hub_like_dataset(labels, feature)
    corpus = open_corpus(dataset, group_column="speaker")
    assert corpus.labels == ids and corpus.label_names == names and corpus.groups == list("001122")
    assert load(corpus[3]["audio"])[0][0] == pytest.approx(0.03)
    assert pickle.loads(pickle.dumps(corpus))[3]["audio"]["path"] == "3.wav"

    known = names if isinstance(getattr(feature, "feature", feature), datasets.Value) else None
    stream = open_corpus(dataset, streaming=True, group_column="speaker", label_names=known)
    assert stream.num_clips is None
    items = list(stream)
    assert [item["label"] for item in items] == (ids or [None] * 6)
    assert [item["group"] for item in items] == corpus.groups
    assert load(items[3]["audio"])[0][0] == pytest.approx(0.03)


def test_a_stream_of_text_labels_needs_their_names():
    dataset = hub_like_dataset(["a", "b"] * 3, datasets.Value("string"))
    assert next(iter(open_corpus(dataset, streaming=True)))["label"] is None
    with pytest.raises(ValueError, match="give label_names"):
        open_corpus(dataset, streaming=True, label_column="label")


def test_saved_and_parquet_data_sets_are_folders_too(tmp_path):
    dataset = hub_like_dataset([0, 1] * 3, datasets.ClassLabel(names=["x", "y"]))
    dataset.save_to_disk(tmp_path / "saved")
    datasets.DatasetDict(train=dataset, test=dataset.select([5])).save_to_disk(tmp_path / "splits")
    (tmp_path / "parquet").mkdir()
    dataset.to_parquet(tmp_path / "parquet" / "train.parquet")
    assert open_corpus(tmp_path / "saved").labels == [0, 1] * 3
    assert open_corpus(tmp_path / "splits", split="test").labels == [1]
    stream = open_corpus(tmp_path / "parquet", streaming=True)
    assert [item["label"] for item in stream] == [0, 1] * 3
    assert load(next(iter(stream))["audio"])[1] == RATE


def test_a_stream_of_loose_files_needs_no_torchcodec(tmp_path):
    for name in ["x/1.wav", "y/2.wav"]:
        write(tmp_path / name)
    loose = datasets.load_dataset("audiofolder", data_dir=str(tmp_path), split="train", streaming=True)
    items = list(open_corpus(loose))
    assert [item["label"] for item in items] == [0, 1]
    assert load(items[0]["audio"])[0].shape == (800,)


@pytest.mark.parametrize(
    ("labels", "feature"),
    [
        ([0, None] * 3, datasets.ClassLabel(names=["x"])),
        (["a", None] * 3, datasets.Value("string")),
        (["a", ""] * 3, datasets.Value("string")),
        ([["a"], None] * 3, datasets.List(datasets.Value("string"))),
    ],
)
def test_clips_without_a_label_are_no_class_of_their_own(labels, feature):
    with pytest.raises(ValueError, match="no label.* 3 of 6 clips|3 of 6 clips have no label"):
        open_corpus(hub_like_dataset(labels, feature))


def test_missing_audio_and_wrong_columns():
    dataset = hub_like_dataset(None).add_column("score", [0.5] * 6)
    with pytest.raises(ValueError, match="no column `sound`"):
        open_corpus(dataset, audio_column="sound")
    with pytest.raises(ValueError, match="float64"):
        open_corpus(dataset, label_column="score")
    with pytest.raises(ValueError, match="expected one audio column"):
        open_corpus(dataset.remove_columns("audio"))


def test_arguments_that_do_not_apply_are_errors(tmp_path):
    write(tmp_path / "a.wav")
    with pytest.raises(ValueError, match="label_pattern can't be used"):
        open_corpus("synthetic", label_pattern="x")
    with pytest.raises(ValueError, match="streaming can't be used"):
        open_corpus(tmp_path, streaming=True)
    with pytest.raises(ValueError, match="num_clips can't be used"):
        open_corpus(hub_like_dataset(None), num_clips=3)
    with pytest.raises(ValueError, match="metadata.csv"):
        open_corpus(tmp_path, label_column="label")
    with pytest.raises(ValueError, match="there is no folder"):
        open_corpus(str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no audio files"):
        open_corpus(tmp_path / "empty")
    assert Corpus([{"bytes": b""}])[0]["path"] == "clip 0"
    with pytest.raises(ValueError, match="labels has 1 entries for 2 clips"):
        Corpus(["a", "b"], [0])


def test_formats_that_cannot_be_decoded_are_mentioned(tmp_path):
    write(tmp_path / "a.wav")
    (tmp_path / "b.m4a").write_bytes(b"x")
    with pytest.warns(UserWarning, match="left out 1 files"):
        assert len(open_corpus(tmp_path)) == 1
