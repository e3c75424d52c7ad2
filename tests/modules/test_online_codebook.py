# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Several processes: tests/models/dinosr/test_dinosr.py."""

import pytest
import torch

from hf_audio_ssl.modules.online_codebook import OnlineCodebook

BOOKS, SIZE, DIM = 2, 5, 3


@pytest.fixture
def codebook():
    torch.manual_seed(0)
    codebook = OnlineCodebook(BOOKS, SIZE, DIM, decay=0.8)
    codebook.sums.normal_()
    codebook.counts.uniform_(0.5, 3)
    return codebook


@pytest.fixture
def batch(codebook):
    """Vectors (books, 4, 6, dim), their codes, and which of them count."""
    vectors = torch.randn(BOOKS, 4, 6, DIM)
    return vectors, codebook.assign(vectors), torch.rand(4, 6) < 0.7


def test_the_nearest_codeword_is_assigned(codebook, batch):
    vectors, codes, _ = batch
    assert codes.shape == (BOOKS, 4, 6)
    for book in range(BOOKS):
        codewords = codebook.sums[book] / codebook.counts[book][:, None]
        assert torch.equal(codes[book], torch.cdist(vectors[book], codewords).argmin(dim=-1))


def test_codewords_that_were_hit_move_and_the_others_stay(codebook, batch):
    vectors, codes, counted = batch
    codes[codes == 4] = 3
    sums, counts = codebook.sums.clone(), codebook.counts.clone()
    codebook.collect(vectors, codes, counted)
    assert torch.equal(codebook.sums, sums) and torch.equal(codebook.counts, counts)
    codebook.update()
    for book in range(BOOKS):
        for word in range(SIZE):
            own = vectors[book][(codes[book] == word) & counted]
            if len(own):
                sums[book, word] = 0.8 * sums[book, word] + 0.2 * own.sum(dim=0)
                counts[book, word] = 0.8 * counts[book, word] + 0.2 * len(own)
    torch.testing.assert_close(codebook.sums, sums)
    torch.testing.assert_close(codebook.counts, counts)
    assert torch.equal(codebook.counts[:, 4], counts[:, 4])
    assert not codebook.pending_sums.any() and not codebook.pending_counts.any()


def test_accumulated_batches_are_one_batch(codebook, batch):
    vectors, codes, counted = batch
    parts = OnlineCodebook(BOOKS, SIZE, DIM, decay=0.8)
    parts.load_state_dict(codebook.state_dict())
    codebook.collect(vectors, codes, counted)
    for rows in (slice(0, 1), slice(1, 4)):
        parts.collect(vectors[:, rows], codes[:, rows], counted[rows])
    codebook.update()
    parts.update()
    torch.testing.assert_close(parts.sums, codebook.sums)
    assert torch.equal(parts.counts, codebook.counts)


def test_a_vector_that_is_not_finite_does_not_stay(codebook, batch):
    vectors, codes, counted = batch
    vectors[0, 0, 0, 0], counted[0, 0] = float("nan"), True
    codebook.collect(vectors, codes, counted)
    codebook.update()
    assert codebook.sums.isfinite().all() and not codebook.pending_sums.any()


def test_sums_keep_their_precision(codebook):
    sums = codebook.sums.clone()
    assert torch.equal(torch.nn.ModuleList([codebook]).to(torch.bfloat16)[0].sums, sums)
    assert codebook.half().counts.dtype == torch.float32
    with torch.device("meta"):
        empty = OnlineCodebook(BOOKS, SIZE, DIM, decay=0.8)
    assert empty.to_empty(device="cpu").sums.device.type == "cpu"


def test_what_is_pending_is_not_saved(codebook):
    assert codebook.state_dict().keys() == {"sums", "counts"}
