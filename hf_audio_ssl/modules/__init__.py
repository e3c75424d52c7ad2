# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Leaf modules, one concern per file. Each is small, tested alone and used by methods through composition."""
