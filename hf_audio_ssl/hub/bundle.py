# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Self-contained code for a Hub repository.

transformers loads remote code from single files in the root of a repository, and of these it fetches only the ones
named by a line `from .name import ...` (a regular expression over the text,
`dynamic_module_utils.get_relative_imports`). Our files import the package absolutely. So `bundle` copies a method's
files and every package file that they import, directly or not, under flat names, and turns each `from
hf_audio_ssl.a.b import x` into `from .ssl_a_b import x`. Nothing else changes, comments included.

What is decided about the harder forms:
- imports inside functions count like those at the top: their files are copied, since they will be needed one day;
- a name that a package's `__init__.py` re-exports is imported from the file that defines it;
- a whole module (`import hf_audio_ssl.a.b as c`, `from hf_audio_ssl.a import b`) becomes `from . import ssl_a_b as c`,
  which the regular expression overlooks, preceded by a line that it sees;
- a third-party import inside a function is optional for us, while transformers insists on every import outside `try`
  blocks (and executes it): it is wrapped in one;
- what serves training, registration or the Hub has no place in a model repository: reaching it is an error that shows
  the chain of imports.
"""

import ast
import json
import re
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from transformers.dynamic_module_utils import get_relative_imports
from transformers.utils import CONFIG_NAME, FEATURE_EXTRACTOR_NAME

from hf_audio_ssl.registry import MethodSpec, methods

PACKAGE = "hf_audio_ssl"
# Parts of the package that a model never needs; "" is the package itself, whose import registers every method.
NOT_MODEL_CODE = ("", "auto", "cli", "conversion", "data", "evaluation", "hub", "registry", "testing", "training")
# Present wherever transformers runs a model, so transformers may insist on them.
ALWAYS_PRESENT = frozenset({*sys.stdlib_module_names, "huggingface_hub", "numpy", "torch", "transformers"})
# Files in models/<method>/ that begin like this keep their names: unique, and what Hub users expect to see.
METHOD_FILES = ("configuration_", "feature_extraction_", "modeling_", "processing_", "tokenization_")
# Training state: never part of a model repository. training_args.bin is a pickle.
NOT_FOR_THE_HUB = (
    ".*", "__pycache__", "checkpoint*", "*.tmp", "events.out.tfevents*", "runs", "optimizer*", "scheduler*", "scaler*",
    "rng_state*", "random_states*", "trainer_state.json", "training_args.bin",
)  # fmt: skip


def bundle(folder, output=None) -> list[Path]:
    """Make a saved model folder loadable with `trust_remote_code=True` where this package is not installed.

    Writes the code files and completes `auto_map` in `config.json` and, where present, `preprocessor_config.json`.

    Args:
        folder: what `save_pretrained` of any registered class wrote; changed in place if `output` is None.
        output: folder that receives a copy of `folder` (training state left out) and the code.

    Returns:
        The files written or changed: none for a method on transformers' own model type, which needs no code.

    Raises:
        ValueError: `folder` holds no config of a registered method, or its code cannot be flattened; says where.
    """
    folder = Path(folder)
    spec = method_of(folder)
    home = {name: f"{spec.package}.{module}" for module, names in spec.modules.items() for name in names}
    # what transformers owns, a method's heads or the whole model type, loads without any code
    classes = {auto: name for auto, name in spec.classes.items() if name in home and not spec.native}
    files = flatten({home[name] for name in classes.values()})
    auto_map = {auto: f"{flat_name(home[name])}.{name}" for auto, name in classes.items()}

    if output is not None:
        shutil.copytree(folder, output, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*NOT_FOR_THE_HUB))
        folder = Path(output)
    written = [_write(folder / name, text) for name, text in files.items()]
    for name, mapping in ((CONFIG_NAME, auto_map), (FEATURE_EXTRACTOR_NAME, _only_extractor(auto_map))):
        if mapping and (folder / name).is_file():
            content = json.loads((folder / name).read_text(encoding="utf-8")) | {"auto_map": mapping}
            written.append(_write(folder / name, json.dumps(content, indent=2, sort_keys=True) + "\n"))
    return written


def method_of(folder) -> MethodSpec:
    """The method that `config.json` in `folder` belongs to. Raises `ValueError` without one."""
    file = Path(folder) / CONFIG_NAME
    if not file.is_file():
        raise ValueError(f"folder {str(folder)!r} has no {CONFIG_NAME}: expected one written by `save_pretrained`")
    config = json.loads(file.read_text(encoding="utf-8"))
    specs = [spec for spec in methods().values() if spec.model_type == config.get("model_type")]
    if not specs:
        known = ", ".join(spec.model_type for spec in methods().values())
        raise ValueError(f"{file}: model_type is {config.get('model_type')!r}, expected one of {known}")
    # methods built on one of transformers' own configs share its model type
    architectures = config.get("architectures") or []
    return next((spec for spec in specs if {*architectures} & {*spec.classes.values()}), specs[0])


def flat_name(module: str, package: str = PACKAGE) -> str:
    """`<package>.modules.masking` -> `ssl_modules_masking`, `<package>.models.eat.modeling_eat` -> `modeling_eat`."""
    parts = module.removeprefix(f"{package}.").split(".")
    if parts[0] == "models" and parts[-1].startswith(METHOD_FILES):
        return parts[-1]
    return "_".join(["ssl", *parts])


def flatten(modules, package: str = PACKAGE, root: Path | None = None) -> dict[str, str]:
    """File name -> source of `modules` and all they import from `package`, ready for one folder without the package.

    `root` is the folder of `package` (default: where this package lives).

    Raises:
        ValueError: an import that cannot be rewritten, or that reaches what is not model code; with file and line.
    """
    tree = _Tree(package, Path(__file__).parents[1] if root is None else Path(root))
    chains = {module: [module] for module in sorted(modules)}  # module -> how it was reached
    todo, files, taken = list(chains), {}, {}
    while todo:
        module = todo.pop(0)
        if module.removeprefix(package).removeprefix(".").split(".")[0] in NOT_MODEL_CODE:
            raise ValueError(f"{' imports '.join(chains[module])}, which cannot be part of a model repository")
        flat = flat_name(module, package)
        if taken.setdefault(flat, module) != module:
            raise ValueError(f"{module} and {taken[flat]} would both become {flat}.py: rename one")
        files[f"{flat}.py"], needed = tree.rewrite(module)
        for other in needed:
            if other not in chains:
                chains[other] = [*chains[module], other]
                todo.append(other)
    for name, text in files.items():
        _check(name, text, files, package)
    return files


@dataclass(frozen=True)
class _Tree:
    """The source files of one package, by module name."""

    package: str
    root: Path

    def file(self, module: str) -> Path | None:
        """The file of a module, `__init__.py` for a package, None if there is no such module."""
        path = self.root.joinpath(*module.split(".")[1:])
        candidates = path.with_suffix(".py") if path != self.root else None, path / "__init__.py"
        return next((candidate for candidate in candidates if candidate and candidate.is_file()), None)

    def is_package(self, module: str) -> bool:
        file = self.file(module)
        return file is not None and file.name == "__init__.py"

    def owner(self, module: str, name: str) -> tuple[str, str | None]:
        """Where `from module import name` comes from: (module, name), or (module, None) if `name` is a module."""
        if self.file(module) is None:
            raise ValueError(f"there is no module {module}")
        if not self.is_package(module):
            return module, name
        if self.file(f"{module}.{name}") and not self.is_package(f"{module}.{name}"):
            return f"{module}.{name}", None
        for node in ast.parse(self.file(module).read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and any((a.asname or a.name) == name for a in node.names):
                source = self.absolute(node, module)
                if source is not None:
                    return self.owner(source, next(a.name for a in node.names if (a.asname or a.name) == name))
        if module == self.package:
            return module, name  # lazily exported; refused later, with the chain that led here
        raise ValueError(f"{module}/__init__.py does not re-export {name}: import it from the file that defines it")

    def absolute(self, node: ast.ImportFrom, module: str) -> str | None:
        """Module that `node` in `module` imports from, if it is in this package."""
        name = node.module or ""
        if node.level:
            depth = node.level - self.is_package(module)
            base = module.split(".")[: len(module.split(".")) - depth]
            name = ".".join([*base, *filter(None, [name])])
        return name if name.split(".")[0] == self.package else None

    def rewrite(self, module: str) -> tuple[str, list[str]]:
        """Source of `module` with flat imports, and the modules of this package that it needs."""
        path = self.file(module)
        if path is None:
            raise ValueError(f"there is no module {module}")
        source = path.read_bytes()
        starts = [0]
        for line in source.splitlines(keepends=True):
            starts.append(starts[-1] + len(line))
        needed, edits = [], []
        for node, guarded in _imports(ast.parse(source)):
            # AST columns count bytes
            begin = starts[node.lineno - 1] + node.col_offset
            end = starts[node.end_lineno - 1] + node.end_col_offset
            before = source[starts[node.lineno - 1] : begin].decode()
            try:
                new = self._statement(node, module, source[begin:end].decode(), before, guarded, needed)
            except ValueError as error:
                raise ValueError(f"{path}:{node.lineno}: {error}") from error
            if new is not None:
                if before.strip():
                    raise ValueError(f"{path}:{node.lineno}: this import must begin its line to be bundled")
                edits.append((begin, end, new.encode()))
        for begin, end, new in sorted(edits, reverse=True):
            source = source[:begin] + new + source[end:]
        return _mark(source.decode(), f"{self.package}/{path.relative_to(self.root).as_posix()}"), needed

    def _statement(self, node, module: str, text: str, indent: str, guarded: bool, needed: list[str]) -> str | None:
        """What to write instead of the import `node`, whose text is `text`; None to leave it. Adds to `needed`."""
        if isinstance(node, ast.Import):
            ours = [alias for alias in node.names if alias.name.split(".")[0] == self.package]
            if not ours:
                return _optional(node.names, text, indent, guarded)
            if len(ours) < len(node.names) or any(alias.asname is None for alias in ours):
                raise ValueError(f"cannot bundle `{text}`: write `from ... import ...` or `import ... as ...`")
            targets = [(alias.name, None, alias.asname) for alias in ours]
        else:
            origin = self.absolute(node, module)
            if origin is None:
                return None if node.level else _optional([ast.alias(node.module)], text, indent, guarded)
            if any(alias.name == "*" for alias in node.names):
                raise ValueError(f"cannot bundle `{text}`: name what is imported")
            targets = [(*self.owner(origin, alias.name), alias.asname or alias.name) for alias in node.names]
        needed.extend(dict.fromkeys(target for target, _, _ in targets))
        if isinstance(node, ast.ImportFrom) and {(target, name) for target, name, _ in targets} == {
            (targets[0][0], alias.name) for alias in node.names
        }:
            # one file and the names as written: change only the head, so that comments between the names stay
            flat = flat_name(targets[0][0], self.package)
            return re.sub(r"\Afrom\s+[\w.]+\s+import", f"from .{flat} import", text, count=1)
        lines = []
        for target, name, bound in targets:
            flat = flat_name(target, self.package)
            if name is None:
                lines.append(f"from .{flat} import __name__ as _{flat}  # transformers overlooks the next line")
                lines.append(f"from . import {flat} as {bound}")
            else:
                lines.append(f"from .{flat} import {name}" + (f" as {bound}" if bound != name else ""))
        return f"\n{indent}".join(lines)


def _imports(tree: ast.AST):
    """Every import statement of `tree`, and False if it is in a function and outside `try`."""

    def walk(node, guarded):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import | ast.ImportFrom):
                yield child, guarded
            elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from walk(child, False)
            else:
                yield from walk(child, guarded or isinstance(child, ast.Try))

    yield from walk(tree, True)


def _optional(names, text: str, indent: str, guarded: bool) -> str | None:
    """A third-party import in a function: in a `try` block, which transformers skips when it checks requirements."""
    if guarded or all(alias.name.split(".")[0] in ALWAYS_PRESENT for alias in names):
        return None
    return f"\n{indent}".join(["try:", f"    {text}", "except ImportError:", "    raise"])


def _mark(text: str, origin: str) -> str:
    """Say under the licence line where the file comes from."""
    note = f"# Written by hf_audio_ssl.hub.bundle from {origin}: change it there.\n"
    head, newline, rest = text.partition("\n")
    return f"{head}{newline}{note}{rest}" if head.startswith("# Copyright") else note + text


def _check(name: str, text: str, files: dict[str, str], package: str) -> None:
    """No import of the package is left, and every file that transformers will look for is there."""
    for node in ast.walk(ast.parse(text)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        if any(name.split(".")[0] == package for name in names):
            raise ValueError(f"{name}:{node.lineno}: still imports {package}")
    for wanted in _relative_imports(text):
        if f"{wanted}.py" not in files:
            raise ValueError(
                f"{name}: a line of text reads `from .{wanted} import` or `import .{wanted}`; transformers would "
                f"take it for an import and look for {wanted}.py: reword it"
            )


def _relative_imports(text: str) -> list[str]:
    """What transformers takes for relative imports; its own function, which wants a file."""
    with tempfile.TemporaryDirectory() as folder:
        return get_relative_imports(_write(Path(folder) / "module.py", text))


def _only_extractor(auto_map: dict[str, str]) -> dict[str, str]:
    return {auto: name for auto, name in auto_map.items() if auto == "AutoFeatureExtractor"}


def _write(path: Path, text: str) -> Path:
    """Write by rename: whole or not at all, and never through a hard link into another folder."""
    part = path.with_name(f"{path.name}.tmp")
    part.write_text(text, encoding="utf-8", newline="\n")
    part.replace(path)
    return path
