# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Every registered method passes every shared test."""

from pathlib import Path

from hf_audio_ssl.testing.mixins import MethodTests, find_testers

TESTERS = find_testers(Path(__file__).parent)

for _name, _tester in TESTERS.items():
    globals()[f"Test_{_name}"] = type(f"Test_{_name}", (MethodTests,), {"tester": _tester})

del MethodTests
