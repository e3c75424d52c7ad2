# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Embeddings of any folder of audio to a file: per clip or per frame, clips of any length."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from transformers import PreTrainedModel
from transformers.utils import logging

from hf_audio_ssl.audio import io
from hf_audio_ssl.data.corpus import Corpus, StreamingCorpus, open_corpus
from hf_audio_ssl.evaluation.embeddings import pad_to_shortest
from hf_audio_ssl.registry import from_pretrained

logger = logging.get_logger(__name__)
FORMATS = (".npz", ".safetensors", ".parquet")


def extract(
    model: str | os.PathLike | PreTrainedModel,
    dataset: Any,
    output: str | os.PathLike,
    *,
    pool: Literal["mean", "mean_std", "cls", "frames"] = "frames",
    layers: int | list[int] = -1,
    window: float | None = None,
    hop: float | None = None,
    batch_size: int = 16,
    device: str | None = None,
    feature_extractor=None,
    progress: Callable[[int, int], Any] | None = None,
    **open_options,
) -> dict[str, int]:
    """Embed every clip of a corpus and write one file, whose ending says the format.

    `.npz` and `.safetensors` hold `embeddings` (rows, dim), and for `pool="frames"` `times` (rows,), the centre of
    each frame in seconds, and `offsets` (clips + 1,): clip i has the rows `offsets[i]` to `offsets[i + 1]`. The clips'
    paths are the array `paths`, in safetensors a JSON list in the metadata. `.parquet` has a row per clip or frame:
    `path` [, `time`], `embedding`.

    Args:
        model: folder, Hub id or model object.
        dataset: a folder of audio (labels are not needed), a `Corpus`, or anything that `open_corpus` opens with
            `open_options`.
        pool, layers, window, hop: as in `encode`: long audio is cut into overlapping windows of `window` seconds.
        batch_size: files that are read at a time, and windows per forward pass.
        progress: called with the numbers of clips done and of all.

    Returns:
        `{"clips", "rows", "dim", "skipped"}`; unreadable clips are skipped with a warning.

    Raises:
        ValueError: unknown ending, or not one clip could be embedded.
    """
    output = Path(output)
    if output.suffix not in FORMATS:
        raise ValueError(f"output: got {output.name!r}, expected a name that ends in {', '.join(FORMATS)}")
    corpus = dataset if isinstance(dataset, Corpus | StreamingCorpus) else open_corpus(dataset, **open_options)
    if not isinstance(corpus, Corpus):
        raise ValueError("dataset: extraction needs the number of clips, open it without streaming")
    if isinstance(model, str | os.PathLike):
        feature_extractor = feature_extractor or from_pretrained("AutoFeatureExtractor", model)
        model = from_pretrained("AutoModel", model)
    model = model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    extractor = feature_extractor or model.own_feature_extractor()

    paths, embeddings, times, skipped = [], [], [], 0
    for start in range(0, len(corpus), batch_size):
        chunk = range(start, min(start + batch_size, len(corpus)))
        clips = list(_readable(corpus, chunk, extractor))
        skipped += len(chunk) - len(clips)
        if clips:
            encoded = model.encode(
                [wave for _, wave in clips], extractor.sampling_rate, pool=pool, layers=layers, window=window, hop=hop,
                batch_size=batch_size, feature_extractor=extractor,
            )  # fmt: skip
            paths += [path for path, _ in clips]
            embeddings += [clip.embeddings.numpy() if pool == "frames" else clip.numpy()[None] for clip in encoded]
            times += [clip.times.numpy() for clip in encoded] if pool == "frames" else []
        if progress is not None:
            progress(len(paths) + skipped, len(corpus))
    if not paths:
        raise ValueError(f"dataset: none of its {len(corpus)} clips could be read")
    _write(output, paths, embeddings, times)
    rows = sum(map(len, embeddings))
    return {"clips": len(paths), "rows": rows, "dim": embeddings[0].shape[1], "skipped": skipped}


def _readable(corpus: Corpus, indices: range, feature_extractor) -> Iterator[tuple[str, torch.Tensor]]:
    """Path and samples of those clips that can be read."""
    for i in indices:
        try:
            wave, _ = io.load(corpus.sources[i], feature_extractor.sampling_rate)
        except io.AudioReadError as error:
            logger.warning(f"skipped: {error}")
        else:
            yield corpus.path(i), pad_to_shortest(torch.from_numpy(wave), feature_extractor)


def _write(output: Path, paths: list[str], embeddings: list[np.ndarray], times: list[np.ndarray]) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    counts = [len(clip) for clip in embeddings]
    arrays = {"embeddings": np.concatenate(embeddings)}
    if times:
        arrays |= {"times": np.concatenate(times), "offsets": np.cumsum([0, *counts])}
    # a reader never finds half a file under the final name
    partial = output.with_name(f".partial-{output.name}")
    if output.suffix == ".npz":
        np.savez(partial, paths=np.array(paths), **arrays)
    elif output.suffix == ".safetensors":
        from safetensors.numpy import save_file

        save_file(arrays, partial, metadata={"paths": json.dumps(paths)})
    else:
        import pyarrow as pa
        from pyarrow import parquet

        flat = pa.array(arrays["embeddings"].ravel())
        columns = {"path": np.repeat(paths, counts)}
        if times:
            columns["time"] = arrays["times"]
        columns["embedding"] = pa.FixedSizeListArray.from_arrays(flat, arrays["embeddings"].shape[1])
        parquet.write_table(pa.table(columns), partial)
    partial.replace(output)
