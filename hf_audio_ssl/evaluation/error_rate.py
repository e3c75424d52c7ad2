# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""How much of a transcript is wrong."""

from collections.abc import Sequence

import numpy as np


def edit_distance(reference: Sequence, hypothesis: Sequence) -> int:
    """Fewest insertions, deletions and substitutions that turn one sequence into the other (Levenshtein)."""
    ids: dict = {}
    a, b = (
        np.array([ids.setdefault(item, len(ids)) for item in items], dtype=np.int64)
        for items in (reference, hypothesis)
    )
    places = np.arange(len(b) + 1)
    row = places
    for number, item in enumerate(a, start=1):
        above = np.concatenate([[number], np.minimum(row[1:] + 1, row[:-1] + (b != item))])
        # insertions run along the row: a running minimum, one more for each step
        row = np.minimum.accumulate(above - places) + places
    return int(row[-1])


def error_rates(references: Sequence[str], hypotheses: Sequence[str]) -> dict[str, float]:
    """`{"wer": ..., "cer": ...}`: edits of all words, and of all characters, over their number in the references.

    Raises:
        ValueError: different numbers of texts, or references without a single word.
    """
    if len(references) != len(hypotheses) or not any(text.split() for text in references):
        raise ValueError(
            f"got {len(references)} references and {len(hypotheses)} hypotheses, expected as many, and words in the "
            "references"
        )
    pairs = list(zip(references, hypotheses))
    words = sum(edit_distance(r.split(), h.split()) for r, h in pairs) / sum(len(r.split()) for r in references)
    characters = sum(edit_distance(r, h) for r, h in pairs) / sum(len(r) for r in references)
    return {"wer": words, "cer": characters}
