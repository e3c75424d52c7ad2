# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Foreign checkpoints are read, never run."""

import argparse
import collections
import os
import pickle

import pytest
import torch
from safetensors.torch import save_file

from hf_audio_ssl.conversion import InertRecord, read_checkpoint


class Bomb:
    """Unpickled by the standard library, it creates a file."""

    def __init__(self, path, how):
        self.path, self.how = str(path), how

    def __reduce__(self):
        return {
            "open": (open, (self.path, "w")),
            "system": (os.system, (f"touch {self.path}",)),
            "exec": (exec, (f"open({self.path!r}, 'w')",)),
            "eval": (eval, (f"open({self.path!r}, 'w').close()",)),
        }[self.how]


class Settings(argparse.Namespace):
    pass


def legacy(content, path):
    torch.save(content, path, _use_new_zipfile_serialization=False)


def bare(content, path):
    path.write_bytes(pickle.dumps(content))


WRITERS = {"zip": torch.save, "legacy": legacy, "bare pickle": bare}


@pytest.mark.parametrize("how", ["open", "system", "exec", "eval"])
@pytest.mark.parametrize("writer", list(WRITERS))
def test_a_pickle_executes_nothing(tmp_path, writer, how):
    target, path = tmp_path / "created", tmp_path / "checkpoint.pt"
    WRITERS[writer]({"model": {"w": 1}, "bomb": Bomb(target, how)}, path)
    if writer != "bare pickle":
        torch.load(path, weights_only=False)
    else:
        pickle.loads(path.read_bytes())
    assert target.exists()  # the bomb is live
    target.unlink()
    try:
        content = read_checkpoint(path)
    except ValueError as error:
        assert writer == "bare pickle" and "not a readable PyTorch checkpoint" in str(error)
    else:
        assert content["model"] == {"w": 1} and isinstance(content["bomb"], InertRecord)
        assert "not loaded" in repr(content["bomb"])
    assert not target.exists()


def test_a_torchscript_archive_is_not_run(tmp_path):
    """torch.load hands it to torch.jit.load, whose `__setstate__` may write files."""
    target = tmp_path / "created.pt"

    class Module(torch.nn.Module):
        def __init__(self, path: str):
            super().__init__()
            self.path = path

        def forward(self, x):
            return x

        @torch.jit.export
        def __getstate__(self):
            return (self.path, self.training)

        @torch.jit.export
        def __setstate__(self, state: tuple[str, bool]) -> None:
            self.path = state[0]
            self.training = state[1]
            torch.save(torch.ones(1), self.path)

    path = tmp_path / "model.pt"
    torch.jit.script(Module(str(target))).save(str(path))
    torch.jit.load(str(path))
    assert target.exists()  # the bomb is live
    target.unlink()
    with pytest.raises(ValueError, match="a TorchScript archive is a program"):
        read_checkpoint(path)
    assert not target.exists()


@pytest.mark.parametrize("writer", ["zip", "legacy"])
def test_tensors_and_plain_containers_are_read(tmp_path, writer):
    shared = torch.arange(6.0)
    content = {
        "float": torch.randn(2, 3),
        "half": torch.randn(3).half(),
        "bfloat16": torch.randn(3).bfloat16(),
        "int": torch.tensor([1, 2]),
        "bool": torch.tensor([True, False]),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "view": shared.view(2, 3).t(),
        "scalar": torch.tensor(3.0, dtype=torch.float64),
        "nested": collections.OrderedDict(a=[1, (2.5, "x", None)], b={"s": {1, 2}, "size": torch.Size([2])}),
        "device": torch.device("cpu"),
    }
    path = tmp_path / "checkpoint.pt"
    WRITERS[writer](content, path)
    result = read_checkpoint(path)
    assert result.keys() == content.keys()
    for name, value in content.items():
        if isinstance(value, torch.Tensor):
            assert result[name].dtype == value.dtype and torch.equal(result[name], value), name
        else:
            assert result[name] == value, name


def test_unknown_classes_become_inert_records(tmp_path):
    path = tmp_path / "checkpoint.pt"
    torch.save({"args": Settings(lr=0.1, deep=Settings(x=[1])), "w": torch.ones(1)}, path)
    content = read_checkpoint(path)
    assert isinstance(content["args"], InertRecord) and not isinstance(content["args"], argparse.Namespace)
    assert content["args"].state["lr"] == 0.1 and content["args"].state["deep"].state == {"x": [1]}
    assert "Settings, not loaded" in repr(content["args"])


def test_safetensors_are_read(tmp_path):
    save_file({"w": torch.ones(2)}, tmp_path / "model.safetensors")
    assert torch.equal(read_checkpoint(tmp_path / "model.safetensors")["w"], torch.ones(2))


@pytest.mark.parametrize("name", ["checkpoint.pt", "model.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 broken zip", b"\x80\x02}q\x00."])
def test_damaged_files_are_refused_by_name(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"checkpoint .*{name}: not a readable"):
        read_checkpoint(path)


def test_truncated_checkpoints_are_refused(tmp_path):
    path = tmp_path / "checkpoint.pt"
    torch.save({"w": torch.randn(1000)}, path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match="not a readable PyTorch checkpoint"):
        read_checkpoint(path)


def test_a_file_that_holds_no_dictionary(tmp_path):
    path = tmp_path / "checkpoint.pt"
    for content in (torch.ones(2), [1], Bomb(tmp_path / "created", "open")):
        torch.save(content, path)
        with pytest.raises(ValueError, match="expected a dictionary"):
            read_checkpoint(path)
    assert not (tmp_path / "created").exists()


def test_no_such_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_checkpoint(tmp_path / "nothing.pt")
