# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Compares conversions with outputs of the original code: `python -m hf_audio_ssl.testing.parity CASES_DIR`.

A case is a folder `<method>/<case>/` with `case.json`, `tensors.safetensors` (`in.*` and `out.*`) and mostly a
`checkpoint.pt`. The method's conversion script turns it into outputs; each `out.*` tensor must agree within the case's
own tolerance.
"""

import argparse
import importlib.util
import json
import sys
from functools import cached_property
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from hf_audio_ssl.conversion import original_tensor, read_checkpoint


class Case:
    """What a conversion script may see of a case: everything but the values of `out.*`."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.description = json.loads((self.folder / "case.json").read_text())
        self.kind: str = self.description["kind"]
        self.name: str = self.description["case"]
        self.original_config: dict = self.description["original_config"]

    @cached_property
    def inputs(self) -> dict[str, Tensor]:
        """The `in.*` tensors, without the prefix."""
        with safe_open(self.folder / "tensors.safetensors", "pt") as file:
            return {name.removeprefix("in."): file.get_tensor(name) for name in file.keys() if name.startswith("in.")}

    @cached_property
    def checkpoint(self) -> dict:
        return read_checkpoint(self.folder / "checkpoint.pt")

    @cached_property
    def wanted(self) -> list[str]:
        """Names of the `out.*` tensors, without the prefix."""
        with safe_open(self.folder / "tensors.safetensors", "pt") as file:
            return [name.removeprefix("out.") for name in file.keys() if name.startswith("out.")]

    def wanted_after(self, prefix: str) -> list[str]:
        """E.g. `wanted_after("grad.")`: the original parameters whose gradients are compared."""
        return [name.removeprefix(prefix) for name in self.wanted if name.startswith(prefix)]

    def gradients(self, model, rules) -> dict[str, Tensor]:
        """The `grad.*` outputs from the gradients of `model`'s parameters, in the original's layout."""
        parameters = dict(model.named_parameters())
        return {
            f"grad.{key}": original_tensor(key, rules, lambda name: parameters[name].grad)
            for key in self.wanted_after("grad.")
        }


def load_script(path: str | Path):
    """A conversion script as a module."""
    path = Path(path)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compare(folder: Path, outputs: dict[str, Tensor]) -> list[dict]:
    """One row per expected tensor, and one per output that nothing expects."""
    case = Case(folder)
    tolerances, agreement = case.description["tolerances"], case.description.get("min_label_agreement")
    rows = []
    with safe_open(folder / "tensors.safetensors", "pt") as file:
        for name in (f"out.{name}" for name in case.wanted):
            expected, atol = file.get_tensor(name), tolerances[name]
            row = {"name": name, "max_abs_diff": None, "atol": atol, "ok": False}
            rows.append(row)
            actual = outputs.get(name.removeprefix("out."))
            if actual is None:
                continue
            actual = torch.as_tensor(actual).detach().cpu()
            if actual.shape != expected.shape:
                row["name"] += f" {tuple(actual.shape)} instead of {tuple(expected.shape)}"
                continue
            if not expected.numel():
                row.update(max_abs_diff=0.0, ok=True)
                continue
            difference = (actual.double() - expected.double()).abs()
            row["max_abs_diff"] = difference.max().item()
            if agreement is not None and not expected.is_floating_point():
                row["ok"] = (difference == 0).double().mean().item() >= agreement
            else:
                # NaN compares false
                row["ok"] = bool((difference <= atol).all())
    unexpected = sorted(set(outputs) - set(case.wanted))
    return rows + [
        {"name": f"out.{name} is not in the case", "max_abs_diff": None, "atol": None, "ok": False}
        for name in unexpected
    ]


def run_case(folder: Path, script: Path) -> dict:
    result = {"method": folder.parent.name, "case": folder.name, "ok": False, "tensors": []}
    if not script.is_file():
        return result | {"error": "not implemented"}
    try:
        torch.manual_seed(0)
        result["tensors"] = compare(folder, load_script(script).parity_outputs(Case(folder)))
        result["ok"] = bool(result["tensors"]) and all(row["ok"] for row in result["tensors"])
    except Exception as error:
        result["error"] = f"{type(error).__name__}: {error}"
    return result


def run(cases: Path, scripts: Path, method: str | None = None) -> list[dict]:
    """Results of every case below `cases`. Raises `ValueError` if there is none."""
    folders = sorted(path.parent for path in cases.glob(f"{method or '*'}/*/case.json"))
    if not folders:
        raise ValueError(f"{cases}: no parity cases{f' of method {method}' if method else ''} found")
    return [run_case(folder, scripts / f"convert_{folder.parent.name}.py") for folder in folders]


def _print_table(results: list[dict]) -> None:
    for result in results:
        print(
            f"{'ok    ' if result['ok'] else 'FAILED'} {result['method']}/{result['case']} {result.get('error', '')}"
        )
        for row in result["tensors"]:
            difference = "missing" if row["max_abs_diff"] is None else f"{row['max_abs_diff']:.2e}"
            atol = "" if row["atol"] is None else f"(atol {row['atol']:.2e})"
            print(f"  {'ok    ' if row['ok'] else 'FAILED'} {row['name']:<70} {difference:>9} {atol}")
    failed = sum(not result["ok"] for result in results)
    print(f"{len(results) - failed} passed, {failed} failed")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m hf_audio_ssl.testing.parity", description=__doc__.splitlines()[0])
    parser.add_argument("cases", type=Path, help="folder with <method>/<case>/ folders")
    parser.add_argument("--method", help="only this method")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.add_argument(
        "--scripts",
        type=Path,
        default=Path(__file__).parents[2] / "conversion_scripts",
        help="folder with convert_<method>.py",
    )
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    try:
        results = run(args.cases, args.scripts, args.method)
    except ValueError as error:
        parser.error(str(error))
    if args.json:
        print(json.dumps(results))
    else:
        _print_table(results)
    return 0 if all(result["ok"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
