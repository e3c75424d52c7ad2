# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Codebooks. Numbers of BEATs' original: tests/parity."""

import pytest
import torch
from torch import distributed
from torch.multiprocessing.spawn import start_processes
from torch.nn import functional as F

from hf_audio_ssl.modules.vector_quantizer import (
    EMAQuantizer,
    RandomProjectionQuantizer,
    code_counts,
    nearest_code,
    spherical_kmeans,
    usage,
)


def blobs(seed=0, per_blob=30):
    """Three groups of unit vectors, and their centres."""
    generator = torch.Generator().manual_seed(seed)
    centres = F.normalize(torch.randn(3, 8, generator=generator), dim=1)
    noise = 0.1 * torch.randn(3, per_blob, 8, generator=generator)
    return F.normalize(centres[:, None] + noise, dim=2).flatten(0, 1), centres


def test_nearest_code_is_nearest():
    torch.manual_seed(0)
    vectors, codebook = torch.randn(2, 5, 4), torch.randn(7, 4)
    expected = (vectors[:, :, None] - codebook).square().sum(dim=3).argmin(dim=2)
    assert torch.equal(nearest_code(vectors, codebook), expected)


def test_usage_counts_what_is_real():
    labels, valid = torch.tensor([[0, 1, 1], [3, 3, 3]]), torch.tensor([[True, True, True], [True, False, False]])
    assert code_counts(labels, 5).tolist() == [1, 2, 0, 3, 0]
    counts = code_counts(labels, 5, valid)
    assert counts.tolist() == [1, 2, 0, 1, 0]
    perplexity, used = usage(counts)
    entropy = -(2 * 0.25 * torch.tensor(0.25).log() + 0.5 * torch.tensor(0.5).log())
    torch.testing.assert_close(perplexity, entropy.exp())
    assert used.item() == pytest.approx(3 / 5)
    assert usage(torch.ones(6))[0].item() == pytest.approx(6)


def test_kmeans_finds_groups_and_keeps_what_nothing_is_near():
    vectors, centres = blobs()
    first = torch.stack([vectors[0], vectors[30], vectors[60], -centres.sum(0)])
    first[3] = F.normalize(first[3], dim=0)
    means, counts = spherical_kmeans(vectors, first, 5)
    assert counts.tolist() == [30, 30, 30, 0]
    assert ((means[:3] * centres).sum(1) > 0.99).all() and torch.equal(means[3], first[3])


def test_codes_start_at_the_first_batch_then_follow_the_mean():
    vectors, _ = blobs()
    quantizer = EMAQuantizer(3, 8, decay=0.9)
    quantizer(vectors, kmeans_indices=torch.tensor([0, 30, 60]))
    assert quantizer.initialised.item() == 1 and quantizer.initial_counts.sum() == 90
    before = quantizer.codebook.clone()
    moved = F.normalize(vectors + 0.2, dim=1)
    _, _, labels = quantizer(moved)
    for code in range(3):
        mean = F.normalize(moved[labels == code].sum(0), dim=0)
        expected = F.normalize(0.9 * before[code] + 0.1 * mean, dim=0)
        torch.testing.assert_close(quantizer.codebook[code], expected)


def test_first_means_are_distinct_real_vectors():
    vectors, _ = blobs()
    valid = torch.ones(90, dtype=torch.bool)
    valid[10:] = False
    quantizer = EMAQuantizer(10, 8)
    quantizer.kmeans_iterations = 0
    quantizer.decay = 1.0
    quantizer(vectors, valid)
    distances = torch.cdist(quantizer.codebook, vectors[:10])
    assert sorted(distances.argmin(dim=1).tolist()) == list(range(10)) and distances.min(dim=1).values.max() < 1e-3


def test_padding_changes_neither_loss_nor_codebook():
    vectors, _ = blobs()
    valid = torch.ones(2, 45, dtype=torch.bool)
    valid[1, 20:] = False
    results = []
    for fill in (0.0, 9.0):
        batch = vectors.view(2, 45, 8).masked_fill(~valid[..., None], fill)
        quantizer = EMAQuantizer(3, 8)
        _, loss, _ = quantizer(batch, valid, kmeans_indices=torch.tensor([0, 30, 60]))
        results.append((loss, quantizer.codebook, quantizer.cluster_size, quantizer.initial_counts))
    for one, other in zip(*results):
        torch.testing.assert_close(one, other)
    assert results[0][3].sum() == valid.sum()


def test_evaluation_and_steps_that_are_not_finite_leave_no_trace():
    vectors, _ = blobs()
    quantizer = EMAQuantizer(3, 8)
    quantizer(vectors * float("nan"))
    assert not quantizer.initialised and not quantizer.codebook.any()
    quantizer(vectors)
    assert quantizer.initialised and quantizer.codebook.isfinite().all()
    before = {name: buffer.clone() for name, buffer in quantizer.named_buffers()}
    quantizer(vectors * float("nan"))
    quantizer.eval()(vectors + 1)
    for name, buffer in quantizer.named_buffers():
        assert torch.equal(buffer, before[name]), name


def test_gradient_passes_straight_through():
    vectors = blobs()[0].clone().requires_grad_()
    quantizer = EMAQuantizer(3, 8)
    quantized, _, labels = quantizer(vectors)
    first_codes = quantized.detach()
    weight = torch.randn_like(vectors)
    (quantized * weight).sum().backward()
    leaf = vectors.detach().clone().requires_grad_()
    (F.normalize(leaf, dim=1) * weight).sum().backward()
    torch.testing.assert_close(vectors.grad, leaf.grad)
    torch.testing.assert_close(first_codes.norm(dim=1), torch.ones(90))


def _one_of_two(rank, folder, iterations):
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    torch.manual_seed(rank)
    vectors, _ = blobs()
    vectors = vectors.view(3, 30, 8)[:, rank::2].flatten(0, 1)
    quantizer = EMAQuantizer(3, 8, kmeans_iterations=iterations)
    for _ in range(3):
        quantizer(vectors, torch.arange(len(vectors)) < len(vectors) - 5 * rank)
    torch.save(dict(quantizer.named_buffers()), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.parametrize("iterations", [0, 10])
def test_two_processes_keep_one_codebook(tmp_path, iterations):
    """Started from the first process's vectors, moved by the vectors of both."""
    start_processes(_one_of_two, (str(tmp_path), iterations), nprocs=2, start_method="spawn")
    one, two = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    for name, buffer in one.items():
        assert torch.equal(buffer, two[name]), name
    assert one["initial_counts"].sum() == (85 if iterations else 0)


def test_random_labels_are_a_function_of_the_seed():
    torch.manual_seed(1)
    vectors, labels = torch.randn(200, 12), []
    for generator_state, seed in ((1, 0), (2, 0), (1, 3)):
        torch.manual_seed(generator_state)
        quantizer = RandomProjectionQuantizer(12, 16, 4, seed)
        labels.append(quantizer(vectors))
    assert torch.equal(labels[0], labels[1]) and not torch.equal(labels[0], labels[2])
    projected = F.normalize(vectors @ quantizer.projection.T, dim=1)
    assert torch.equal(labels[2], torch.cdist(projected, quantizer.codebook).argmin(dim=1))
    assert len(labels[0].unique()) > 12
