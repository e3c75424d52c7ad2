# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Selective state spaces (Mamba, arXiv 2312.00752) in both directions, in time and memory linear in the length.

`selective_scan` runs in plain PyTorch on any device; on CUDA it calls mamba_ssm's kernel where that is installed.
"""

import functools
import importlib
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import initialization as init

# states held at a time, (batch, chunk, state, channels): on a CPU what stays in the cache, elsewhere what keeps the
# device busy
_CPU_STATES, _DEVICE_STATES = 2**19, 2**24


def selective_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, reverse: bool = False
) -> Tensor:
    """The recurrence of a selective state space (equations 1 to 3 and algorithm 2 of the paper), for each channel:

        h_t = exp(softplus(delta_t) A) h_(t-1) + softplus(delta_t) B_t u_t,        y_t = C_t . h_t + D u_t

    with h = 0 before the first step, or after the last one if `reverse`. States are computed in float32, or float64 if
    the input is that.

    Args:
        u, delta: (batch, length, channels); `delta` is taken before its softplus.
        A: (channels, state), negative: then no step can grow a state, however large `delta` is.
        B, C: (batch, length, state).
        D: (channels,).

    Returns:
        y (batch, length, channels) in the type of `u`.
    """
    # a compiler sees through the scan, but not into the kernel
    fusible = u.is_cuda and u.dtype != torch.float64 and not torch.compiler.is_compiling()
    if fusible and (kernel := fused_scan()) is not None:
        y = scan_through_kernel(kernel, u, delta, A, B, C, reverse)
    else:
        dtype = torch.float64 if u.dtype == torch.float64 else torch.float32
        arguments = (x.to(dtype) for x in (u, delta, A, B, C))
        y = _ChunkedScan.apply(*arguments, reverse, _chunk_length(u, A)).to(u.dtype)
    return torch.addcmul(y, u, D.to(u.dtype))


@functools.cache
def fused_scan():
    """`selective_scan_fn` of mamba_ssm, or None where it is not installed, was built for another torch, or, as newer
    versions allow, was built without this kernel.
    """
    try:
        interface = importlib.import_module("mamba_ssm.ops.selective_scan_interface")
    except (ImportError, OSError, RuntimeError):
        return None
    # the compiled module; a build without it imports, and fails when the function is called
    return interface.selective_scan_fn if interface.selective_scan_cuda is not None else None


def scan_through_kernel(kernel, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, reverse: bool) -> Tensor:
    """`selective_scan` without the D term through `kernel`, which has the interface of mamba_ssm's: time comes last,
    and runs forward only.
    """
    u, delta, B, C = (x.to(u.dtype).transpose(1, 2) for x in (u, delta, B, C))
    if reverse:
        u, delta, B, C = (x.flip(2) for x in (u, delta, B, C))
    y = kernel(u, delta, A.float(), B, C, delta_softplus=True)
    return (y.flip(2) if reverse else y).transpose(1, 2)


def _chunk_length(u: Tensor, A: Tensor) -> int:
    """Steps per chunk: a power of two that keeps the chunk's states within the budget."""
    if torch.compiler.is_compiling():
        return 256  # the batch may be symbolic, and every chunk makes the graph longer
    budget = _CPU_STATES if u.device.type == "cpu" else _DEVICE_STATES
    steps = budget // max(u.shape[0] * A.numel(), 1)
    return min(max(2 ** (steps.bit_length() - 1), 8), 256) if steps else 8


class _ChunkedScan(torch.autograd.Function):
    """The scan over chunks, carrying the state from one to the next.

    Of the states, (length, state, channels), only those at the chunks' borders are kept for the backward pass, which
    computes the others again. Decays are products of numbers in (0, 1]: they may vanish but never overflow, so no
    logarithm, division or cumulative sum is needed.
    """

    @staticmethod
    def forward(ctx, u, delta, A, B, C, reverse, chunk):
        borders, y = [u.new_zeros(u.shape[0], A.shape[1], u.shape[2])], torch.empty_like(u)
        last = 0 if reverse else -1
        rate, room = _base_2(A), _room(3, u, A, chunk)
        with torch.autocast(u.device.type, enabled=False):
            for span in _spans(u.shape[1], chunk, reverse):
                step = F.softplus(delta[:, span])
                decay = _outer(step, rate, room[0]).exp2_()
                states = _outer(step * u[:, span], B[:, span, :, None], room[1])
                _scan(decay, states, borders[-1], reverse, room[2])
                y[:, span] = (C[:, span, None] @ states).squeeze(2)
                borders.append(states[:, last].clone())
        ctx.save_for_backward(u, delta, A, B, C, torch.stack(borders[:-1]))
        ctx.reverse, ctx.chunk = reverse, chunk
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dy):
        u, delta, A, B, C, borders = ctx.saved_tensors
        first, last = (-1, 0) if ctx.reverse else (0, -1)
        # the states one step earlier in the order of the scan
        at, before = (slice(None, -1), slice(1, None)) if ctx.reverse else (slice(1, None), slice(None, -1))
        du, ddelta, dB, dC = (torch.empty_like(x) for x in (u, delta, B, C))
        rate, linear, room = _base_2(A), A.T.contiguous(), _room(5, u, A, ctx.chunk)
        drate, carry = torch.zeros_like(rate), torch.zeros_like(borders[0])
        spans = _spans(u.shape[1], ctx.chunk, ctx.reverse)
        with torch.autocast(u.device.type, enabled=False):
            for span, border in zip(spans[::-1], borders.flip(0)):
                step = F.softplus(delta[:, span])
                source = step * u[:, span]
                decay = _outer(step, rate, room[0]).exp2_()
                states = _outer(source, B[:, span, :, None], room[1])
                _scan(decay, states, border, ctx.reverse, room[2])
                dC[:, span] = (dy[:, span, None] @ states.mT).squeeze(2)
                # gradient of the states: the scan in the other direction, each with its successor's decay
                grads = _outer(dy[:, span], C[:, span, :, None], room[3])
                grads[:, last] += carry
                later = torch.empty_like(decay) if room[4] is None else room[4][:, : decay.shape[1]]
                later[:, last] = 1
                later[:, before].copy_(decay[:, at])
                _scan(later, grads, None, not ctx.reverse, room[2])
                carry = decay[:, first] * grads[:, first]
                dB[:, span] = (source[:, :, None] @ grads.mT).squeeze(2)
                dsource = (B[:, span, None] @ grads).squeeze(2)
                du[:, span] = dsource * step
                # gradient of step * A: the state's gradient times what was left of the state before
                grads *= decay
                grads[:, at] *= states[:, before]
                grads[:, first] *= border
                dstep = dsource * u[:, span] + torch.mul(grads, linear, out=states).sum(2)
                ddelta[:, span] = dstep * delta[:, span].sigmoid()
                drate += grads.mul_(step[:, :, None]).sum((0, 1))
        return du, ddelta, drate.T, dB, dC, None, None


def _spans(length: int, chunk: int, reverse: bool) -> list[slice]:
    """Chunks of steps in the order of the scan."""
    spans = [slice(start, min(start + chunk, length)) for start in range(0, length, chunk)]
    return spans[::-1] if reverse else spans


def _base_2(A: Tensor) -> Tensor:
    """A (channels, state) -> (state, channels) such that e^(step A) = 2^(step base_2(A)), which takes a CPU less than
    half the time. Channels come last because they are many, and what is broadcast along them costs nothing.
    """
    return A.T.contiguous() * math.log2(math.e)


def _room(count: int, u: Tensor, A: Tensor, chunk: int) -> list[Tensor | None]:
    """Memory for a chunk's states, `count` times, to be used for all chunks: fresh memory costs more than what is
    computed in it. A compiler finds its own.
    """
    if torch.compiler.is_compiling():
        return [None] * count
    shape = (u.shape[0], min(chunk, u.shape[1]), A.shape[1], u.shape[2])
    return [u.new_empty(shape) for _ in range(count)]


def _outer(x: Tensor, y: Tensor, room: Tensor | None) -> Tensor:
    """x (batch, steps, channels) times y (..., state, 1 or channels) -> (batch, steps, state, channels)."""
    return torch.mul(x[:, :, None], y, out=None if room is None else room[:, : x.shape[1]])


def _scan(decay: Tensor, x: Tensor, start: Tensor | None, reverse: bool, room: Tensor | None) -> None:
    """x_t <- x_t + decay_t x_(t-1) along dimension 1, in place. `start` is the state before.

    An even-odd tree (Brent and Kung 1982): about three passes over the data in 2 log2(length) steps.
    """

    def rows(tensor: Tensor, begin: int, stride: int, count: int) -> Tensor:
        """Rows begin, begin + stride, ... in the order of the scan."""
        end = begin + (count - 1) * stride
        if reverse:
            begin, end = tensor.shape[1] - 1 - end, tensor.shape[1] - 1 - begin
        return tensor[:, begin : end + 1 : stride]

    if start is not None:
        rows(x, 0, 1, 1).addcmul_(rows(decay, 0, 1, 1), start[:, None])
    products, width, used = [decay], 1, 0  # of the decays of 1, 2, 4, ... adjacent rows
    while pairs := products[-1].shape[1] // 2:  # rows 2w - 1, 4w - 1, ... take in the w rows before
        here = rows(products[-1], 1, 2, pairs)
        rows(x, 2 * width - 1, 2 * width, pairs).addcmul_(here, rows(x, width - 1, 2 * width, pairs))
        out = None if room is None else room[:, used : used + pairs]
        products.append(torch.mul(here, rows(products[-1], 0, 2, pairs), out=out))
        width, used = 2 * width, used + pairs
    for product in products[::-1]:  # rows 3w - 1, 5w - 1, ... take in all before
        if (count := (product.shape[1] - 1) // 2) > 0:
            here = rows(product, 2, 2, count)
            rows(x, 3 * width - 1, 2 * width, count).addcmul_(here, rows(x, 2 * width - 1, 2 * width, count))
        width //= 2


class SelectiveStateSpace(nn.Module):
    """One direction of a Mamba mixer: causal depthwise convolution, SiLU, and a scan whose B, C and step depend on the
    input.
    """

    def __init__(self, channels: int, state_size: int, conv_kernel: int, time_step_rank: int):
        super().__init__()
        self.state_size, self.time_step_rank = state_size, time_step_rank
        self.conv1d = nn.Conv1d(channels, channels, conv_kernel, groups=channels)
        self.x_proj = nn.Linear(channels, time_step_rank + 2 * state_size, bias=False)
        self.dt_proj = nn.Linear(time_step_rank, channels)
        self.A_log = nn.Parameter(torch.empty(channels, state_size))
        self.D = nn.Parameter(torch.empty(channels))
        for module in (self.conv1d, self.x_proj):
            module._ssl_init = "torch_default"

    @torch.no_grad()
    def initialize(self) -> None:
        """Mamba's: A = -1, -2, ..., steps log-uniform between 0.001 and 0.1. Call it from `_init_weights`."""
        states = torch.arange(1, self.state_size + 1, dtype=torch.float32, device=self.A_log.device)
        init.copy_(self.A_log, states.log().expand_as(self.A_log))
        init.ones_(self.D)
        bound = self.time_step_rank**-0.5
        init.uniform_(self.dt_proj.weight, -bound, bound)
        step = torch.empty_like(self.dt_proj.bias, dtype=torch.float32).uniform_(math.log(1e-3), math.log(1e-1)).exp()
        # the inverse of softplus
        init.copy_(self.dt_proj.bias, step + (-torch.expm1(-step)).log())

    def forward(self, x: Tensor, valid: Tensor | None = None, reverse: bool = False) -> Tensor:
        """x (batch, length, channels) -> the same shape; `reverse` runs from the last step to the first.

        Steps where `valid` (batch, length, 1) is False must come last; they count as beyond the border.
        """
        kernel, weight = self.conv1d.kernel_size[0], self.conv1d.weight[:, 0].to(x.dtype)
        padded = F.pad(x, (0, 0, 0, kernel - 1) if reverse else (0, 0, kernel - 1, 0))
        u = self.conv1d.bias.to(x.dtype)
        # a sum of shifted copies: no transposition, and no slower than the grouped convolution
        for k in range(kernel):
            shift = kernel - 1 - k if reverse else k
            u = torch.addcmul(u, padded[:, shift : shift + x.shape[1]], weight[:, k])
        u = F.silu(u)
        if valid is not None:
            u = u * valid
        step, B, C = self.x_proj(u).split([self.time_step_rank, self.state_size, self.state_size], dim=-1)
        return selective_scan(u, self.dt_proj(step), -self.A_log.float().exp(), B, C, self.D, reverse)


class BidirectionalMamba(nn.Module):
    """Vision Mamba's mixer (arXiv 2401.09417, section 3.3): two state spaces, one in each direction, share the
    projections and the gate; their mean goes out.
    """

    def __init__(self, hidden_size: int, channels: int, state_size: int, conv_kernel: int, time_step_rank: int):
        super().__init__()
        self.in_proj = nn.Linear(hidden_size, 2 * channels, bias=False)
        self.forward_space = SelectiveStateSpace(channels, state_size, conv_kernel, time_step_rank)
        self.backward_space = SelectiveStateSpace(channels, state_size, conv_kernel, time_step_rank)
        self.out_proj = nn.Linear(channels, hidden_size, bias=False)
        for module in (self.in_proj, self.out_proj):
            module._ssl_init = "torch_default"

    def forward(self, hidden_states: Tensor, valid: Tensor | None = None, reverse: bool = False) -> Tensor:
        """(batch, length, hidden_size) -> the same shape; `reverse` flips the sequence, and the result back.

        Steps where `valid` (batch, length, 1) is False must come last and change nothing at the others.
        """
        x, gate = self.in_proj(hidden_states).chunk(2, dim=-1)
        if valid is not None:
            x = x * valid
        y = self.forward_space(x, valid, reverse) + self.backward_space(x, valid, not reverse)
        return self.out_proj(y * (0.5 * F.silu(gate)))
