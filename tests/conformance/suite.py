# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""transformers' tests for every method. `make conformance` runs it; its name keeps it out of `make test`."""

import os
from pathlib import Path

from hf_audio_ssl.testing.conformance import test_classes as classes_of
from hf_audio_ssl.testing.mixins import find_testers

_SELECTED = os.environ.get("HF_AUDIO_SSL_CONFORMANCE")

for _name, _tester in find_testers(Path(__file__).parents[1] / "models").items():
    if _SELECTED is None or _name in _SELECTED.split(","):
        globals().update(classes_of(_tester))
