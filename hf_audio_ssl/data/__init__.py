# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Data sets of audio clips: any folder, any `datasets` data set, streams, and a built-in synthetic corpus."""
