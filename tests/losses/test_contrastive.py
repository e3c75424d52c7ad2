# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
import torch

from hf_audio_ssl.losses.contrastive import contrastive_logits, sample_negatives


def test_distractors_are_the_other_masked_frames_of_the_clip_alike():
    mask = torch.tensor([[0, 1, 1, 0, 1, 1], [1, 0, 0, 0, 0, 1]], dtype=torch.bool)
    drawn = sample_negatives(mask, 30000, torch.Generator().manual_seed(0))
    for clip, frames in enumerate(([1, 2, 4, 5], [0, 5])):
        for frame in frames:
            others = [other for other in frames if other != frame]
            share = torch.bincount(drawn[clip, frame], minlength=6) / 30000
            assert share.nonzero().flatten().tolist() == others
            assert (share[others] - 1 / len(others)).abs().max() < 0.015
    assert ((drawn >= 0) & (drawn < 6)).all()


def test_a_single_masked_frame_gets_itself_and_none_gets_something_valid():
    mask = torch.zeros(2, 4, dtype=torch.bool)
    mask[0, 2] = True
    drawn = sample_negatives(mask, 5)
    assert (drawn[0, 2] == 2).all() and ((drawn >= 0) & (drawn < 4)).all()


def test_logits_are_equation_3():
    torch.manual_seed(0)
    predictions, targets = torch.randn(2, 5, 8), torch.randn(2, 5, 8)
    codes = torch.tensor([[[0, 0], [0, 1], [0, 0], [1, 1], [0, 1]]]).expand(2, -1, -1)
    negatives = torch.randint(5, (2, 5, 7))
    logits = contrastive_logits(predictions, targets, codes, negatives, 0.1)
    for clip in range(2):
        for frame in range(5):
            candidates = [frame, *negatives[clip, frame].tolist()]
            for column, other in enumerate(candidates):
                expected = torch.cosine_similarity(predictions[clip, frame], targets[clip, other], dim=0) / 0.1
                if column and torch.equal(codes[clip, frame], codes[clip, other]):
                    assert logits[clip, frame, column] == -torch.inf
                else:
                    torch.testing.assert_close(logits[clip, frame, column], expected)
