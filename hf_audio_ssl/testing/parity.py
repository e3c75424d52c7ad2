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
from torch.utils._pytree import tree_map

from hf_audio_ssl.conversion import original_tensor, read_checkpoint


class Case:
    """What a conversion script may see of a case: everything but the values of `out.*`.

    Args:
        dtype: what its floating tensors are converted to; None: as they are.
    """

    def __init__(self, folder: str | Path, dtype: torch.dtype | None = None):
        self.folder = Path(folder)
        self.dtype = dtype
        self.description = json.loads((self.folder / "case.json").read_text())
        self.kind: str = self.description["kind"]
        self.name: str = self.description["case"]
        self.original_config: dict = self.description["original_config"]

    @cached_property
    def inputs(self) -> dict[str, Tensor]:
        """The `in.*` tensors, without the prefix."""
        with safe_open(self.folder / "tensors.safetensors", "pt") as file:
            names = [name for name in file.keys() if name.startswith("in.")]
            return self._cast({name.removeprefix("in."): file.get_tensor(name) for name in names})

    @cached_property
    def checkpoint(self) -> dict:
        return self._cast(read_checkpoint(self.folder / "checkpoint.pt"))

    def _cast(self, content):
        def cast(leaf):
            return leaf.to(self.dtype) if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf

        return content if self.dtype is None else tree_map(cast, content)

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
    """`ok`: every tensor within its tolerance. `undecided`: no tensor further off than rounding explains."""
    result = {"method": folder.parent.name, "case": folder.name, "ok": False, "undecided": False, "tensors": []}
    if not script.is_file():
        return result | {"error": "not implemented"}
    try:
        outputs = _outputs(Case(folder), script)
        result["tensors"] = compare(folder, outputs)
        failed = [row for row in result["tensors"] if not row["ok"]]
        result["ok"] = bool(result["tensors"]) and not failed
        if failed and all(row["max_abs_diff"] and row["atol"] for row in failed):
            mark_rounding(folder, failed, outputs, _outputs(Case(folder, torch.float64), script))
            result["undecided"] = all("rounding" in row for row in failed)
    except Exception as error:
        result["error"] = f"{type(error).__name__}: {error}"
    return result


def _outputs(case: Case, script: Path) -> dict[str, Tensor]:
    torch.manual_seed(0)
    default = torch.get_default_dtype()
    torch.set_default_dtype(case.dtype or default)
    try:
        return load_script(script).parity_outputs(case)
    finally:
        torch.set_default_dtype(default)


def mark_rounding(folder: Path, rows: list[dict], outputs: dict[str, Tensor], exact: dict[str, Tensor]) -> None:
    """Adds `rounding`, what float32 changes in ours, to the rows that it explains: `exact`, the outputs in float64,
    fail too, and the original is not twice as far from them as ours.
    """
    with safe_open(folder / "tensors.safetensors", "pt") as file:
        for row in rows:
            name = row["name"].removeprefix("out.")
            ours, original = (
                (values.double() - exact[name].double()).abs().max().item()
                for values in (outputs[name], file.get_tensor(row["name"]))
            )
            if row["atol"] < min(ours, original) and original < 2 * ours:
                row["rounding"] = ours


def run(cases: Path, scripts: Path, method: str | None = None) -> list[dict]:
    """Results of every case below `cases`. Raises `ValueError` if there is none."""
    folders = sorted(path.parent for path in cases.glob(f"{method or '*'}/*/case.json"))
    if not folders:
        raise ValueError(f"{cases}: no parity cases{f' of method {method}' if method else ''} found")
    return [run_case(folder, scripts / f"convert_{folder.parent.name}.py") for folder in folders]


def _print_table(results: list[dict]) -> None:
    def verdict(ok, undecided):
        return "ok       " if ok else "UNDECIDED" if undecided else "FAILED   "

    for result in results:
        print(
            verdict(result["ok"], result["undecided"]), f"{result['method']}/{result['case']}", result.get("error", "")
        )
        for row in result["tensors"]:
            difference = "missing" if row["max_abs_diff"] is None else f"{row['max_abs_diff']:.2e}"
            atol = "" if row["atol"] is None else f"(atol {row['atol']:.2e})"
            if "rounding" in row:
                atol += f", rounding alone {row['rounding']:.2e}"
            print(f"  {verdict(row['ok'], 'rounding' in row)} {row['name']:<70} {difference:>9} {atol}")
    passed, undecided = sum(r["ok"] for r in results), sum(r["undecided"] for r in results)
    print(f"{passed} passed, {len(results) - passed - undecided} failed, {undecided} undecided")


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
    return 0 if all(result["ok"] or result["undecided"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
