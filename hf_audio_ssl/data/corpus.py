# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Corpora: where clips and their labels come from. Nothing is decoded here: `hf_audio_ssl.audio.io` reads clips."""

import csv
import json
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hf_audio_ssl.audio.io import EXTENSIONS
from hf_audio_ssl.data import synthetic

_OTHER_AUDIO = frozenset(".m4a .mp4 .aac .wma .webm .amr .ape".split())
_NOTHING = (None, "")  # what JSON, Parquet and CSV hold where nothing was filled in
_SYNTHETIC_SIZES = {"train": 8000, "test": 1600}


class Corpus(Sequence):
    """Clips with random access.

    `corpus[i]` is `{"audio": source for audio.io.load, "label": int | list[int] | None, "path": str,
    "group": str | None}`.

    Args:
        sources: sequence of anything that `audio.io.load` reads.
        labels: one class id a clip, or a list of ids a clip for multi-label corpora; `None` without labels.
        label_names: name of each class id.
        groups: a name per clip of whom or what must stay together in a split (the speaker, the recording).
        paths: a name per clip for reports; by default the source where it is a path, otherwise its number.
    """

    def __init__(
        self,
        sources: Sequence,
        labels: Sequence[int | list[int]] | None = None,
        label_names: Sequence[str] = (),
        groups: Sequence[str] | None = None,
        paths: Sequence[str] | None = None,
    ):
        for name, column in (("labels", labels), ("groups", groups), ("paths", paths)):
            if column is not None and len(column) != len(sources):
                raise ValueError(f"{name} has {len(column)} entries for {len(sources)} clips")
        self.sources = sources
        self.labels = None if labels is None else list(labels)
        self.label_names = tuple(label_names)
        self.groups = None if groups is None else list(groups)
        self.paths = paths

    @property
    def num_clips(self) -> int:
        return len(self.sources)

    @property
    def multi_label(self) -> bool:
        """Whether a clip has a list of labels."""
        return bool(self.labels) and isinstance(self.labels[0], list)

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: int) -> dict[str, Any]:
        index = range(len(self))[index]
        return {
            "audio": self.sources[index],
            "label": None if self.labels is None else self.labels[index],
            "path": self.path(index),
            "group": None if self.groups is None else self.groups[index],
        }

    def path(self, index: int) -> str:
        """Name of clip `index` in reports; reads no audio."""
        if self.paths is not None:
            return self.paths[index]
        source = self.sources[index] if isinstance(self.sources, list) else None
        return os.fspath(source) if isinstance(source, str | os.PathLike) else f"clip {index}"

    def select(self, indices: Sequence[int]) -> "Corpus":
        """The corpus of these clips, in this order; class ids stay as they are."""
        indices = [range(len(self))[i] for i in indices]
        labels, groups = (None if c is None else [c[i] for i in indices] for c in (self.labels, self.groups))
        return Corpus(
            _Selected(self.sources, indices), labels, self.label_names, groups, [self.path(i) for i in indices]
        )


class StreamingCorpus:
    """Clips that come in sequence, of unknown number (`num_clips` is None): a streamed `datasets.IterableDataset`.

    Iterating gives dicts as [`Corpus`] does. `stream(seed, epoch, buffer_size, shard)` gives the shuffled examples of
    one epoch; [`hf_audio_ssl.data.dataset.StreamingClipDataset`] deals them out to processes and workers.
    """

    num_clips = None
    groups = labels = None

    def __init__(
        self, dataset, to_item: Callable[[dict], dict[str, Any]], label_names: Sequence[str], multi_label: bool
    ):
        self._dataset, self._to_item = dataset, to_item
        self.label_names, self.multi_label = tuple(label_names), multi_label

    @property
    def num_shards(self) -> int:
        return self._dataset.num_shards

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return map(self._to_item, self._dataset)

    def stream(
        self, seed: int, epoch: int, buffer_size: int, shard: tuple[int, int] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Examples of an epoch, in an order that is a function of `(seed, epoch)`; of `shard=(index, count)` only."""
        dataset = self._dataset
        if shard is not None:
            dataset = dataset.shard(num_shards=shard[1], index=shard[0])
        if buffer_size > 1:
            dataset = dataset.shuffle(seed=seed, buffer_size=buffer_size)
            dataset.set_epoch(epoch)
        # iter() rather than __iter__: in a DataLoader worker the latter would deal the shards out once more
        for example in dataset.iter(batch_size=1):
            yield self._to_item({name: column[0] for name, column in example.items()})


def open_corpus(
    source: Any,
    *,
    split: str | None = None,
    config: str | None = None,
    streaming: bool = False,
    audio_column: str | None = None,
    label_column: str | None = None,
    group_column: str | None = None,
    label_names: Sequence[str] | None = None,
    label_pattern: str | None = None,
    group_folders: bool = False,
    include: str | Callable[[str], bool] | None = None,
    num_clips: int | None = None,
    seed: int = 0,
) -> Corpus | StreamingCorpus:
    """Open a corpus by name.

    Args:
        source: `"synthetic"` (the built-in corpus), a folder, the name of a `datasets` data set on the Hub, or a
            `datasets` object (`Dataset`, `IterableDataset`).

            A folder is searched for audio files, recursively and through symbolic links, in sorted order. Labels come
            from `label_pattern`, or from a `metadata.csv` or `metadata.jsonl` at its top (columns `file_name` and
            `label`: the layout of `datasets`' "audiofolder"; then only the listed files count, one row each), or else
            from sub-folder names, if no file lies beside them. Lists in `metadata.jsonl` make multi-label corpora. A
            folder written by `Dataset.save_to_disk`, and one with Parquet files, is opened as `datasets` data set.
        split: part of the corpus. Folder: a sub-folder of that name. Data set: its split ("train" by default).
            Synthetic: "train" (default) or "test".
        config: configuration of a Hub data set.
        streaming: read a Hub data set from its shards without downloading it first.
        audio_column, label_column, group_column: columns of a data set or of the metadata. By default the only audio
            column, and `label` or `labels` where there is one; no groups.
        label_names: names of the class ids, in order, where the corpus can't tell them: streams of text labels.
        label_pattern: regular expression, searched in each file's name without extension; its named group `label`
            gives the label and `group`, if there is one, the group: `(?P<label>[0-9])_(?P<group>[a-z]+)_[0-9]+`.
        group_folders: the first sub-folder on the way to a file is its group: a domain or language per folder.
        include: which files of a folder to take: regular expression searched in the name without extension, or a
            function of the path relative to the folder.
        num_clips, seed: size and seed of the synthetic corpus.

    Raises:
        ValueError: nothing there to open, an argument that does not apply to this kind of corpus, a clip without a
            label where others have one, or a file that the metadata lists twice.
    """
    given = {
        "config": config, "streaming": streaming, "audio_column": audio_column, "label_column": label_column,
        "group_column": group_column, "label_names": label_names, "label_pattern": label_pattern,
        "group_folders": group_folders, "include": include, "num_clips": num_clips, "seed": seed,
    }  # fmt: skip

    def check(kind: str, *allowed: str):
        wrong = [name for name, value in given.items() if value not in (None, False, 0) and name not in allowed]
        if wrong:
            raise ValueError(f"{', '.join(wrong)} can't be used with {kind}; it takes split, {', '.join(allowed)}")

    if source == "synthetic":
        check("the synthetic corpus", "num_clips", "seed")
        return _synthetic(split or "train", num_clips, seed)
    columns = {"audio_column": audio_column, "label_column": label_column, "group_column": group_column}
    if isinstance(source, str | os.PathLike) and os.path.isdir(source):
        folder = Path(source)
        is_dataset = any((folder / name).is_file() for name in ("state.json", "dataset_dict.json"))
        if not is_dataset and not any(folder.glob("**/*.parquet")):
            options = ("label_column", "group_column", "label_names", "label_pattern", "group_folders", "include")
            check(f"the folder {folder}", *options)
            return _folder(folder, split, **{name: given[name] for name in options})
    elif isinstance(source, str | os.PathLike) and (os.path.isabs(source) or str(source).startswith((".", "~"))):
        raise ValueError(f"there is no folder {source}")
    check("a `datasets` data set", "config", "streaming", *columns, "label_names")
    try:
        from hf_audio_ssl.data.hub_datasets import open_dataset
    except ImportError as error:
        raise ImportError(f"opening {source} needs the `datasets` library: pip install datasets") from error
    return open_dataset(source, split, config, streaming, label_names=label_names, **columns)


def encode_labels(
    values: Sequence, label_names: Sequence[str] | None = None
) -> tuple[list[int] | list[list[int]], tuple[str, ...]]:
    """Text labels, or lists of them, as class ids and the names of the classes.

    Without `label_names` the classes are the sorted values, numbers in numerical order. Beside lists, a single value
    is a list of one.

    Raises:
        ValueError: a label is missing, empty, or not in `label_names`.
    """
    multi = any(isinstance(value, list | tuple) for value in values)
    rows = [[*value] if isinstance(value, list | tuple) else [value] for value in values]
    if unnamed := [index for index, row in enumerate(rows) if any(value in _NOTHING for value in row)]:
        raise ValueError(
            f"{len(unnamed)} of {len(rows)} clips have no label, or an empty one; the first is clip {unnamed[0]} with "
            f"{values[unnamed[0]]!r}"
        )
    rows = [[str(value) for value in row] for row in rows]
    found = {name for row in rows for name in row}
    if label_names is None:
        label_names = sorted(found, key=lambda name: (0, int(name), name) if name.isdecimal() else (1, 0, name))
    ids = {str(name): number for number, name in enumerate(label_names)}
    if unknown := sorted(found - ids.keys()):
        raise ValueError(f"labels {unknown[:5]} are not among label_names {list(ids)[:20]}")
    encoded = [[ids[name] for name in row] for row in rows]
    return (encoded if multi else [row[0] for row in encoded]), tuple(ids)


def _synthetic(split: str, num_clips: int | None, seed: int) -> Corpus:
    if split not in _SYNTHETIC_SIZES:
        raise ValueError(f"split={split!r}; the synthetic corpus has {list(_SYNTHETIC_SIZES)}")
    size = _SYNTHETIC_SIZES[split] if num_clips is None else num_clips
    # Both splits of a seed are disjoint streams; 2 * seed + 1 is never the train seed of another corpus.
    clips = synthetic.SyntheticClips(size, 2 * seed + (split == "test"))
    labels = [synthetic.label_of(index) for index in range(len(clips))]
    return Corpus(clips, labels, synthetic.LABEL_NAMES, paths=[clips.path(index) for index in range(len(clips))])


def _folder(
    folder: Path, split, label_column, group_column, label_names, label_pattern, group_folders, include
) -> Corpus:
    if split is not None:
        if not (folder / split).is_dir():
            there = sorted(path.name for path in folder.iterdir() if path.is_dir())
            raise ValueError(f"split={split!r}: {folder} has no such sub-folder; it has {there}")
        folder = folder / split
    metadata = None if label_pattern else _read_metadata(folder)
    if metadata is None and (label_column or group_column):
        raise ValueError(f"label_column and group_column need a metadata.csv or metadata.jsonl in {folder}")
    files = _audio_files(folder) if metadata is None else list(metadata)
    if include is not None:
        matches = include if callable(include) else lambda file: re.search(include, Path(file).stem)
        files = [file for file in files if matches(file)]
    if not files:
        raise ValueError(f"no audio files in {folder}" + (f" that match include={include!r}" if include else ""))

    labels = groups = None
    loose = [file for file in files if not os.path.dirname(file)]
    if label_pattern:
        names = re.compile(label_pattern).groupindex.keys() & {"label", "group"}
        if not names:
            raise ValueError(f"label_pattern={label_pattern!r} has no group named `label` or `group`")
        found = [re.search(label_pattern, Path(file).stem) for file in files]
        if missed := [file for file, match in zip(files, found) if not (match and all(map(match.group, names)))]:
            raise ValueError(
                f"label_pattern={label_pattern!r} does not match {len(missed)} of {len(files)} files, or finds no "
                f"{' or '.join(sorted(names))} there: {missed[:3]}"
            )
        labels = [match["label"] for match in found] if "label" in names else None
        groups = [match["group"] for match in found] if "group" in names else None
    elif metadata is not None:
        labels = _column(metadata, files, label_column, ("label", "labels"))
        groups = _column(metadata, files, group_column, ())
        groups = None if groups is None else [str(group) for group in groups]
    elif not loose:
        labels = [os.path.basename(os.path.dirname(file)) for file in files]
    elif len(loose) < len(files):
        warnings.warn(
            f"no labels: sub-folders of {folder} would name them, but {len(loose)} of {len(files)} files are in none: "
            f"{loose[:3]}",
            stacklevel=3,
        )
    if group_folders:
        if groups is not None:
            raise ValueError("group_folders=True: label_pattern or group_column give groups already")
        if loose:
            raise ValueError(f"group_folders=True: {len(loose)} files are in no sub-folder of {folder}: {loose[:3]}")
        groups = [Path(file).parts[0] for file in files]
    names = label_names or ()
    if labels is not None:
        labels, names = encode_labels(labels, label_names)
    return Corpus([str(folder / file) for file in files], labels, names, groups)


def _audio_files(folder: Path) -> list[str]:
    """Audio files below `folder`, relative to it, sorted by path; hidden ones are left out."""
    files, foreign = [], 0
    for root, names in _walk(folder):
        for name in names:
            extension = os.path.splitext(name)[1].lower()
            if extension in EXTENSIONS and not name.startswith("."):
                files.append(os.path.relpath(os.path.join(root, name), folder))
            foreign += extension in _OTHER_AUDIO
    if foreign:
        warnings.warn(
            f"left out {foreign} files in {folder} that libsndfile can't decode (m4a, aac ...)", stacklevel=4
        )
    return sorted(files)


def _walk(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """(folder, names of its files) of `folder` and all below it but hidden ones, linked ones last, each only once."""
    todo, seen = [str(folder)], set()
    for top in todo:  # grows as links are found
        for root, directories, names in os.walk(top):
            real = os.path.realpath(root)
            if real in seen:  # a link back up, or a second one to the same place
                directories.clear()
                continue
            seen.add(real)
            directories[:] = [name for name in directories if not name.startswith(".")]
            todo += [path for name in sorted(directories) if os.path.islink(path := os.path.join(root, name))]
            yield root, names


def _read_metadata(folder: Path) -> dict[str, dict] | None:
    """Rows of metadata.csv or metadata.jsonl by file name, in their order; None where there is neither."""
    for path in (folder / "metadata.csv", folder / "metadata.jsonl"):
        if not path.is_file():
            continue
        rows, lines = {}, {}
        with open(path, newline="", encoding="utf-8-sig") as file:
            if path.suffix == ".csv":
                reader = csv.DictReader(file)
                numbered = ((reader.line_num, row) for row in reader)
            else:
                numbered = ((number, json.loads(line)) for number, line in enumerate(file, 1) if line.strip())
            for number, row in numbered:
                name = row.get("file_name")
                if name in _NOTHING:
                    raise ValueError(f"{path}, line {number}: no `file_name`; the columns are {list(row)}")
                if None in row:
                    raise ValueError(f"{path}, line {number}: more fields than columns, {row[None]} would be lost")
                if name in rows:
                    raise ValueError(
                        f"{path} lists {name} in lines {lines[name]} and {number}, expected one row a file: several "
                        "labels are a list in metadata.jsonl"
                    )
                rows[name], lines[name] = row, number
        if not rows:
            raise ValueError(f"{path} lists no files")
        return rows
    return None


def _column(metadata: dict[str, dict], files: list[str], wanted: str | None, defaults: tuple[str, ...]) -> list | None:
    columns = dict.fromkeys(name for file in files for name in metadata[file])
    name = wanted or next((name for name in defaults if name in columns), None)
    if name is None:
        return None
    if missing := [file for file in files if metadata[file].get(name) in _NOTHING]:
        raise ValueError(
            f"the metadata has no column `{name}`, or nothing in it, for {len(missing)} of {len(files)} files: "
            f"{missing[:3]}; the columns are {list(columns)}"
        )
    return [metadata[file][name] for file in files]


class _Selected(Sequence):
    def __init__(self, sources: Sequence, indices: list[int]):
        self.sources, self.indices = sources, indices

    def __len__(self):
        return len(self.indices)

    def __getitem__(self, index):
        return self.sources[self.indices[index]]
