# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
import os

# before torch is imported: the suite runs beside others, and sums in one fixed order are easier to compare
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

LOCAL_HUB = "hub"


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def no_internet(request, monkeypatch):
    """Nothing may be downloaded, here or in a child process; tests/hub talks to a small Hub of its own."""
    if LOCAL_HUB not in request.path.parts:
        from huggingface_hub import constants

        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
