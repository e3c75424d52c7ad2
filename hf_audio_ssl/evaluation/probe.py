# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Probes: how well simple classifiers read labels from frozen embeddings.

A probe is a function `(train_x, train_y, test_x, test_y) -> {"accuracy": ...}`. `x` is `(clips, dim)`; `y` holds class
ids `(clips,)`, or multi-hot rows `(clips, classes)`, in which case the result is `{"mAP": ..., "roc_auc": ...}`.
Whatever a probe fits, including the standardisation of the features, it fits on the training part alone.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from hf_audio_ssl.data.corpus import Corpus, StreamingCorpus, open_corpus
from hf_audio_ssl.evaluation import scores
from hf_audio_ssl.evaluation.embeddings import Embeddings, embed_corpus, mel_baseline
from hf_audio_ssl.feature_extraction_base import MelFeatureExtractor
from hf_audio_ssl.registry import from_pretrained

Probe = Callable[..., dict[str, float]]


def _prepare(train_x, train_y, test_x, test_y) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Check the four arrays and standardise the features with the mean and deviation of the training part."""
    from sklearn.preprocessing import StandardScaler

    train_x, test_x = (np.asarray(x, dtype=np.float32) for x in (train_x, test_x))
    train_y, test_y = np.asarray(train_y), np.asarray(test_y)
    for part, x, y in (("train", train_x, train_y), ("test", test_x, test_y)):
        if x.ndim != 2 or len(x) == 0 or len(x) != len(y) or y.ndim not in (1, 2):
            raise ValueError(
                f"`{part}_x` must be (clips, dim) and `{part}_y` (clips,) or (clips, classes) with at least one clip, "
                f"got {x.shape} and {y.shape}"
            )
        if not np.isfinite(x).all():
            raise ValueError(f"`{part}_x` holds NaN or infinite embeddings")
    scaler = StandardScaler().fit(train_x)
    return scaler.transform(train_x), train_y, scaler.transform(test_x), test_y


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True).clip(min=1e-12)


def _class_weights(y: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Labels as `(clips, classes)` floats, and the class id of each column (None for multi-label)."""
    if y.ndim == 2:
        return y.astype(np.float32), None
    classes, index = np.unique(y, return_inverse=True)
    return np.eye(len(classes), dtype=np.float32)[index], classes


def _figures(class_scores: np.ndarray, classes: np.ndarray | None, test_y: np.ndarray) -> dict[str, float]:
    if classes is None:
        return {
            "mAP": scores.mean_average_precision(class_scores, test_y),
            "roc_auc": scores.roc_auc(class_scores, test_y),
        }
    return {"accuracy": scores.accuracy(classes[class_scores.argmax(1)], test_y)}


def linear_probe(train_x, train_y, test_x, test_y, *, C: float = 1.0, max_iter: int = 1000) -> dict[str, float]:
    """Logistic regression on standardised embeddings; one against the rest for multi-label data.

    `C` is scikit-learn's inverse strength of the L2 penalty. The solver stops at a gradient of 1e-3: on standardised
    features that moves accuracies by less than the noise of a few clips and halves the iterations of the default.
    """
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    train_x, train_y, test_x, test_y = _prepare(train_x, train_y, test_x, test_y)

    def fit(y):
        # hundreds of small products: on busy cores, waiting for BLAS threads takes many times longer than one thread
        with threadpool_limits(1):
            return LogisticRegression(C=C, tol=1e-3, max_iter=max_iter).fit(train_x, y)

    if train_y.ndim == 1:
        if len(np.unique(train_y)) < 2:
            raise ValueError("a linear probe needs at least two classes in the training part")
        return {"accuracy": scores.accuracy(fit(train_y).predict(test_x), test_y)}
    class_scores = np.zeros(test_y.shape)
    for k, column in enumerate((train_y > 0.5).T):
        if column.any() and not column.all():  # otherwise there is nothing to learn, and the score stays constant
            class_scores[:, k] = fit(column).decision_function(test_x)
    return _figures(class_scores, None, test_y)


def knn_probe(train_x, train_y, test_x, test_y, *, k: int = 20, temperature: float = 0.07) -> dict[str, float]:
    """Vote of the `k` nearest training clips, each with weight `exp(cosine / temperature)` (arXiv 1805.01978, eq 7).

    The cosine is taken between standardised embeddings: raw ones share a large mean, which makes all clips alike.
    """
    train_x, train_y, test_x, test_y = _prepare(train_x, train_y, test_x, test_y)
    votes, classes = _class_weights(train_y)
    keys, queries, k = _unit(train_x), _unit(test_x), min(k, len(train_x))
    class_scores = np.empty((len(queries), votes.shape[1]), dtype=np.float32)
    for start in range(0, len(queries), 1024):  # bounds the similarity matrix, whatever the number of test clips
        similarity = queries[start : start + 1024] @ keys.T
        nearest = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
        weight = np.exp((np.take_along_axis(similarity, nearest, 1) - 1) / temperature)
        class_scores[start : start + 1024] = np.einsum("qk,qkc->qc", weight, votes[nearest])
    return _figures(class_scores, classes, test_y)


def prototypical_probe(train_x, train_y, test_x, test_y) -> dict[str, float]:
    """Cosine to the mean of each class's standardised, length-normalised embeddings: no parameter is fitted."""
    train_x, train_y, test_x, test_y = _prepare(train_x, train_y, test_x, test_y)
    weights, classes = _class_weights(train_y)
    prototypes = _unit(weights.T @ _unit(train_x))
    return _figures(_unit(test_x) @ prototypes.T, classes, test_y)


PROBES: Mapping[str, Probe] = {"linear": linear_probe, "knn": knn_probe, "prototypical": prototypical_probe}


def leave_one_group_out(x, y, groups, probe: Probe = linear_probe, **probe_arguments) -> dict[str, dict]:
    """Hold each group (a speaker, a recording session, a fold) out once: train on all others, test on it.

    Args:
        x: `(clips, dim)`.
        y: `(clips,)` or `(clips, classes)`.
        groups: `(clips,)`, the group of each clip.
        probe: a probe of this module, called with `probe_arguments` for every group.

    Returns:
        `{"mean": {figure: mean over groups}, "per_group": {group: {figure: value}}}`, every group with equal weight.
    """
    x, y, groups = np.asarray(x), np.asarray(y), np.asarray(groups)
    names = np.unique(groups)
    if groups.shape != (len(x),) or len(names) < 2:
        raise ValueError(
            f"`groups` must give one of at least two groups for each of the {len(x)} clips, "
            f"got shape {groups.shape} with {len(names)} group(s)"
        )
    per_group = {}
    for name in names.tolist():
        held_out = groups == name
        per_group[name] = probe(x[~held_out], y[~held_out], x[held_out], y[held_out], **probe_arguments)
    figures = next(iter(per_group.values()))
    mean = {figure: float(np.mean([result[figure] for result in per_group.values()])) for figure in figures}
    return {"mean": mean, "per_group": per_group}


def layerwise_probe(
    model,
    feature_extractor,
    corpus,
    *,
    probe: Probe = linear_probe,
    pool: str = "mean",
    batch_size: int = 32,
    seed: int = 0,
    num_workers: int = 0,
) -> list[dict[str, float]]:
    """Figures of every hidden state, from the first block's input to the last block's output; one pass over the audio.

    Groups of the corpus are held out one at a time; a corpus without groups is split into five stratified folds.
    """
    count = model.config.num_hidden_layers + 1
    if pool not in ("mean", "cls"):
        raise ValueError(f"pool: got {pool!r}, expected 'mean' or 'cls', which give one vector per layer")
    embeddings = embed_corpus(
        model, feature_extractor, corpus, pool=pool, layers=list(range(count)), batch_size=batch_size,
        num_workers=num_workers,
    )  # fmt: skip
    return [cross_validate(embeddings, probe, x=x, seed=seed)["mean"] for x in np.split(embeddings.x, count, axis=1)]


def cross_validate(
    embeddings: Embeddings, probe: Probe = linear_probe, *, x: np.ndarray | None = None, seed: int = 0
) -> dict[str, dict]:
    """`leave_one_group_out` over the groups of labelled embeddings, or over five stratified folds without groups.

    `x` replaces `embeddings.x`, for a part of its columns.
    """
    if embeddings.labels is None:
        raise ValueError("corpus: has no labels to probe for; see `label_pattern` and `label_column` of open_corpus")
    groups = stratified_folds(embeddings.labels, seed=seed) if embeddings.groups is None else embeddings.groups
    return leave_one_group_out(embeddings.x if x is None else x, embeddings.labels, groups, probe)


def make_probe(
    corpus: Corpus,
    feature_extractor,
    *,
    probes: Sequence[str] = ("linear",),
    pool: str = "mean",
    layers: int | list[int] = -1,
    batch_size: int = 32,
) -> Callable[[PreTrainedModel, int], dict[str, float]]:
    """A function `(model, step) -> {"linear_accuracy": ...}`: the periodic probe that `pretrain` takes.

    Use few clips: the whole corpus is embedded at every call. Raises `ValueError` for probes that do not exist.
    """
    _check_names(probes)

    def probe(model: PreTrainedModel, step: int) -> dict[str, float]:
        embeddings = embed_corpus(model, feature_extractor, corpus, pool=pool, layers=layers, batch_size=batch_size)
        results = {name: cross_validate(embeddings, PROBES[name])["mean"] for name in probes}
        return {f"{name}_{figure}": value for name, result in results.items() for figure, value in result.items()}

    return probe


def _check_names(probes: Sequence[str]) -> None:
    if unknown := [name for name in probes if name not in PROBES]:
        raise ValueError(f"probes: unknown {', '.join(unknown)}; expected some of {', '.join(PROBES)}")


def run_probe(
    model: str | os.PathLike | PreTrainedModel,
    dataset: Any,
    *,
    probes: Sequence[str] = ("linear", "knn"),
    pool: str = "mean",
    layers: int | list[int] = -1,
    baselines: bool = True,
    feature_extractor=None,
    device: str | None = None,
    batch_size: int = 32,
    seed: int = 0,
    num_workers: int = 0,
    **open_options,
) -> list[dict]:
    """Probe a pre-trained encoder, and beside it what it has to beat: the same network untrained, and mel statistics.

    Args:
        model: folder, Hub id or model object.
        dataset: a `Corpus`, or what `open_corpus` opens with `open_options` (`split`, `label_pattern` ...). Its groups
            (speakers) are held out one at a time; without groups, five stratified folds take their place.
        probes: names in `PROBES`.
        baselines: whether the untrained network and the mel statistics are probed too.
        seed: of the untrained network's weights and of the folds.

    Returns:
        One row per kind of features and probe: `{"features", "probe", figure: value ..., "per_group": {...}}`.
    """
    _check_names(probes)
    corpus = dataset if isinstance(dataset, Corpus | StreamingCorpus) else open_corpus(dataset, **open_options)
    if not isinstance(corpus, Corpus):
        raise ValueError("dataset: a probe needs all clips at once, open it without streaming")
    if isinstance(model, str | os.PathLike):
        feature_extractor = feature_extractor or from_pretrained("AutoFeatureExtractor", model)
        model = from_pretrained("AutoModel", model)
    encoder = model.base_model
    encoder = encoder.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    extractor = feature_extractor or encoder.own_feature_extractor()
    how = {"pool": pool, "layers": layers, "batch_size": batch_size, "num_workers": num_workers}

    described = {}
    if baselines:
        mel = extractor
        if not isinstance(extractor, MelFeatureExtractor):
            mel = MelFeatureExtractor(sampling_rate=extractor.sampling_rate, num_mel_bins=64)
        for statistic, name in (("mean", "mel mean"), ("mean_std", "mel mean + deviation")):
            described[name] = mel_baseline(corpus, mel, statistic, num_workers=num_workers)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            untrained = type(encoder)._from_config(encoder.config).to(encoder.device)
        described["untrained"] = embed_corpus(untrained, extractor, corpus, **how)
    described["pre-trained"] = embed_corpus(encoder, extractor, corpus, **how)

    rows = []
    for features, embeddings in described.items():
        for name in probes:
            result = cross_validate(embeddings, PROBES[name], seed=seed)
            rows.append({"features": features, "probe": name, **result["mean"], "per_group": result["per_group"]})
    return rows


def format_rows(rows: Sequence[Mapping]) -> str:
    """The rows of `run_probe` as a Markdown table, in percent; the spread is over the groups."""
    figures = [name for name in rows[0] if name not in ("features", "probe", "per_group")]
    lines = [" | ".join(["| features", "probe", *figures, "worst to best group |"]), "|---" * (3 + len(figures)) + "|"]
    for row in rows:
        groups = [group[figures[0]] for group in row["per_group"].values()]
        values = [f"{100 * row[name]:.1f}" for name in figures]
        spread = f"{100 * min(groups):.1f} to {100 * max(groups):.1f} |"
        lines.append(" | ".join([f"| {row['features']}", row["probe"], *values, spread]))
    return "\n".join(lines)


def stratified_folds(y, folds: int = 5, seed: int = 0) -> np.ndarray:
    """Assign each clip to a fold, classes spread evenly: groups for `leave_one_group_out` where data has none.

    Multi-label clips are dealt out at random.
    """
    from sklearn.model_selection import KFold, StratifiedKFold

    y = np.asarray(y)
    splitter = (StratifiedKFold if y.ndim == 1 else KFold)(folds, shuffle=True, random_state=seed)
    fold = np.empty(len(y), dtype=np.int64)
    for number, (_, held_out) in enumerate(splitter.split(np.zeros(len(y)), y)):
        fold[held_out] = number
    return fold
