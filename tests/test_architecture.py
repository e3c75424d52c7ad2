# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Who may import whom, read from the source."""

import ast
from pathlib import Path

import pytest

import hf_audio_ssl
from hf_audio_ssl.registry import methods

ROOT = Path(hf_audio_ssl.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
BASES = {
    "configuration_base",
    "modeling_base",
    "modeling_heads",
    "modeling_outputs",
    "modeling_spectrogram",
    "modeling_waveform",
    "feature_extraction_base",
}
LEAVES = {"audio", "losses", "schedules"}
KNOWS_NO_METHOD = {"training", "conversion", "hub", "evaluation", "testing", "data"}


def part(path):
    """`modules/masking.py` -> "modules", `models/eat/x.py` -> "models", `registry.py` -> "registry"."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def module_name(path):
    return ".".join(("hf_audio_ssl", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")


MODULES = {module_name(path) for path in FILES}


def imports(path, top_level_only=False):
    """Dotted names of the modules (and of names in `hf_audio_ssl` itself) that a file imports."""
    tree = ast.parse(path.read_text())
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for name in (f"{node.module}.{alias.name}" for alias in node.names):
                yield name if name in MODULES or node.module == "hf_audio_ssl" else node.module


def own(path):
    """The package's modules that a file imports, without the package's name."""
    return {name.removeprefix("hf_audio_ssl.") for name in imports(path) if name.startswith("hf_audio_ssl.")}


def files(*parts):
    return [path for path in FILES if part(path) in parts]


def name_of(path):
    return str(path.relative_to(ROOT))


every_file = pytest.mark.parametrize("path", FILES, ids=name_of)


@every_file
def test_imports_are_absolute(path):
    """The Hub bundler follows absolute imports, and a reader sees where a name comes from."""
    assert not [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ImportFrom) and n.level]


@pytest.mark.parametrize("path", files(*LEAVES), ids=name_of)
def test_leaves_stand_on_torch_and_numpy(path):
    assert {name.split(".")[0] for name in own(path)} <= LEAVES
    assert "transformers" not in {name.split(".")[0] for name in imports(path)}


@pytest.mark.parametrize("path", files("modules"), ids=name_of)
def test_modules_know_leaves_and_modules(path):
    assert {name.split(".")[0] for name in own(path)} <= LEAVES | {"modules"}


@pytest.mark.parametrize("path", files(*BASES), ids=name_of)
def test_bases_know_no_method(path):
    assert {name.split(".")[0] for name in own(path)} <= LEAVES | BASES | {"modules"}


@pytest.mark.parametrize("path", files("models"), ids=name_of)
def test_a_method_knows_the_shared_parts_and_at_most_one_parent(path):
    folder = path.relative_to(ROOT / "models").parts[0]
    allowed = LEAVES | BASES | {"modules", "registry", "models"}
    assert {name.split(".")[0] for name in own(path)} <= allowed
    others = {name.split(".")[1] for name in own(path) if name.startswith("models.")}
    assert len(others - {folder}) <= 1


@pytest.mark.parametrize("path", files(*KNOWS_NO_METHOD, "registry", "auto"), ids=name_of)
def test_tools_know_the_registry_and_no_method(path):
    public = {name for spec in methods().values() for name in spec.public_names}
    assert not [name for name in own(path) if name.startswith("models.")]
    assert not own(path) & public
    words = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
    assert not words & public


def test_no_module_imports_itself_around_a_corner():
    graph = {module_name(path): set(imports(path, top_level_only=True)) & MODULES for path in FILES}

    def visit(name, trail):
        assert name not in trail, " -> ".join([*trail, name])
        if name not in done:
            for target in graph.get(name, ()):
                visit(target, [*trail, name])
            done.add(name)

    done = set()
    for name in graph:
        visit(name, [])


@pytest.mark.parametrize("path", [p for p in FILES if "configuration" in p.name], ids=name_of)
def test_configurations_are_checked_by_type(path):
    """`from __future__ import annotations` would silently turn the checks of `strict` off."""
    text = path.read_text()
    assert "__future__" not in set(imports(path))
    # transformers' tests read the year to decide how strict they are
    assert text.startswith("# Copyright 2026")


@every_file
def test_header(path):
    text = path.read_text()
    assert not text.strip() or text.startswith(
        "# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License"
    )


@every_file
def test_public_classes_have_docstrings(path):
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{node.name} has no docstring"


@pytest.mark.parametrize("path", [p for p in FILES if part(p) not in ("cli", "demo", "testing")], ids=name_of)
def test_no_prints_and_no_asserts(path):
    for node in ast.walk(ast.parse(path.read_text())):
        assert not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print")
        assert not isinstance(node, ast.Assert), f"line {node.lineno}: errors of users are no assertions"
