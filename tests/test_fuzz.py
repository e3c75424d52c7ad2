# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Whatever the feature extractors are given: features or a ValueError, nothing else."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from hf_audio_ssl.testing.mixins import find_testers

TESTERS = find_testers(Path(__file__).parent / "models")
CALLS = 500

samples = st.one_of(
    st.floats(-1, 1, width=32), st.floats(width=32), st.sampled_from([0.0, math.nan, math.inf, 1e38, -1e-45])
)
DTYPES = [np.float32, np.float64, np.float16, np.int16, np.int64, np.uint8, np.bool_, np.complex64, object]


@st.composite
def waves(draw):
    """Mostly what an extractor should take, of any length; now and then anything."""
    length = draw(
        st.one_of(
            st.integers(3000, 12000), st.integers(0, 3000), st.sampled_from([0, 1, 399, 400, 401, 560, 2800, 2799])
        )
    )
    kind = draw(st.sampled_from(["plain"] * 12 + ["special", "dtype", "rank", "layout", "junk"]))
    wave = np.random.default_rng(draw(st.integers(0, 9))).uniform(-1, 1, length).astype(np.float32)
    if kind == "special" and length:
        wave[draw(st.integers(0, length - 1))] = draw(samples)
    elif kind == "dtype":
        wave = wave.astype(draw(st.sampled_from(DTYPES)))
    elif kind == "rank":
        wave = draw(st.sampled_from([wave[None], wave[:, None], wave[None, None], np.float32(1), wave[:0, None]]))
    elif kind == "layout":
        wave = draw(
            st.sampled_from([wave[::2], wave[::-1], np.broadcast_to(np.float32(0.5), (length,)), wave.byteswap()])
        )
    elif kind == "junk":
        dtypes = st_numpy.array_dtypes() | st_numpy.scalar_dtypes()
        anything = st.one_of(
            *(st.none(), st.text(), st.binary(), st.integers(), st.floats(), st.booleans(), st.sets(st.integers())),
            st.dictionaries(st.text(), samples),
            st.lists(st.one_of(samples, st.text(), st.none())),
            st_numpy.arrays(dtypes, st_numpy.array_shapes(min_dims=0, max_side=3)),
        )
        return draw(anything)
    form = draw(st.sampled_from(["array", "array", "tensor", "list"]))
    if form == "tensor" and wave.dtype != object and all(stride >= 0 for stride in wave.strides):
        return torch.tensor(wave)
    return wave.tolist() if form == "list" else wave


anything_small = st.one_of(st.none(), st.booleans(), st.integers(-3, 200), st.floats(), st.text(max_size=3))


def mostly(usual):
    return st.sampled_from([usual] * 5 + [anything_small]).flatmap(lambda strategy: strategy)


options = st.fixed_dictionaries(
    {"sampling_rate": st.sampled_from([16000] * 16 + [16000.0, 8000, None, "16000", math.nan])},
    optional={
        "padding": mostly(st.sampled_from([True, False, "longest", "max_length", "do_not_pad"])),
        "max_length": mostly(st.integers(1, 200)),
        "truncation": st.booleans(),
        "pad_to_multiple_of": mostly(st.integers(1, 40)),
        "return_attention_mask": st.sampled_from([True, False, None]),
        "return_tensors": mostly(st.sampled_from(["pt", "np", None])),
    },
)


@pytest.mark.parametrize("method", list(TESTERS))
def test_extractor_answers_or_raises_value_error(method):
    extractor = TESTERS[method].feature_extractor()

    @settings(
        max_examples=CALLS, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(st.one_of(waves(), st.lists(waves(), max_size=3), st.tuples(waves(), waves())), options)
    def call(audio, options):
        nonlocal answered
        try:
            result = extractor(audio, **options)
        except ValueError as error:
            event("refused")
            assert str(error)
            return
        event("answered")
        answered += 1
        features = torch.as_tensor(result["input_values"])
        trailing = (extractor.num_mel_bins,) if hasattr(extractor, "num_mel_bins") else ()
        assert features.shape[2:] == trailing and features.ndim >= 2 and features.shape[1] > 0
        assert features.isfinite().all()
        if "attention_mask" in result:
            mask = torch.as_tensor(result["attention_mask"])
            assert mask.shape == features.shape[:2] and mask.any(dim=1).all()

    answered = 0
    call()
    assert answered > CALLS / 10  # or the strategy tests nothing but refusals
