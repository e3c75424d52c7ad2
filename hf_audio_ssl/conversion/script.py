# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""What all conversion scripts share: read, convert, save whole or not at all, push."""

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from hf_audio_ssl.conversion.reading import read_checkpoint


def run_conversion(
    convert: Callable,
    checkpoint: str | Path,
    output: str | Path,
    *,
    original_config: str | Path | None = None,
    feature_extractor: Callable | None = None,
    push_to_hub: str | None = None,
) -> Path:
    """Convert one file and write `output`: config, weights, extractor, report, code for the Hub.

    Args:
        convert: `convert(checkpoint, original_config) -> PreTrainedModel`.
        feature_extractor: `feature_extractor(checkpoint, original_config) -> FeatureExtractor`.
        push_to_hub: id of a repository to upload the folder to.

    Raises:
        ConversionError, ValueError, FileNotFoundError: nothing is written then.
        FileExistsError: `output` exists and is not empty.
    """
    output = Path(output)
    if output.exists() and any(output.iterdir()):
        raise FileExistsError(f"output {output}: exists and is not empty")
    content = read_checkpoint(checkpoint)
    config = json.loads(Path(original_config).read_text()) if original_config else None
    model = convert(content, config)

    output.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
    try:
        model.save_pretrained(work)
        if feature_extractor is not None:
            feature_extractor(content, config).save_pretrained(work)
        report = {
            "checkpoint": Path(checkpoint).name,
            "class": type(model).__name__,
            "parameters": model.num_parameters(),
            "dropped": getattr(model, "conversion_report", {}),
        }
        (work / "conversion.json").write_text(json.dumps(report, indent=2) + "\n")
        if output.exists():
            output.rmdir()
        work.rename(output)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    if push_to_hub:
        from hf_audio_ssl.hub import push

        push(output, push_to_hub)
    return output
