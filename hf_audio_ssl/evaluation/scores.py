# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""The figures that audio papers report, as functions of arrays; scikit-learn does the ranking.

`scores` are `(clips, classes)`, larger = more likely, on any monotonic scale; `targets` are `(clips, classes)` with
entries above 0.5 counted as present. A class that never occurs among the targets, or always does, cannot be ranked and
does not enter a macro mean.
"""

import math

import numpy as np


def _ranked_classes(scores, targets) -> tuple[np.ndarray, np.ndarray]:
    """The columns of `scores` and boolean `targets` that hold both present and absent clips."""
    scores, targets = np.asarray(scores, dtype=np.float64), np.asarray(targets) > 0.5
    if scores.ndim != 2 or scores.shape != targets.shape:
        raise ValueError(
            f"`scores` and `targets` must both be (clips, classes), got shapes {scores.shape} and {targets.shape}"
        )
    usable = targets.any(0) & ~targets.all(0)
    if not usable.any():
        raise ValueError(f"none of the {targets.shape[1]} classes occurs in some clips and is absent from others")
    return scores[:, usable], targets[:, usable]


def accuracy(predictions, references) -> float:
    """Share of clips whose predicted class id equals the reference."""
    return float(np.mean(np.asarray(predictions) == np.asarray(references)))


def mean_average_precision(scores, targets) -> float:
    """Macro mean over classes of the average precision, the AudioSet figure."""
    from sklearn.metrics import average_precision_score

    scores, targets = _ranked_classes(scores, targets)
    return float(average_precision_score(targets, scores, average="macro"))


def roc_auc(scores, targets) -> float:
    """Macro mean over classes of the area under the receiver operating characteristic."""
    from sklearn.metrics import roc_auc_score

    scores, targets = _ranked_classes(scores, targets)
    return float(roc_auc_score(targets, scores, average="macro"))


def d_prime(scores, targets) -> float:
    """Separation of two unit Gaussians whose ROC area is the macro AUC: `sqrt(2) * Phi^-1(AUC)`, infinite for 1."""
    from scipy.special import ndtri

    return float(math.sqrt(2) * ndtri(roc_auc(scores, targets)))


def equal_error_rate(scores, targets) -> float:
    """Error rate at the threshold where false acceptances are as frequent as false rejections (speaker verification).

    `scores` and `targets` are `(trials,)`; a target is 1 for a pair of the same speaker. Between two thresholds the
    curve is a straight line.
    """
    from sklearn.metrics import roc_curve

    scores, targets = np.asarray(scores, dtype=np.float64), np.asarray(targets) > 0.5
    if scores.ndim != 1 or scores.shape != targets.shape or targets.all() or not targets.any():
        raise ValueError(
            "`scores` and `targets` must both be (trials,) with at least one trial of each kind, got shapes "
            f"{scores.shape} and {targets.shape} with {int(targets.sum())} target trials"
        )
    false_accept, true_accept, _ = roc_curve(targets, scores, drop_intermediate=False)
    # false_accept - false_reject rises from -1 to 1 along the curve: where it crosses 0, interpolate
    excess = false_accept - (1 - true_accept)
    after = int(np.argmax(excess >= 0))
    share = -excess[after - 1] / (excess[after] - excess[after - 1])
    return float(false_accept[after - 1] + share * (false_accept[after] - false_accept[after - 1]))
