# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""What only a GPU can show: the CPU's numbers, no waiting within a step, and the loop in half precision, compiled."""

import copy
import math
from pathlib import Path

import pytest
import torch

from hf_audio_ssl.testing.mixins import find_testers, gradients
from hf_audio_ssl.training import run_pretraining

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
TESTERS = find_testers(Path(__file__).parent / "models")


@pytest.fixture(params=TESTERS)
def tester(request):
    return TESTERS[request.param]


def to_gpu(tensors):
    return {name: tensor.to("cuda") for name, tensor in tensors.items()}


def test_losses_and_gradients_are_those_of_the_cpu(tester):
    model = tester.model("AutoModelForPreTraining").train()
    arguments = tester.arguments("AutoModelForPreTraining")
    twin = copy.deepcopy(model).to("cuda")
    expected, actual = gradients(model, arguments), gradients(twin, to_gpu(arguments))
    torch.testing.assert_close(twin(**to_gpu(arguments)).loss.cpu(), model(**arguments).loss, atol=1e-4, rtol=1e-4)
    for name, gradient in expected.items():
        if gradient is not None:
            scale = gradient.abs().max().item()
            torch.testing.assert_close(actual[name].cpu(), gradient, atol=1e-3 * scale + 1e-6, rtol=1e-3, msg=name)


def test_a_step_never_waits_for_the_gpu(tester):
    model = tester.model("AutoModelForPreTraining").train().to("cuda")
    inputs = to_gpu(tester.inputs())
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3, fused=True)

    def step():
        with torch.autocast("cuda", torch.bfloat16):
            loss = model(**inputs).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        model.after_optimizer_step(1)

    step()  # libraries synchronise when they are loaded
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_encode_gives_what_it_gives_on_the_cpu(tester):
    model, clips = tester.model("AutoModel"), [tester.audio(1.0), tester.audio(0.7)]
    options = dict(sampling_rate=tester.spec.sampling_rate, feature_extractor=tester.feature_extractor())
    expected = model.encode(clips, **options)
    torch.testing.assert_close(model.to("cuda").encode(clips, **options).cpu(), expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
def test_the_loop_in_half_precision_and_compiled(tester, precision, compiled, tmp_path):
    steps = 5 if compiled else 30
    result = run_pretraining(
        method=tester.method, dataset="synthetic", data={"num_clips": 16}, features=tester.extractor_sizes,
        model={name: size for name, size in tester.sizes.items() if name != "num_labels"}, output_dir=str(tmp_path),
        per_device_batch_size=4, clip_seconds=1.0, max_steps=steps, logging_steps=1, mixed_precision=precision,
        torch_compile=compiled,
    )  # fmt: skip
    assert len(result.history) == steps and all(record["peak_memory_gib"] > 0 for record in result.history)
    losses = [record["loss"] for record in result.history if record["loss"] is not None]
    assert precision == "fp16" or len(losses) == steps  # the loss scaler looks for its scale first
    assert all(map(math.isfinite, losses[20:])) and result.steps == steps
