import math

import pytest

from hf_audio_ssl import schedules


def test_warmup_peak_and_end_of_every_learning_rate_schedule():
    for name in schedules.LEARNING_RATE_SCHEDULES:
        rate = schedules.learning_rate(name, peak=2.0, total_steps=100, warmup_steps=10, floor=0.5, hold_steps=20)
        assert rate(0) == 0.0, name
        assert rate(5) == pytest.approx(1.0), name
        assert rate(10) == pytest.approx(2.0), name
        values = [rate(step) for step in range(10, 130)]
        assert all(a >= b for a, b in zip(values, values[1:])), name
        if name == "constant":
            assert values[-1] == 2.0
        elif name == "inverse_sqrt":
            assert rate(40) == pytest.approx(1.0) and rate(10**9) == 0.5
        else:
            assert rate(100) == pytest.approx(0.5) and rate(1000) == pytest.approx(0.5), name


def test_middle_values():
    span = {"peak": 1.0, "total_steps": 100, "warmup_steps": 0}
    assert schedules.cosine(50, **span) == pytest.approx(0.5)
    assert schedules.cosine(25, **span) == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))
    assert schedules.linear(25, **span) == pytest.approx(0.75)
    assert schedules.tri_stage(29, hold_steps=30, **span) == 1.0
    assert schedules.tri_stage(65, hold_steps=30, **span) == pytest.approx(0.5)
    assert schedules.tri_stage(65, hold_steps=30, floor=0.01, **span) == pytest.approx(0.1)


def test_without_warmup_the_first_step_runs_at_the_peak():
    for name in schedules.LEARNING_RATE_SCHEDULES:
        assert schedules.learning_rate(name, peak=3.0, total_steps=10)(0) == 3.0, name


def test_ema_and_temperature():
    # EAT: 0.9998 -> 0.99999 over 100,000 updates, then constant
    assert schedules.linear_anneal(0, 0.9998, 0.99999, 100_000) == 0.9998
    assert schedules.linear_anneal(50_000, 0.9998, 0.99999, 100_000) == pytest.approx(0.999895)
    assert schedules.linear_anneal(10**6, 0.9998, 0.99999, 100_000) == 0.99999
    assert schedules.linear_anneal(0, 0.9, 0.99, 0) == 0.99
    # wav2vec 2.0: temperature 2 -> 0.5 by a factor 0.999995 a step
    assert schedules.exponential_anneal(0, 2.0, 0.5, 0.999995) == 2.0
    assert schedules.exponential_anneal(10**6, 2.0, 0.5, 0.999995) == 0.5
    assert schedules.cosine_anneal(50, 0.99, 1.0, 100) == pytest.approx(0.995)


def test_unknown_schedule_names_the_known_ones():
    with pytest.raises(ValueError, match="lr_schedule='step'.*cosine.*tri_stage"):
        schedules.learning_rate("step", peak=1.0, total_steps=10)
