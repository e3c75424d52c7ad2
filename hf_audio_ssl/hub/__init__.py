# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""From a saved model folder to a working Hub repository: its code, its card, the upload."""

from hf_audio_ssl.hub.bundle import bundle
from hf_audio_ssl.hub.card import methods_table, render_card, update_family_card, update_table
from hf_audio_ssl.hub.push import push

__all__ = ["bundle", "methods_table", "push", "render_card", "update_family_card", "update_table"]
