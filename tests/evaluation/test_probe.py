# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
import numpy as np
import pytest

from hf_audio_ssl.evaluation.probe import (
    PROBES,
    knn_probe,
    leave_one_group_out,
    linear_probe,
    prototypical_probe,
    stratified_folds,
)

probes = pytest.mark.parametrize("probe", PROBES.values(), ids=PROBES.keys())


def blobs(clips=300, classes=5, dim=16, distance=6.0, seed=0):
    """Gaussian classes, with features of wildly different offset and scale, as embeddings have."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, clips)
    x = rng.normal(size=(classes, dim))[y] * distance + rng.normal(size=(clips, dim))
    return x * np.logspace(-3, 3, dim) + 1e3, y


@probes
def test_separable_classes_are_found(probe):
    x, y = blobs()
    assert probe(x[:200], y[:200], x[200:], y[200:])["accuracy"] == 1.0


@probes
def test_random_labels_give_chance(probe):
    x, _ = blobs(clips=2000)
    y = np.random.default_rng(1).integers(0, 5, 2000)
    accuracy = probe(x[:1000], y[:1000], x[1000:], y[1000:])["accuracy"]
    assert accuracy == pytest.approx(0.2, abs=4 * (0.2 * 0.8 / 1000) ** 0.5)


@probes
def test_class_ids_need_not_be_consecutive(probe):
    x, y = blobs()
    y = y * 7 + 3
    assert probe(x[:200], y[:200], x[200:], y[200:])["accuracy"] == 1.0


@probes
def test_multi_label_is_ranked_per_class(probe):
    rng = np.random.default_rng(0)
    y = (rng.random((600, 4)) < 0.3).astype(float)
    y[:400, 3] = 0  # never seen in training: cannot be learnt, must not fail
    x = y[:, :3] @ rng.normal(size=(3, 12)) * 4 + rng.normal(size=(600, 12))
    known = probe(x[:400], y[:400, :3], x[400:], y[400:, :3])
    assert known["mAP"] > 0.9 and known["roc_auc"] > 0.9
    assert probe(x[:400], y[:400], x[400:], y[400:])["mAP"] < known["mAP"]


def test_knn_weights_and_k_by_hand():
    # after standardisation (mean 0, deviation 1 of the training part) the points keep their directions
    train_x = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    train_y = np.array([0, 1, 2, 3])
    test_x = np.array([[1.0, 0.1], [-0.1, 1.0], [-1.0, -0.1], [0.1, -1.0]])
    assert knn_probe(train_x, train_y, test_x, train_y, k=1)["accuracy"] == 1.0
    assert knn_probe(train_x, train_y, test_x, train_y, k=50)["accuracy"] == 1.0  # more than there are: all, weighted
    # without weights the two clips of class 1 outvote the closer single clip of class 0
    train_x = np.array([[1.0, 0.0], [0.5, 0.9], [0.5, -0.9], [-2.0, 0.0]])
    train_y, query = np.array([0, 1, 1, 2]), np.array([[1.0, 0.0]])
    assert knn_probe(train_x, train_y, query, [0], k=3, temperature=0.07)["accuracy"] == 1.0
    assert knn_probe(train_x, train_y, query, [0], k=3, temperature=100.0)["accuracy"] == 0.0


def test_standardisation_uses_the_training_part_only():
    x, y = blobs()
    outlier = np.concatenate([x[200:], np.full((1, x.shape[1]), 1e6)])
    labels = np.append(y[200:], 0)
    for probe in PROBES.values():
        # an absurd test clip changes the accuracy by at most itself
        assert probe(x[:200], y[:200], outlier, labels)["accuracy"] >= 100 / 101


def test_bad_input_is_named():
    x, y = blobs(clips=20)
    with pytest.raises(ValueError, match=r"train_x.*\(20, 16\) and \(19,\)"):
        linear_probe(x, y[:19], x, y)
    with pytest.raises(ValueError, match="test_x.*NaN"):
        knn_probe(x, y, x * np.nan, y)
    with pytest.raises(ValueError, match="at least two classes"):
        linear_probe(x, np.zeros(20), x, y)
    with pytest.raises(ValueError, match="at least two groups"):
        leave_one_group_out(x, y, np.zeros(20))


def test_leave_one_group_out_never_trains_on_the_test_group():
    groups = np.repeat(["anna", "ben", "cleo"], [10, 20, 30])
    x = np.arange(60.0)[:, None]  # the clip's number: shows which clips a probe sees
    seen = []

    def spy(train_x, train_y, test_x, test_y):
        train, test = groups[train_x[:, 0].astype(int)], groups[test_x[:, 0].astype(int)]
        assert len(set(test)) == 1 and not set(test) & set(train)
        assert len(train) + len(test) == 60
        seen.append(test[0])
        return {"accuracy": len(test) / 60}

    result = leave_one_group_out(x, np.zeros(60), groups, spy)
    assert seen == ["anna", "ben", "cleo"]
    assert result["per_group"]["ben"] == {"accuracy": 20 / 60}
    assert result["mean"]["accuracy"] == pytest.approx(1 / 3)  # groups, not clips, weigh the same


def test_a_shortcut_through_the_group_does_not_survive():
    # embeddings say only who speaks, and the speaker decides the label: known speakers score high, held-out ones fail
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 6, 600)
    y = groups % 3
    x = np.eye(6)[groups] + 0.01 * rng.normal(size=(600, 6))
    assert leave_one_group_out(x, y, stratified_folds(y))["mean"]["accuracy"] == 1.0
    assert leave_one_group_out(x, y, groups, prototypical_probe)["mean"]["accuracy"] < 0.6


def test_folds_are_stratified_and_repeatable():
    y = np.repeat([0, 1], [50, 100])
    fold = stratified_folds(y, folds=5, seed=3)
    assert all((fold[y == label] == number).sum() == (y == label).sum() / 5 for label in (0, 1) for number in range(5))
    assert np.array_equal(fold, stratified_folds(y, folds=5, seed=3))
    assert set(stratified_folds(np.zeros((10, 3)), folds=2)) == {0, 1}
