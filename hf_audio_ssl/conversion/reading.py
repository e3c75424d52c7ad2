# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Reading foreign checkpoints without executing them.

A pickle names functions and classes to call. Only those that rebuild tensors and plain containers are allowed; every
other class becomes an `InertRecord` that stores what it was given and does nothing.
"""

import collections
import pickle
import types
from pathlib import Path

import torch

_ALLOWED = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("builtins", "slice"): slice,
    ("builtins", "complex"): complex,
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
    ("torch._utils", "_rebuild_tensor"): torch._utils._rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
}


class InertRecord(dict):
    """Stands for an object of a class that is not allowed: remembers the class's name, arguments and state."""

    def __init__(self, *args, **kwargs):
        super().__init__()
        self.arguments = args
        self.state = kwargs

    def __setstate__(self, state):
        self.state = state

    def append(self, item):
        self.setdefault("items", []).append(item)

    def extend(self, items):
        self.setdefault("items", []).extend(items)

    def __hash__(self):
        return id(self)

    def __repr__(self):
        return f"<{type(self).__qualname__}, not loaded>"


class _Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        if module == "__builtin__":  # as pickle protocol 2, torch's default, spells it
            module = "builtins"
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        if module in ("torch", "torch.storage") and (name.endswith("Storage") or name in _DTYPES):
            return getattr(torch, name, None) or getattr(torch.storage, name)
        return type(f"{module}.{name}", (InertRecord,), {})


_DTYPES = {name for name in dir(torch) if isinstance(getattr(torch, name), torch.dtype)}
# torch.load takes a module that looks like pickle
_SAFE_PICKLE = types.SimpleNamespace(
    __name__="hf_audio_ssl.conversion.reading",
    Unpickler=_Unpickler,
    load=lambda file, **kwargs: _Unpickler(file, **kwargs).load(),
    UnpicklingError=pickle.UnpicklingError,
)


def _is_program(path: Path) -> bool:
    """Whether `torch.load` would hand the file to `torch.jit.load`. Asks torch's own reader, lest the two disagree."""
    with path.open("rb") as file:
        if not torch.serialization._is_zipfile(file):
            return False
        with torch.serialization._open_zipfile_reader(file) as archive:
            return torch.serialization._is_torchscript_zip(archive)


def read_checkpoint(path: str | Path) -> dict:
    """The contents of a `.pt`, `.pth`, `.ckpt`, `.bin` or `.safetensors` file, on the CPU.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no checkpoint, is damaged, or does not hold a dictionary.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint {path}: no such file")
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except Exception as error:
            raise ValueError(f"checkpoint {path}: not a readable safetensors file ({error})") from error
    try:
        if _is_program(path):
            raise ValueError("a TorchScript archive is a program, and loading it would run it")
        content = torch.load(path, map_location="cpu", weights_only=False, pickle_module=_SAFE_PICKLE)
    except Exception as error:
        raise ValueError(f"checkpoint {path}: not a readable PyTorch checkpoint ({error})") from error
    if not isinstance(content, dict) or isinstance(content, InertRecord):
        raise ValueError(f"checkpoint {path}: holds {content!r:.80}, expected a dictionary")
    return content
