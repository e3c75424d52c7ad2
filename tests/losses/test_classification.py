# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
import pytest
import torch

from hf_audio_ssl.losses.classification import classification_loss

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.0, 1.0, -2.0]])


def test_single_label_is_the_mean_of_negative_log_probabilities():
    expected = -(LOGITS.softmax(-1)[[0, 1], [2, 0]].log()).mean()
    torch.testing.assert_close(classification_loss(LOGITS, torch.tensor([2, 0]), multi_label=False), expected)
    soft = torch.tensor([[0.5, 0.5, 0], [0, 0.1, 0.9]])
    expected = -(soft * LOGITS.log_softmax(-1)).sum(-1).mean()
    torch.testing.assert_close(classification_loss(LOGITS, soft, multi_label=False), expected)


def test_label_smoothing_mixes_in_the_uniform_distribution():
    target = torch.eye(3)[[2, 0]] * 0.9 + 0.1 / 3
    expected = -(target * LOGITS.log_softmax(-1)).sum(-1).mean()
    loss = classification_loss(LOGITS, torch.tensor([2, 0]), multi_label=False, label_smoothing=0.1)
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("reduction, divisor", [("mean", 6), ("labels", 2.5), ("batch", 2)])
def test_multi_label_reductions(reduction, divisor):
    labels = torch.tensor([[1.0, 0, 0.5], [0, 1, 0]])
    p = LOGITS.sigmoid()
    total = -(labels * p.log() + (1 - labels) * (1 - p).log()).sum()
    loss = classification_loss(LOGITS, labels, multi_label=True, reduction=reduction)
    torch.testing.assert_close(loss, total / divisor)


def test_clips_without_labels_are_finite():
    loss = classification_loss(LOGITS, torch.zeros(2, 3), multi_label=True, reduction="labels")
    assert loss.isfinite() and loss > 0


def test_class_ids_are_no_multi_hot():
    with pytest.raises(ValueError, match=r"labels: got shape \(2,\), expected multi-hot \(2, 3\)"):
        classification_loss(LOGITS, torch.tensor([2, 0]), multi_label=True)
