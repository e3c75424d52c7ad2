# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Tools to test methods with, importable by third parties."""
