# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Discrete labels for vectors: a codebook on the unit sphere that follows its vectors, and a random one that never
moves.
"""

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F


def all_reduce_sum(value: Tensor) -> Tensor:
    """`value` summed over processes, in place; as it is without any."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(value)
    return value


def nearest_code(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Index of the nearest row of `codebook` (codes, dim) by Euclidean distance. (..., dim) -> (...)."""
    return (codebook.square().sum(dim=1) - 2 * (vectors @ codebook.T)).argmin(dim=-1)


def code_counts(labels: Tensor, num_codes: int, weight: Tensor | None = None) -> Tensor:
    """How often each code occurs in `labels`, each counted `weight` times (same shape). (num_codes,), float32."""
    labels = labels.flatten()
    weight = labels.new_ones(1, dtype=torch.float32).expand_as(labels) if weight is None else weight.flatten().float()
    return labels.new_zeros(num_codes, dtype=torch.float32).scatter_add_(0, labels, weight)


def usage(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Perplexity of the codes' distribution (1 = all the same, number of codes = uniform), and the share in use."""
    share = counts / counts.sum().clamp(min=1)
    return torch.special.entr(share).sum().exp(), (counts > 0).float().mean()


def spherical_kmeans(samples: Tensor, means: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """k-means of unit vectors by cosine, over all processes. A mean without samples stays.

    Args:
        samples: (n, dim), those of this process; rows of zeros count for nothing.
        means: (k, dim), first means, the same on all processes.

    Returns:
        Means (k, dim) and the number of samples of each in the last iteration (k,).
    """
    weight = samples.square().sum(dim=1).sign()
    counts = means.new_zeros(len(means))
    for _ in range(iterations):
        labels = (samples @ means.T).argmax(dim=1)
        counts = all_reduce_sum(code_counts(labels, len(means), weight))
        sums = all_reduce_sum(torch.zeros_like(means).index_add_(0, labels, samples))
        means = torch.where(counts[:, None] > 0, F.normalize(sums, dim=1), means)
    return means, counts


class EMAQuantizer(nn.Module):
    """Vector quantisation on the unit sphere (BEATs, section 3.2; BEiT v2).

    Codes follow the mean of their vectors as an exponential moving average and are kept at length one; the first batch
    starts them by k-means. All of it is in buffers, the same on every process. The update needs training mode.

    Args:
        num_codes, dim: size of the codebook.
        decay: of the moving average.
        kmeans_iterations: at the start.
    """

    def __init__(self, num_codes: int, dim: int, decay: float = 0.99, kmeans_iterations: int = 10):
        super().__init__()
        self.decay = decay
        self.kmeans_iterations = kmeans_iterations
        self.register_buffer("codebook", torch.zeros(num_codes, dim))
        self.register_buffer("cluster_size", torch.zeros(num_codes))  # moving average of the codes' counts
        self.register_buffer("initial_counts", torch.zeros(num_codes))  # what the k-means at the start found
        self.register_buffer("initialised", torch.zeros(1))
        self._started = False  # spares the step a look at the device

    @torch.no_grad()
    def start(self, vectors: Tensor, weight: Tensor, indices: Tensor | None) -> None:
        """k-means over the unit vectors (n, dim) with `weight` (n,); `indices` (num_codes,) are the first means."""
        self._started = bool(self.initialised)
        if self._started:
            return
        num_codes = len(self.codebook)
        if indices is None:
            # without replacement while there are enough
            order = torch.rand_like(weight).masked_fill(weight == 0, -1.0).argsort(descending=True)
            count = weight.sum().clamp(min=1).long()
            indices = order[torch.arange(num_codes, device=order.device) % count]
        means = vectors[indices]
        if distributed.is_available() and distributed.is_initialized():
            distributed.broadcast(means, src=0)
        means, counts = spherical_kmeans(vectors * weight[:, None], means, self.kmeans_iterations)
        self._started = bool(torch.isfinite(means).all())  # if not, the next batch tries again
        if self._started:
            self.codebook.copy_(means)
            self.initial_counts.copy_(counts)
            self.initialised.fill_(1.0)

    @torch.no_grad()
    def follow(self, vectors: Tensor, labels: Tensor, weight: Tensor) -> None:
        """One step of the moving averages."""
        old = self.codebook.float()
        counts = all_reduce_sum(code_counts(labels, len(old), weight))
        sums = all_reduce_sum(torch.zeros_like(old).index_add_(0, labels, vectors * weight[:, None]))
        means = torch.where(counts[:, None] > 0, F.normalize(sums, dim=1), old)
        new = F.normalize(torch.lerp(means, old, self.decay), dim=1)
        # a step whose loss is not finite is skipped, and must leave no trace
        finite = torch.isfinite(new).all()
        self.codebook.copy_(torch.where(finite, new, old))
        size = self.cluster_size.float()
        self.cluster_size.copy_(torch.where(finite, torch.lerp(counts, size, self.decay), size))

    def forward(
        self, vectors: Tensor, valid: Tensor | None = None, kmeans_indices: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """
        Args:
            vectors: (..., dim), of any length.
            valid: (...), False = neither counted in the loss nor in the codebook.
            kmeans_indices: rows of the flattened `vectors` that the k-means starts from; drawn if None.

        Returns:
            Codes with the gradient of the unit vectors (straight-through), the commitment loss (mean square between
            unit vectors and codes), and the labels (...), all by the codebook before its update.
        """
        with torch.autocast(vectors.device.type, enabled=False):
            unit = F.normalize(vectors.float(), dim=-1)
            flat = unit.detach().flatten(0, -2)
            weight = flat.new_ones(len(flat)) if valid is None else valid.flatten().float()
            if self.training and not self._started:
                self.start(flat, weight, kmeans_indices)
            labels = nearest_code(flat, self.codebook.float())
            codes = F.embedding(labels, self.codebook.float()).view_as(unit)
            if self.training:
                self.follow(flat, labels, weight)
            error = (codes - unit).square().mean(dim=-1).flatten()
            loss = (error * weight).sum() / weight.sum().clamp(min=1)
        return unit + (codes - unit).detach(), loss, labels.view(vectors.shape[:-1])


class RandomProjectionQuantizer(nn.Module):
    """Labels from a random projection and a random codebook that never learn (BEST-RQ, arXiv 2202.01855).

    A pure function of `seed`: the same in every process and run; buffers all the same, so that a checkpoint does not
    depend on a random generator.
    """

    def __init__(self, input_size: int, num_codes: int, dim: int, seed: int = 0):
        super().__init__()
        self.sizes = (input_size, num_codes, dim)
        self.seed = seed
        projection, codebook = self.initial_values()
        self.register_buffer("projection", projection)
        self.register_buffer("codebook", codebook)

    def initial_values(self) -> tuple[Tensor, Tensor]:
        """Xavier-normal projection; codes uniform on the unit sphere."""
        input_size, num_codes, dim = self.sizes
        generator = torch.Generator("cpu").manual_seed(self.seed)
        options = {"generator": generator, "device": "cpu", "dtype": torch.float32}
        projection = torch.randn(dim, input_size, **options) * (2 / (dim + input_size)) ** 0.5
        return projection, F.normalize(torch.randn(num_codes, dim, **options), dim=1)

    @torch.no_grad()
    def forward(self, vectors: Tensor) -> Tensor:
        """(..., input_size) -> labels (...): the code with the smallest angle to the projection."""
        with torch.autocast(vectors.device.type, enabled=False):
            projected = vectors.float() @ self.projection.float().T
            return (projected @ self.codebook.float().T).argmax(dim=-1)
