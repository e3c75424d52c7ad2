# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
import math
from statistics import NormalDist

import numpy as np
import pytest

from hf_audio_ssl.evaluation import scores
from hf_audio_ssl.evaluation.metrics import Accuracy, DPrime, EqualErrorRate, MeanAveragePrecision, RocAuc

# Two classes over four clips, ranked by score. Class 0 is present, absent, present, absent: average precision
# (1/1 + 2/3) / 2 = 5/6, and of the four pairs (present, absent) three are in order. Class 1 is absent, present,
# absent, absent: average precision 1/2, two of three pairs in order.
SCORES = np.array([[0.9, 0.8], [0.8, 0.1], [0.7, 0.6], [0.1, 0.5]])
TARGETS = np.array([[1, 0], [0, 0], [1, 1], [0, 0]])


def test_average_precision_and_auc_by_hand():
    assert scores.mean_average_precision(SCORES, TARGETS) == pytest.approx((5 / 6 + 1 / 2) / 2)
    assert scores.roc_auc(SCORES, TARGETS) == pytest.approx((3 / 4 + 2 / 3) / 2)


def test_classes_that_cannot_be_ranked_are_left_out():
    constant = np.column_stack([TARGETS, np.zeros(4), np.ones(4)])
    padded = np.column_stack([SCORES, [[0.3, 0.2]] * 4])
    assert scores.mean_average_precision(padded, constant) == scores.mean_average_precision(SCORES, TARGETS)
    with pytest.raises(ValueError, match="none of the 2 classes"):
        scores.roc_auc(SCORES, np.zeros((4, 2)))


def test_d_prime_of_two_gaussians_is_their_distance():
    rng = np.random.default_rng(0)
    targets = np.arange(200_000) % 2
    x = rng.normal(size=len(targets)) + 1.5 * targets
    assert scores.d_prime(x[:, None], targets[:, None]) == pytest.approx(1.5, abs=0.02)
    assert scores.d_prime(SCORES, TARGETS) == pytest.approx(math.sqrt(2) * NormalDist().inv_cdf(17 / 24))
    assert math.isinf(scores.d_prime([[0.0], [1.0]], [[0], [1]]))


@pytest.mark.parametrize(
    "trials, targets, expected",
    [
        ([0.9, 0.8, 0.2, 0.1], [1, 1, 0, 0], 0.0),
        ([0.1, 0.2, 0.8, 0.9], [1, 1, 0, 0], 1.0),
        ([0.9, 0.3, 0.7, 0.1], [1, 1, 0, 0], 0.5),
        # threshold between 0.6 and 0.5: one of three impostors accepted, one of three targets rejected
        ([0.9, 0.8, 0.4, 0.6, 0.3, 0.2], [1, 1, 1, 0, 0, 0], 1 / 3),
    ],
)
def test_equal_error_rate_by_hand(trials, targets, expected):
    assert scores.equal_error_rate(trials, targets) == pytest.approx(expected)


def test_equal_error_rate_of_two_gaussians():
    rng = np.random.default_rng(0)
    targets = np.arange(100_000) % 2
    x = rng.normal(size=len(targets)) + 2 * targets  # crossing at 1: Phi(-1) = 0.1587
    assert scores.equal_error_rate(x, targets) == pytest.approx(0.1587, abs=0.005)


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"\(4, 2\) and \(4, 1\)"):
        scores.mean_average_precision(SCORES, TARGETS[:, :1])
    with pytest.raises(ValueError, match="0 target trials"):
        scores.equal_error_rate([0.1, 0.2], [0, 0])


@pytest.mark.parametrize(
    "metric, predictions, references, expected",
    [
        (Accuracy, [0, 1, 2, 1], [0, 1, 1, 1], {"accuracy": 0.75}),
        (MeanAveragePrecision, SCORES, TARGETS, {"mAP": 2 / 3}),
        (RocAuc, SCORES, TARGETS, {"roc_auc": 17 / 24}),
        (DPrime, SCORES, TARGETS, {"d_prime": scores.d_prime(SCORES, TARGETS)}),
        (EqualErrorRate, [0.9, 0.3, 0.7, 0.1], [1, 1, 0, 0], {"eer": 0.5}),
    ],
)
def test_evaluate_interface_at_once_and_by_batches(metric, predictions, references, expected, tmp_path):
    result = metric(cache_dir=str(tmp_path)).compute(predictions=predictions, references=references)
    assert result == pytest.approx(expected)
    batched = metric(cache_dir=str(tmp_path))
    for start in (0, 2):
        stop = start + 2
        batched.add_batch(predictions=predictions[start:stop], references=references[start:stop])
    assert batched.compute() == pytest.approx(expected)
