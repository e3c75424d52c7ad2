# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
import pytest
import torch

from hf_audio_ssl.modules.span_masking import span_mask


def runs(row):
    """Lengths of the masked runs of one row."""
    text = "".join("x" if masked else " " for masked in row.tolist())
    return [len(run) for run in text.split()]


def test_the_papers_mask_covers_half_in_spans_of_ten():
    """Section 4.1: p = 0.065 for starts, M = 10, about 49 % of all time steps, mean span length 14.7."""
    mask = span_mask(400, 780, 0.65, 10, equal_counts=False, generator=torch.Generator().manual_seed(0))
    assert mask.float().mean().item() == pytest.approx(0.49, abs=0.01)
    lengths = [length for row in mask for length in runs(row)]
    assert min(lengths) == 10
    assert sum(lengths) / len(lengths) == pytest.approx(14.7, abs=0.5)
    assert not mask[:, -1].any() and mask[:, 0].any() and mask[:, -2].any()


def test_starts_are_uniform():
    mask = span_mask(20000, 30, 0.1, 3, min_spans=1, equal_counts=False, generator=torch.Generator().manual_seed(0))
    assert (mask.sum(dim=1) == 3).all()
    starts = torch.bincount(mask.long().argmax(dim=1), minlength=30)
    assert (starts[27:] == 0).all()
    assert (starts[:27] / 20000 - 1 / 27).abs().max() < 0.006


def test_number_of_spans_is_rounded_by_chance_and_has_a_minimum():
    generator = torch.Generator().manual_seed(0)
    # 0.5 * 25 / 5 = 2.5 spans; too long to overlap often: count starts by masked positions
    mask = span_mask(4000, 1000, 0.0025, 1, min_spans=0, equal_counts=False, generator=generator)
    counts = torch.bincount(mask.sum(dim=1), minlength=4)
    assert counts[2] + counts[3] == 4000 and counts[2] / 4000 == pytest.approx(0.5, abs=0.03)
    assert (span_mask(50, 1000, 1e-6, 1, min_spans=4, equal_counts=False).sum(dim=1) == 4).all()


def test_rows_get_as_many_masked_positions_as_the_poorest():
    torch.manual_seed(0)
    free = span_mask(16, 100, 0.65, 10, equal_counts=False)
    torch.manual_seed(0)
    equal = span_mask(16, 100, 0.65, 10)
    assert len(free.sum(dim=1).unique()) > 1
    assert equal.sum(dim=1).unique().tolist() == [free.sum(dim=1).min().item()]
    assert (equal <= free).all()


def test_padding_is_never_masked_and_short_rows_keep_something_visible():
    lengths = torch.tensor([0, 1, 2, 3, 5, 9, 10, 11, 12, 40])
    for seed in range(50):
        mask = span_mask(
            10, 40, 0.65, 10, lengths=lengths, equal_counts=False, generator=torch.Generator().manual_seed(seed)
        )
        count = mask.sum(dim=1)
        assert not (mask & (torch.arange(40) >= lengths[:, None])).any()
        assert count[:2].tolist() == [0, 0]
        assert (count[2:] >= 1).all() and (count[2:] < lengths[2:]).all()


def test_bad_arguments():
    for prob, span in ((0, 10), (1.1, 10), (0.5, 0)):
        with pytest.raises(ValueError, match=f"mask_prob={prob}, span={span}"):
            span_mask(2, 20, prob, span)
