# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Checkpoints that are there whole or not at all, and exact resume from them.

`checkpoint-00001000/` is a model folder (`from_pretrained` reads it, and the feature extractor from it) with one
folder more, `optimizer_state/`: optimizer, loss scaler, per-process state (all by `Accelerator.save_state`) and
`trainer_state.json`. It is written beside its place under a hidden name, flushed to the disk and renamed; it is
removed by renaming it away first. So what is called `checkpoint-*` is complete, whenever the process or the machine
dies.
"""

import json
import os
import shutil
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from transformers.utils import logging as transformers_logging

STATE_FOLDER = "optimizer_state"
STATE_FILE = "trainer_state.json"
_PREFIX = "checkpoint-"
# hidden names: never taken for a checkpoint, and no Hub upload includes them
_WRITING, _DELETING = ".writing-", ".deleting-"


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written, or does not belong to this run."""


def checkpoints(output_dir: Path) -> list[Path]:
    """The complete checkpoints in `output_dir`, oldest first."""
    found = [path for path in Path(output_dir).glob(f"{_PREFIX}*") if path.name.removeprefix(_PREFIX).isdigit()]
    return sorted(found, key=lambda path: int(path.name.removeprefix(_PREFIX)))


def remove_unfinished(output_dir: Path) -> None:
    """Delete what a killed process left half written or half deleted."""
    for pattern in (_WRITING, _DELETING):
        for path in Path(output_dir).glob(f"{pattern}*"):
            shutil.rmtree(path)


def find_checkpoint(output_dir: Path, resume: str) -> Path | None:
    """The checkpoint that `resume` (`"auto"`, `"never"` or a folder) asks for, None for a fresh start.

    Raises `CheckpointError` where going on would mix two runs in one folder, `ValueError` for a folder that is no
    checkpoint.
    """
    present = checkpoints(output_dir)
    newest = present[-1] if present else None
    if resume == "auto":
        return newest
    if resume == "never":
        if newest:
            raise CheckpointError(f"resume='never', but {newest} exists: choose another output_dir or delete it")
        return None
    if not (Path(resume) / STATE_FOLDER / STATE_FILE).is_file():
        raise ValueError(f"resume={resume!r}: expected 'auto', 'never' or the folder of a checkpoint")
    if newest and newest.resolve() != Path(resume).resolve():
        raise CheckpointError(f"resume={resume!r}, but {newest} exists: choose another output_dir, or resume='auto'")
    return Path(resume)


def save_checkpoint(
    accelerator: Accelerator,
    model,
    feature_extractor,
    output_dir: Path,
    state: dict[str, Any],
    *,
    limit: int | None = None,
) -> Path:
    """Write the checkpoint of `state["step"]` and delete the oldest ones beyond `limit`. Every process calls it.

    Raises `CheckpointError` on every process if one of them could not write; what was there before stays as it is.
    """
    target = Path(output_dir) / f"{_PREFIX}{state['step']:08d}"
    temporary = target.with_name(_WRITING + target.name)
    own = accelerator.unwrap_model(model, keep_torch_compile=False)
    sharded = accelerator.distributed_type == DistributedType.FSDP
    weights = accelerator.get_state_dict(model) if sharded else own.state_dict()  # the first gathers the shards

    def write():
        if accelerator.is_main_process:
            (temporary / STATE_FOLDER).mkdir(parents=True)
            with _no_progress_bar():
                own.save_pretrained(temporary, state_dict=weights)
            feature_extractor.save_pretrained(temporary)
            (temporary / STATE_FOLDER / STATE_FILE).write_text(json.dumps(state, indent=1), encoding="utf-8")

    def write_training_state():
        # the weights are in the model folder already; sharded ones (FSDP) do not pass through this hook and are kept
        hook = accelerator.register_save_state_pre_hook(lambda models, weights, folder: weights.clear())
        try:
            accelerator.save_state(str(temporary / STATE_FOLDER))
        finally:
            hook.remove()

    def publish():
        if accelerator.is_main_process:
            _flush(temporary)
            os.replace(temporary, target)
            _flush_folder(target.parent)

    if accelerator.is_main_process:
        remove_unfinished(output_dir)
    for action in (write, write_training_state, publish):
        _on_every_process(accelerator, action, target, temporary)
    if accelerator.is_main_process and limit is not None:
        for old in checkpoints(output_dir)[:-limit]:
            delete_folder(old)
    return target


def _on_every_process(accelerator: Accelerator, action: Callable, target: Path, temporary: Path) -> None:
    """Run `action`; if it fails on any process, clean up and raise on all, so that none waits for another for ever."""
    error = None
    try:
        action()
    # torch reports a full disk as RuntimeError, safetensors with a class of its own, Python as OSError
    except Exception as caught:
        error = caught
    failed = torch.tensor([float(error is not None)], device=accelerator.device)
    if accelerator.reduce(failed, "sum").item() == 0:
        return
    left = checkpoints(target.parent)
    free = shutil.disk_usage(target.parent).free
    if accelerator.is_main_process:
        shutil.rmtree(temporary, ignore_errors=True)
    raise CheckpointError(
        f"{target} could not be written ({error or 'another process failed'}; {free / 2**20:,.0f} MiB free there). "
        + (f"The last good checkpoint is {left[-1]}." if left else "There is no earlier checkpoint.")
    ) from error


def load_checkpoint(accelerator: Accelerator, model, folder: Path) -> None:
    """Put a checkpoint into the prepared `model` and the accelerator's optimizer and loss scaler."""
    if accelerator.distributed_type != DistributedType.FSDP:
        own = accelerator.unwrap_model(model, keep_torch_compile=False)
        # not load_file: from_pretrained also undoes renaming and sharding
        with _no_progress_bar():
            saved = type(own).from_pretrained(folder, dtype=next(own.parameters()).dtype)
        own.load_state_dict(saved.state_dict())
    hook = accelerator.register_load_state_pre_hook(lambda models, folder: models.clear())
    try:
        accelerator.load_state(str(folder / STATE_FOLDER))
    finally:
        hook.remove()


def read_state(folder: Path) -> dict[str, Any]:
    """The `state` that `save_checkpoint` was given."""
    return json.loads((folder / STATE_FOLDER / STATE_FILE).read_text(encoding="utf-8"))


def check_same_run(folder: Path, saved: dict[str, Any], current: dict[str, Any]) -> None:
    """Raise `CheckpointError`, naming each difference, unless two nested dicts of settings are equal."""
    differences = list(_differences(saved, current))
    if differences:
        raise CheckpointError(
            f"{folder} belongs to another run: {'; '.join(differences)}. Start this one in another output_dir, or "
            "give it the settings of the first."
        )


def _differences(saved, current, name=""):
    if isinstance(saved, dict) and isinstance(current, dict):
        for key in sorted({*saved, *current}):
            yield from _differences(saved.get(key), current.get(key), f"{name}.{key}" if name else key)
    elif saved != current:
        yield f"{name} was {saved!r}, is {current!r}"


def copy_model(checkpoint: Path, output_dir: Path) -> None:
    """Copy the model files of a checkpoint into `output_dir`, each appearing whole.

    Raises `CheckpointError` if there is no room; the checkpoint is then still the place to load the model from.
    """
    temporary = output_dir / f"{_WRITING}model"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.copytree(checkpoint, temporary, ignore=shutil.ignore_patterns(STATE_FOLDER))
        _flush(temporary)
        for file in temporary.iterdir():
            os.replace(file, output_dir / file.name)
    except OSError as error:
        raise CheckpointError(
            f"the model could not be copied into {output_dir} ({error}); it is in {checkpoint}"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_whole(path: Path, text: str) -> None:
    """Replace the content of a file in one step."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def delete_folder(folder: Path) -> None:
    """Delete a checkpoint; a kill half-way leaves no folder that looks complete."""
    condemned = folder.with_name(_DELETING + folder.name)
    os.replace(folder, condemned)
    shutil.rmtree(condemned)


def _flush(folder: Path) -> None:
    """Make everything below `folder` survive a power cut."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        else:
            _flush_folder(path)
    _flush_folder(folder)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _no_progress_bar():
    """Keep transformers' bars out of the one of the training."""
    enabled = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            transformers_logging.enable_progress_bar()
