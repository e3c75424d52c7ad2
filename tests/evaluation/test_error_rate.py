# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
import functools
import random

import pytest

from hf_audio_ssl.evaluation.error_rate import edit_distance, error_rates


def by_definition(a, b):
    @functools.cache
    def distance(i, j):
        if not i or not j:
            return i + j
        return min(distance(i - 1, j) + 1, distance(i, j - 1) + 1, distance(i - 1, j - 1) + (a[i - 1] != b[j - 1]))

    return distance(len(a), len(b))


def test_edit_distance_is_its_definition():
    rng = random.Random(0)
    for _ in range(200):
        a, b = (("".join(rng.choices("abc", k=rng.randrange(9)))) for _ in range(2))
        assert edit_distance(a, b) == by_definition(a, b), (a, b)
    assert edit_distance(["one", "two"], ["two", "two", "three"]) == 2


def test_rates_count_over_the_whole_corpus():
    rates = error_rates(["one two three four", "five"], ["one too three", "five"])
    assert rates == {"wer": 2 / 5, "cer": (1 + 5) / 22}
    assert error_rates(["a"], ["a b c"])["wer"] == 2
    for references, hypotheses in (["a"], []), ([""], ["a"]):
        with pytest.raises(ValueError, match="words in the references"):
            error_rates(references, hypotheses)
