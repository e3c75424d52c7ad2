# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Codebooks that follow what is assigned to them, without gradients (DinoSR, arXiv 2305.10005, section 3)."""

import torch
from torch import Tensor, nn

from hf_audio_ssl.modules.vector_quantizer import all_reduce_sum


class OnlineCodebook(nn.Module):
    """`num_codebooks` codebooks, each a set of cluster centres kept as running sums and running counts.

    A training step calls `collect` for every batch it sees, and `update` once. So a codebook depends on all vectors of
    the step, not on how they were split over accumulated batches and processes.

    Buffers, in float32 whatever the precision of the model:
        sums (num_codebooks, codebook_size, dim), counts (num_codebooks, codebook_size): a codeword is their quotient.
        pending_sums, pending_counts: what was assigned since the last update; not saved.
    """

    def __init__(self, num_codebooks: int, codebook_size: int, dim: int, decay: float):
        super().__init__()
        self.decay = decay
        for prefix, persistent in (("", True), ("pending_", False)):
            sums = torch.zeros(num_codebooks, codebook_size, dim, dtype=torch.float32)
            counts = torch.zeros(num_codebooks, codebook_size, dtype=torch.float32)
            self.register_buffer(f"{prefix}sums", sums, persistent=persistent)
            self.register_buffer(f"{prefix}counts", counts, persistent=persistent)

    def _apply(self, fn, recurse=True):
        # .half() and .bfloat16() move the buffers, but sums of thousands of vectors need their precision
        precise = dict(self.named_buffers(recurse=False))
        super()._apply(fn, recurse)
        for name, before in precise.items():
            moved = getattr(self, name)
            if moved.dtype != before.dtype:
                setattr(self, name, before.to(moved.device))
        return self

    def codewords(self) -> Tensor:
        """(num_codebooks, codebook_size, dim)."""
        return self.sums / self.counts[..., None]

    @torch.no_grad()
    def assign(self, vectors: Tensor) -> Tensor:
        """The nearest codeword of each vector. (num_codebooks, ..., dim) -> indices (num_codebooks, ...)."""
        flat = vectors.flatten(1, -2).float()
        with torch.autocast(flat.device.type, enabled=False):
            codewords = self.codewords()
            # |v - c|^2 without |v|^2, which is the same for all codewords
            nearness = 2 * flat @ codewords.transpose(1, 2) - codewords.square().sum(dim=-1)[:, None]
        return nearness.argmax(dim=-1).view(vectors.shape[:-1])

    @torch.no_grad()
    def collect(self, vectors: Tensor, codes: Tensor, counted: Tensor) -> None:
        """Note which vectors (num_codebooks, ..., dim) were assigned to `codes` (num_codebooks, ...), where `counted`
        (...) is True.
        """
        flat = vectors.flatten(1, -2).float()
        codeword = torch.arange(self.counts.shape[1], device=codes.device)
        hot = (codes.flatten(1)[..., None] == codeword) & counted.flatten()[:, None]
        hot = hot.to(flat.dtype)
        with torch.autocast(flat.device.type, enabled=False):
            # a product, not a scatter: those add in no fixed order on a GPU, and resuming would not be exact
            self.pending_sums.baddbmm_(hot.transpose(1, 2), flat)
        self.pending_counts.add_(hot.sum(dim=1))

    @torch.no_grad()
    def update(self) -> None:
        """sums and counts <- decay * old + (1 - decay) * collected, for codewords that any process assigned a vector
        to; the others stay as they are. Every process calls it, and ends with the same codebooks.
        """
        all_reduce_sum(self.pending_sums)
        all_reduce_sum(self.pending_counts)
        # a vector that is not finite must not stay in the codebook for ever
        hit = (self.pending_counts > 0) & self.pending_sums.isfinite().all(dim=-1)
        for running, new, where in (
            (self.sums, self.pending_sums, hit[..., None]),
            (self.counts, self.pending_counts, hit),
        ):
            running.copy_(torch.where(where, self.decay * running + (1 - self.decay) * new, running))
            new.zero_()
