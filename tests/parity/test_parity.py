# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""The committed cases: our numbers equal those of the original code."""

from pathlib import Path

import pytest

from hf_audio_ssl.registry import methods
from hf_audio_ssl.testing.parity import run_case

CASES = Path(__file__).parent / "cases"
SCRIPTS = Path(__file__).parents[2] / "conversion_scripts"
FOLDERS = sorted(path.parent for path in CASES.glob("*/*/case.json"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: f"{folder.parent.name}-{folder.name}")
def test_case(folder):
    result = run_case(folder, SCRIPTS / f"convert_{folder.parent.name}.py")
    assert result["ok"], (result.get("error"), [row for row in result["tensors"] if not row["ok"]])


def test_every_verified_method_has_cases():
    with_cases = {folder.parent.name for folder in FOLDERS}
    assert {name for name, spec in methods().items() if spec.parity == "verified"} <= with_cases


def test_selection_stays_small():
    assert sum(path.stat().st_size for path in CASES.rglob("*") if path.is_file()) < 40e6
