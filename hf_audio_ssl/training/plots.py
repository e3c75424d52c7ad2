# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Pictures of a pre-training run, from the records of its log."""

import logging
import re
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)


def plot_history(
    history: list[dict[str, Any]],
    output_dir: str | Path,
    collapse_meters: dict[str, tuple[float | None, float | None]] | None = None,
) -> list[Path]:
    """Draw `losses.png`, `collapse.png`, `learning_rate.png`, `group_losses.png` and `probe.png`, each if `history`
    has something for it.

    Args:
        history: records as `PretrainingResult.history` holds them.
        collapse_meters: `{field: (low, high)}`, the normal range, drawn as a band.

    Returns the files written: none, with a warning, where matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure  # not pyplot: no display, no global state
    except ImportError:
        logger.warning("matplotlib is not installed: no plots")
        return []

    meters = collapse_meters or {}
    names = list(dict.fromkeys(name for record in history for name in record))
    losses = [name for name in names if name == "loss" or name.endswith("_loss")]
    pictures = {
        "losses.png": [[name] for name in losses],
        "collapse.png": [[name] for name in names if name in meters],
        "learning_rate.png": [[name] for name in names if name in ("lr", "grad_norm")],
        "group_losses.png": [[name for name in names if name.startswith("group_loss/")]],
        "probe.png": [[name for name in names if name.startswith("probe_")]],
    }
    written = []
    for file, panels in pictures.items():
        panels = [panel for panel in panels if panel]
        if not panels:
            continue
        figure = Figure(figsize=(5 * len(panels), 3.5), layout="constrained")
        for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels):
            for name in panel:
                points = [(record["step"], record[name]) for record in history if name in record]
                axes.plot(
                    *zip(*points),
                    marker="." if len(points) < 30 else None,
                    label=re.sub("^(probe_|group_loss/)", "", name),
                )
            low, high = meters.get(panel[0], (None, None))
            for edge in (low, high):
                if edge is not None:
                    axes.axhline(edge, color="tab:red", linestyle="--", linewidth=1, label="normal range ends")
            axes.set_xlabel("optimizer step")
            axes.grid(alpha=0.3)
            axes.legend()
        written.append(Path(output_dir) / file)
        figure.savefig(written[-1], dpi=120)
    return written
