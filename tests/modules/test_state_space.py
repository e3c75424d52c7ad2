# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""The chunked scan against the recurrence written out step by step."""

import sys

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from hf_audio_ssl.modules import state_space
from hf_audio_ssl.modules.state_space import (
    BidirectionalMamba,
    SelectiveStateSpace,
    fused_scan,
    scan_through_kernel,
    selective_scan,
)

DIRECTIONS = pytest.mark.parametrize("reverse", [False, True])


def step_by_step(u, delta, A, B, C, D, reverse=False):
    if reverse:
        u, delta, B, C = (x.flip(1) for x in (u, delta, B, C))
    step, state, outputs = F.softplus(delta), u.new_zeros(u.shape[0], *A.shape), []
    for t in range(u.shape[1]):
        state = (step[:, t, :, None] * A).exp() * state + (step[:, t] * u[:, t])[..., None] * B[:, t, None]
        outputs.append((state * C[:, t, None]).sum(dim=2) + D * u[:, t])
    y = torch.stack(outputs, dim=1)
    return y.flip(1) if reverse else y


def arguments(length, dtype=torch.float64, batch=2, channels=5, states=3, step=1.0):
    generator = torch.Generator().manual_seed(length)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    values = (
        draw(batch, length, channels),
        draw(batch, length, channels) * step,
        -draw(channels, states).exp(),
        draw(batch, length, states),
        draw(batch, length, states),
        draw(channels),
    )
    return [value.to(dtype).requires_grad_() for value in values]


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks of 8 steps, the shortest there are."""
    monkeypatch.setattr(state_space, "_CPU_STATES", 1)


@DIRECTIONS
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 9, 16, 37, 100])
def test_outputs_and_gradients_equal_the_recurrence(small_chunks, length, dtype, reverse):
    inputs = arguments(length, dtype)
    weight = torch.randn(2, length, 5, dtype=dtype)
    expected, actual = step_by_step(*inputs, reverse), selective_scan(*inputs, reverse)
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)
    for one, other in zip(torch.autograd.grad(actual, inputs, weight), torch.autograd.grad(expected, inputs, weight)):
        scale = other.abs().max().clamp(min=1)
        torch.testing.assert_close(one / scale, other / scale, atol=1e-5 if dtype == torch.float32 else 1e-9, rtol=0)


@DIRECTIONS
@pytest.mark.parametrize("length", [1, 8, 11])
def test_gradcheck(small_chunks, length, reverse):
    inputs = arguments(length, channels=2, states=2)
    assert torch.autograd.gradcheck(lambda *x: selective_scan(*x, reverse), inputs)


@pytest.mark.parametrize("length", [20, 300])
def test_chunks_of_any_length_agree(monkeypatch, length):
    inputs = arguments(length)
    results = []
    for states in (1, 2**9, 2**30):
        monkeypatch.setattr(state_space, "_CPU_STATES", states)
        results.append(selective_scan(*inputs))
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], atol=1e-10, rtol=1e-10)


@DIRECTIONS
@pytest.mark.parametrize("step", [1e-6, 30.0, 1e4, 1e30])
def test_no_step_is_too_large(step, reverse):
    """A sum of 2000 such steps in an exponential would be infinite, its inverse zero."""
    inputs = arguments(2000, torch.float32, batch=1, step=step)
    y = selective_scan(*inputs, reverse)
    grads = torch.autograd.grad(y.sum(), inputs)
    assert all(x.isfinite().all() for x in (y, *grads))
    exact = step_by_step(*(x.detach().double() for x in inputs), reverse)
    torch.testing.assert_close(y.double() / exact.abs().max(), exact / exact.abs().max(), atol=1e-5, rtol=0)


def test_steps_that_forget_nothing_add_up():
    length = 3000
    one = torch.ones(1, length, 1)
    delta = torch.full_like(one, torch.tensor(1.0).expm1().log())  # softplus of it is 1
    y = selective_scan(one, delta, torch.full((1, 1), -1e-12), one, one, torch.zeros(1))
    torch.testing.assert_close(y[0, :, 0], torch.arange(1.0, length + 1), rtol=1e-5, atol=1e-3)


def test_half_precision_is_only_of_inputs_and_outputs():
    inputs = [x.detach().bfloat16() for x in arguments(50)]
    exact = selective_scan(*(x.float() for x in inputs))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        floats = [x.float().requires_grad_() for x in inputs]
        inside = selective_scan(*floats)
        grads = torch.autograd.grad(inside.sum(), floats)
    assert torch.equal(inside, exact)
    outside = torch.autograd.grad(selective_scan(*floats).sum(), floats)
    assert all(torch.equal(one, other) for one, other in zip(grads, outside))
    result = selective_scan(*inputs)
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result.float(), exact, atol=0.1, rtol=0.02)


def test_only_states_at_borders_are_kept():
    """What the backward pass needs grows with the length, not with length x states."""
    kept = []
    inputs = arguments(512, torch.float32, batch=1, channels=64, states=16)
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        selective_scan(*inputs)
    sizes = {x.data_ptr(): x.untyped_storage().nbytes() // 4 for x in kept}
    states, given = 512 * 64 * 16, sum(x.numel() for x in inputs)
    # beside the inputs: a state for each chunk of 256 steps, and the output of the scan
    assert max(x.numel() for x in kept) < states / 10
    assert sum(sizes.values()) < given + 2 * 64 * 16 + 512 * 64 + 1


def test_steps_are_not_taken_one_by_one():
    class Count(TorchDispatchMode):
        calls = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            self.calls += 1
            return function(*args, **(kwargs or {}))

    counts = []
    for length in (1024, 4096):
        inputs = [x.detach() for x in arguments(length, torch.float32, batch=1)]
        with Count() as counter:
            selective_scan(*inputs)
        counts.append(counter.calls)
    assert counts[0] < 1024 and counts[1] < 4.2 * counts[0]


@DIRECTIONS
def test_a_kernel_with_the_interface_of_mamba_ssm_gives_the_same(reverse):
    """Its documented interface: time last, A (channels, states), softplus inside, no D and no gate asked for."""

    def selective_scan_fn(
        u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False, return_last_state=False
    ):
        assert D is z is delta_bias is None and delta_softplus and not return_last_state
        assert u.shape == delta.shape == (2, 5, 33) and B.shape == C.shape == (2, 3, 33) and A.shape == (5, 3)
        u, delta, B, C = (x.transpose(1, 2) for x in (u, delta, B, C))
        return step_by_step(u, delta, A, B, C, u.new_zeros(5)).transpose(1, 2)

    inputs = arguments(33, torch.float32)
    D = inputs.pop()
    y = scan_through_kernel(selective_scan_fn, *inputs, reverse)
    torch.testing.assert_close(y, selective_scan(*inputs, torch.zeros_like(D), reverse), atol=1e-5, rtol=1e-5)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Writes an interface module of mamba_ssm that can be imported."""

    def install(source: str):
        folder = tmp_path / "mamba_ssm" / "ops"
        folder.mkdir(parents=True)
        (folder / "selective_scan_interface.py").write_text(source)
        monkeypatch.syspath_prepend(tmp_path)

    fused_scan.cache_clear()
    yield install
    fused_scan.cache_clear()
    for name in [name for name in sys.modules if name.split(".")[0] == "mamba_ssm"]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("selective_scan_cuda = 1\ndef selective_scan_fn(): pass", True),
        ("selective_scan_cuda = None\ndef selective_scan_fn(): raise RuntimeError", False),
        ("import selective_scan_cuda", False),
        ("raise OSError('undefined symbol')", False),
    ],
)
def test_the_kernel_is_used_where_it_was_built(installed, source, found):
    installed(source)
    assert (fused_scan() is not None) == found


def make(cls, *sizes):
    torch.manual_seed(0)
    module = cls(*sizes)
    for part in module.modules():
        if isinstance(part, SelectiveStateSpace):
            part.initialize()
    return module


def test_one_direction_written_out():
    module, x = make(SelectiveStateSpace, 6, 4, 3, 2), torch.randn(2, 9, 6)
    u = F.silu(F.conv1d(F.pad(x.mT, (2, 0)), module.conv1d.weight, module.conv1d.bias, groups=6)).mT
    step, B, C = module.x_proj(u).split([2, 4, 4], dim=-1)
    expected = step_by_step(u, module.dt_proj(step), -module.A_log.exp(), B, C, module.D)
    torch.testing.assert_close(module(x), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(module(x, reverse=True), module(x.flip(1)).flip(1), atol=1e-6, rtol=1e-5)


def test_mambas_initialisation():
    module = make(SelectiveStateSpace, 4000, 16, 4, 12)
    torch.testing.assert_close(module.A_log.exp(), torch.arange(1.0, 17).expand(4000, 16))
    assert (module.D == 1).all()
    step = F.softplus(module.dt_proj.bias.detach()).log10()
    assert -3.001 < step.min() < -2.99 and -1.01 < step.max() < -0.999
    assert step.mean() == pytest.approx(-2, abs=0.05)  # log-uniform
    assert module.dt_proj.weight.detach().abs().max() == pytest.approx(12**-0.5, rel=1e-3)


@DIRECTIONS
def test_mixer_sees_both_ways_and_no_padding(reverse):
    mixer, x = make(BidirectionalMamba, 8, 12, 4, 4, 2), torch.randn(2, 11, 8)
    with torch.no_grad():
        y = mixer(x, reverse=reverse)
        torch.testing.assert_close(y.flip(1), mixer(x.flip(1), reverse=not reverse), atol=1e-6, rtol=1e-5)
        changed = x.clone()
        changed[:, 5] += 1
        assert ((mixer(changed, reverse=reverse) - y).abs().amax(dim=(0, 2)) > 1e-7).all()
        # two of eleven steps of the second clip are padding
        valid = (torch.arange(11) < torch.tensor([[11], [9]]))[..., None]
        x[1, 9:] = 1e3
        padded, alone = mixer(x, valid, reverse), mixer(x[1:, :9], reverse=reverse)
    torch.testing.assert_close(padded[1:, :9], alone, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(padded[:1], y[:1], atol=1e-6, rtol=1e-5)
