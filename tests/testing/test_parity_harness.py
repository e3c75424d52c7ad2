# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""The harness must not pass what is wrong."""

import json

import pytest
import torch
from safetensors.torch import save_file

from hf_audio_ssl.testing.parity import main

SCRIPT = """
import torch

def parity_outputs(case):
    assert not any(name.startswith("out.") for name in vars(case))
    x = case.inputs["x"]
    return {outputs}
"""
RIGHT = {"double": "2 * x", "ids": "torch.tensor([1, 2, 3, 4])"}


@pytest.fixture
def check(tmp_path):
    """Writes one case and one script, runs the command, and returns its exit status and its report."""

    def run(outputs, capsys, min_label_agreement=None, off=0.0):
        case, scripts = tmp_path / "cases/toy/one", tmp_path / "scripts"
        case.mkdir(parents=True, exist_ok=True)
        scripts.mkdir(exist_ok=True)
        x = torch.tensor([1.0, -1.0])
        tensors = {"in.x": x, "out.double": 2 * x + off, "out.ids": torch.tensor([1, 2, 3, 4])}
        save_file(tensors, case / "tensors.safetensors")
        description = {
            "case": "one",
            "kind": "features",
            "original_config": {},
            "tolerances": {"out.double": 1e-4, "out.ids": 0},
        }
        if min_label_agreement is not None:
            description["min_label_agreement"] = min_label_agreement
        (case / "case.json").write_text(json.dumps(description))
        if outputs is not None:
            body = "{" + ", ".join(f"{name!r}: {value}" for name, value in outputs.items()) + "}"
            (scripts / "convert_toy.py").write_text(SCRIPT.replace("{outputs}", body))
        status = main([str(tmp_path / "cases"), "--json", "--scripts", str(scripts)])
        return status, json.loads(capsys.readouterr().out)

    return run


def test_equal_tensors_pass(check, capsys):
    status, (result,) = check(RIGHT, capsys)
    assert status == 0 and result["ok"] and (result["method"], result["case"]) == ("toy", "one")
    assert [row["name"] for row in result["tensors"]] == ["out.double", "out.ids"]
    assert all(row["max_abs_diff"] == 0 and row["ok"] for row in result["tensors"])


@pytest.mark.parametrize(
    "wrong",
    [
        {"double": "2 * x + 2e-4"},
        {"double": "2 * x + torch.tensor([0.0, float('nan')])"},
        {"double": "torch.tensor([2.0, float('inf')])"},
        {"double": "2 * x[None]"},
        {"double": "2 * x[:1]"},
        {"ids": "torch.tensor([1, 2, 3, 5])"},
    ],
    ids=str,
)
def test_one_wrong_tensor_fails(check, capsys, wrong):
    status, (result,) = check(RIGHT | wrong, capsys)
    assert status == 1 and not result["ok"]
    bad = [row["name"] for row in result["tensors"] if not row["ok"]]
    assert len(bad) == 1 and bad[0].startswith(f"out.{next(iter(wrong))}")


def test_missing_and_unexpected_tensors_fail(check, capsys):
    status, (result,) = check({"double": "2 * x"}, capsys)
    assert status == 1 and [row["ok"] for row in result["tensors"]] == [True, False]
    status, (result,) = check(RIGHT | {"more": "x"}, capsys)
    assert status == 1 and result["tensors"][-1]["name"] == "out.more is not in the case"


def test_label_agreement_is_the_cases(check, capsys):
    almost = RIGHT | {"ids": "torch.tensor([1, 2, 3, 5])"}
    assert check(almost, capsys, min_label_agreement=0.75)[0] == 0
    assert check(almost, capsys, min_label_agreement=0.8)[0] == 1
    # floats keep their tolerance
    assert check(RIGHT | {"double": "2 * x + 2e-4"}, capsys, min_label_agreement=0.1)[0] == 1


@pytest.mark.parametrize(
    ("ours", "off", "undecided"),
    [
        ("6 * (x / 3 + 2000 - 2000)", 4e-4, True),  # no float32 result but the original's own is within 1e-4
        ("6 * (x / 3 + 2000 - 2000)", 0.0, False),  # the original had no such trouble
        ("6 * (x / 3 + 2000 - 2000)", 0.01, False),  # rounding is not all
        ("2 * x", 4e-4, False),
    ],
)
def test_what_rounding_alone_decides_is_neither_passed_nor_failed(check, capsys, ours, off, undecided):
    status, (result,) = check(RIGHT | {"double": ours}, capsys, off=off)
    assert not result["ok"] and result["undecided"] is undecided and status == (0 if undecided else 1)


def test_a_script_that_is_absent_or_raises_fails(check, capsys):
    status, (result,) = check(None, capsys)
    assert status == 1 and result["error"] == "not implemented" and not result["ok"]
    status, (result,) = check(RIGHT | {"double": "1 / 0"}, capsys)
    assert status == 1 and result["error"].startswith("ZeroDivisionError")


def test_no_cases_is_an_error(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path)])
    assert "no parity cases" in capsys.readouterr().err
