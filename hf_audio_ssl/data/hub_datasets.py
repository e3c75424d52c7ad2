# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Corpora from the `datasets` library. Audio columns are never decoded by it, for that needs torchcodec and FFmpeg."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets

from hf_audio_ssl.data.corpus import Corpus, StreamingCorpus, encode_labels


class _EncodedAudio(datasets.Audio):
    """An audio column left as `{"bytes", "path"}`; `datasets.Audio` asks for torchcodec even to pass that on."""

    def encode_example(self, value):
        if isinstance(value, str | os.PathLike):
            return {"bytes": None, "path": str(value)}
        if isinstance(value, bytes | bytearray):
            return {"bytes": bytes(value), "path": None}
        return {"bytes": value["bytes"], "path": value.get("path")}


class _AudioColumn(Sequence):
    def __init__(self, dataset, column: str):
        self.dataset, self.column = dataset.select_columns([column]), column

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        return self.dataset[index][self.column] or {"bytes": None, "path": None}


def open_dataset(
    source: Any,
    split: str | None,
    config: str | None,
    streaming: bool,
    audio_column: str | None = None,
    label_column: str | None = None,
    group_column: str | None = None,
    label_names: Sequence[str] | None = None,
) -> Corpus | StreamingCorpus:
    """See `hf_audio_ssl.data.corpus.open_corpus`; `source` is a name, a folder, or an object of `datasets`."""
    dataset = _load(source, split, config, streaming)
    is_stream = isinstance(dataset, datasets.IterableDataset)
    if dataset.features is None:
        dataset = dataset._resolve_features()
    features = dataset.features
    audio_column = audio_column or _only_audio_column(features)
    for name in (audio_column, label_column, group_column):
        if name is not None and name not in features:
            raise ValueError(f"there is no column `{name}`; the columns are {list(features)}")
    dataset = dataset.cast_column(audio_column, _EncodedAudio(decode=False))
    label_column, names, encoded, multi = _label_kind(features, label_column, label_names, is_stream)
    if is_stream:
        keep = [name for name in (audio_column, label_column, group_column) if name is not None]
        item = _StreamItem(audio_column, label_column, group_column, names if encoded else None)
        return StreamingCorpus(dataset.select_columns(keep), item, names or (), multi)
    labels = None if label_column is None else list(dataset[label_column])
    if encoded:
        labels, names = encode_labels(labels, names)
    elif labels and None in labels:
        raise ValueError(f"column `{label_column}` has no label for {labels.count(None)} of {len(labels)} clips")
    groups = None if group_column is None else [str(group) for group in dataset[group_column]]
    return Corpus(_AudioColumn(dataset, audio_column), labels, names or (), groups)


def _label_kind(
    features, column: str | None, names: Sequence[str] | None, is_stream: bool
) -> tuple[str | None, Sequence[str] | None, bool, bool]:
    """(label column, names of its classes, whether its values must be turned into ids, whether a clip has several)."""
    chosen = column or next((name for name in ("label", "labels") if name in features), None)
    if chosen is None:
        return None, None, False, False
    feature = features[chosen]
    multi = isinstance(feature, datasets.List | datasets.LargeList)
    feature = feature.feature if multi else feature
    if isinstance(feature, datasets.ClassLabel):
        return chosen, feature.names, False, multi
    if getattr(feature, "dtype", "").startswith(("float", "double")):
        raise ValueError(f"column `{chosen}` holds {feature.dtype} values; labels are classes")
    if is_stream and names is None:
        if column is not None:
            raise ValueError(f"column `{column}` of the stream has no class names: give label_names")
        return None, None, False, False
    return chosen, names, True, multi


class _StreamItem:
    """Example of a stream -> item of a corpus. A class, so that DataLoader workers can receive it."""

    def __init__(self, audio_column, label_column, group_column, label_names):
        self.audio, self.label, self.group, self.label_names = audio_column, label_column, group_column, label_names

    def __call__(self, example: dict) -> dict[str, Any]:
        audio = example[self.audio] or {"bytes": None, "path": None}
        label = None if self.label is None else example[self.label]
        if self.label_names is not None:
            label = encode_labels([label], self.label_names)[0][0]
        return {
            "audio": audio,
            "label": label,
            "path": audio["path"] or "<stream>",
            "group": None if self.group is None else str(example[self.group]),
        }


def _load(source: Any, split: str | None, config: str | None, streaming: bool):
    if isinstance(source, dict):  # DatasetDict, IterableDatasetDict
        return _pick(source, split)
    if isinstance(source, datasets.Dataset | datasets.IterableDataset):
        if split is not None:
            raise ValueError(f"split={split!r}: the data set given is one split already")
        return source.to_iterable_dataset() if streaming and isinstance(source, datasets.Dataset) else source
    source = str(source)
    if any((Path(source) / name).is_file() for name in ("state.json", "dataset_dict.json")):
        loaded = datasets.load_from_disk(source)
        dataset = _pick(loaded, split) if isinstance(loaded, dict) else loaded
        return dataset.to_iterable_dataset() if streaming else dataset
    try:
        return datasets.load_dataset(source, config, split=split or "train", streaming=streaming)
    except datasets.exceptions.DatasetGenerationError as error:
        # Repositories of loose audio files, and WebDatasets, are converted example by example.
        if "torchcodec" in f"{error} {error.__cause__}":
            raise ValueError(
                f"`datasets` can't build {source} without torchcodec: open it with streaming=True, or download the "
                "repository (`hf download --repo-type dataset`) and open its folder"
            ) from error
        raise


def _pick(splits: dict, split: str | None):
    split = split or ("train" if "train" in splits else next(iter(splits)))
    if split not in splits:
        raise ValueError(f"there is no split {split!r}; the splits are {list(splits)}")
    return splits[split]


def _only_audio_column(features) -> str:
    columns = [name for name, feature in features.items() if isinstance(feature, datasets.Audio)]
    if len(columns) != 1:
        raise ValueError(f"expected one audio column, found {columns} among {list(features)}: give audio_column")
    return columns[0]
