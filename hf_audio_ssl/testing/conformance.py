# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Runs transformers' own model, configuration and feature-extractor test mixins for every method of the registry.

    python -m hf_audio_ssl.testing.conformance [--method eat]

The mixins come with transformers' source distribution, which pip downloads once into a cache outside the repository.
They are used as they are: tolerances untouched, masks supplied, and what cannot apply is skipped with its reason,
given in the method's tester.
"""

import argparse
import contextlib
import importlib
import os
import subprocess
import sys
import tarfile
import tempfile
import unittest
import unittest.mock
import xml.etree.ElementTree
from collections import Counter
from pathlib import Path

import torch
import transformers

from hf_audio_ssl.registry import load_class, methods
from hf_audio_ssl.testing.mixins import MethodTester

PACKAGE = "transformers_tests"
SUITE = Path(__file__).parents[2] / "tests/conformance/suite.py"
# what the mixins import but the source distribution leaves out
STUBS = {
    "__init__.py": "",
    "exporters/__init__.py": "",
    "exporters/test_export.py": "class ExportTesterMixin:\n    pass\n",
    "generation/__init__.py": "",
    "generation/test_utils.py": "class GenerationTesterMixin:\n    pass\n",
    "utils/__init__.py": "",
    "utils/test_configuration_utils.py": "config_common_kwargs = {}\n",
}


def cached_tests(version: str = transformers.__version__) -> Path:
    """The folder that holds transformers' test modules as the package `transformers_tests`; downloaded if absent.

    Raises:
        RuntimeError: pip cannot download the source distribution; its message is included.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "hf_audio_ssl" / f"transformers-{version}"
    if (cache / PACKAGE).is_dir():
        return cache
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        # pip asks the package for its metadata before it saves the file; that is all that runs
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", "transformers"]
        command += ["--dest", folder, f"transformers=={version}"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"pip could not download the source of transformers {version}:\n{done.stderr}")
        package = Path(folder) / PACKAGE
        for name, text in STUBS.items():
            path = package / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        with tarfile.open(next(Path(folder).glob("*.tar.gz"))) as archive:
            for member in archive.getmembers():
                parts = Path(member.name).parts
                if member.isfile() and len(parts) == 3 and parts[1] == "tests" and parts[2].endswith(".py"):
                    (package / parts[2]).write_bytes(archive.extractfile(member).read())
        try:
            package.rename(cache / PACKAGE)
        except OSError:
            if not (cache / PACKAGE).is_dir():  # unless another process was faster
                raise
    return cache


# -- from a MethodTester to what transformers calls a model tester ---------------------------------------------------


class _ModelTester:
    """The attributes and methods that transformers' mixins look for."""

    def __init__(self, tester: MethodTester, auto_class: str):
        self.tester, self.auto_class = tester, auto_class
        config = tester.config()
        self.batch_size, self.is_training = tester.batch_size, True
        self.hidden_size = config.hidden_size
        self.num_hidden_layers = config.num_hidden_layers
        self.num_attention_heads = config.num_attention_heads
        self.seq_length = tester.num_tokens(config, tester.steps, auto_class)
        # size of a mask that a test makes up, before `_prepare_for_class` puts the real one in its place
        self.num_masks = 1

    def get_config(self):
        return self.tester.config()

    def prepare_config_and_inputs_for_common(self):
        return self.tester.config(), self.tester.inputs()


def model_tests(tester: MethodTester, auto_classes: list[str]) -> type[unittest.TestCase]:
    """transformers' model and configuration tests for classes whose layers see the same tokens."""
    common = importlib.import_module(f"{PACKAGE}.test_modeling_common")
    configuration = importlib.import_module(f"{PACKAGE}.test_configuration_common")
    auto_class_of = {load_class(tester.spec, name).__name__: name for name in auto_classes}

    class Tests(common.ModelTesterMixin, unittest.TestCase):
        all_model_classes = tuple(load_class(tester.spec, name) for name in auto_classes)
        # there is no vocabulary
        test_resize_embeddings = False
        has_attentions = tester.has_attentions

        def setUp(self):
            if reason := tester.conformance_skips.get(self._testMethodName):
                self.skipTest(reason)
            torch.manual_seed(0)
            self.model_tester = _ModelTester(tester, auto_classes[0])

        def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
            """Nothing random is left to the model, frame labels have the resolution of its frames, and transcripts
            hold tokens, no blanks.
            """
            inputs = super()._prepare_for_class(inputs_dict, model_class, return_labels=return_labels)
            auto_class = auto_class_of[model_class.__name__]
            if auto_class == "AutoModelForPreTraining":
                random = tester.explicit_randomness(self.model_tester.get_config(), inputs)
                dtype = inputs["input_values"].dtype
                inputs |= {k: v.to(dtype) if v.is_floating_point() else v for k, v in random.items()}
            elif auto_class in ("AutoModelForAudioFrameClassification", "AutoModelForCTC") and return_labels:
                inputs |= tester.labels(auto_class, inputs)
            return {k: v.to(common.torch_device) if hasattr(v, "to") else v for k, v in inputs.items()}

        def test_config(self):
            config_class = load_class(tester.spec, "AutoConfig")
            # the number of labels is what one of these tests varies
            sizes = {name: value for name, value in tester.sizes.items() if name != "num_labels"}
            tests = configuration.ConfigTester(self, config_class, has_text_modality=False, **sizes)
            tests.run_common_tests()

        def test_model_get_set_embeddings(self):
            """As in transformers, where the input embedding is a projection instead of a table."""
            for model_class in self.all_model_classes:
                model = model_class(self.model_tester.get_config())
                self.assertIsInstance(model.get_input_embeddings(), torch.nn.Module)
                replacement = torch.nn.Linear(10, 10)
                model.set_input_embeddings(replacement)
                self.assertIs(model.get_input_embeddings(), replacement)
                output = model.get_output_embeddings()  # the head for CTC
                self.assertTrue(output is None or isinstance(output, torch.nn.Linear))

        def test_base_model_prefix_loads_base_weights(self):
            """As in transformers, which takes any child of the base class for *the* base model: not the teacher."""

            def students(model):
                teachers = [teacher for teacher, _ in model.teacher_pairs()]
                children = torch.nn.Module.named_children(model)
                return ((name, child) for name, child in children if child not in teachers)

            with contextlib.ExitStack() as stack:
                for model_class in self.all_model_classes:
                    stack.enter_context(unittest.mock.patch.object(model_class, "named_children", students))
                super().test_base_model_prefix_loads_base_weights()

    return Tests


class _FeatureExtractorTester:
    """Inputs that are as long as frames of features: transformers' tests pad features, not waves."""

    batch_size, min_seq_length, max_seq_length = 7, 40, 200

    def __init__(self, tester: MethodTester):
        self.tester = tester
        self.feature_size = tester.feature_extractor().feature_size
        self.seq_length_diff = (self.max_seq_length - self.min_seq_length) // (self.batch_size - 1)

    def prepare_feat_extract_dict(self):
        return dict(self.tester.extractor_sizes)

    def prepare_inputs_for_common(self, equal_length=False, numpify=False):
        lengths = [self.min_seq_length + i * self.seq_length_diff for i in range(self.batch_size)]
        lengths = [self.max_seq_length] * self.batch_size if equal_length else lengths
        shape = () if self.feature_size == 1 else (self.feature_size,)
        features = [torch.rand(length, *shape).numpy() for length in lengths]
        return features if numpify else [x.tolist() for x in features]


def feature_extractor_tests(tester: MethodTester) -> type[unittest.TestCase]:
    """transformers' tests of sequence feature extractors."""
    common = importlib.import_module(f"{PACKAGE}.test_sequence_feature_extraction_common")

    class Tests(common.SequenceFeatureExtractionTestMixin, unittest.TestCase):
        feature_extraction_class = load_class(tester.spec, "AutoFeatureExtractor")

        def setUp(self):
            if reason := tester.conformance_skips.get(self._testMethodName):
                self.skipTest(reason)
            torch.manual_seed(0)
            self.feat_extract_tester = _FeatureExtractorTester(tester)

    return Tests


def test_classes(tester: MethodTester) -> dict[str, type[unittest.TestCase]]:
    """All test classes of one method, by name. The pre-training model has its own: it encodes fewer tokens."""
    pretraining = "AutoModelForPreTraining"
    others = [name for name in tester.spec.classes if name not in ("AutoConfig", "AutoFeatureExtractor", pretraining)]
    # what transformers owns is tested there
    own = set(tester.spec.public_names)
    others = [name for name in others if tester.spec.classes[name] in own]
    classes = {"Model": model_tests(tester, others), "PreTraining": model_tests(tester, [pretraining])}
    classes["FeatureExtractor"] = feature_extractor_tests(tester)
    result = {}
    for part, cls in classes.items():
        cls.__name__ = cls.__qualname__ = f"{tester.spec.classes['AutoConfig'].removesuffix('Config')}{part}Test"
        result[cls.__name__] = cls
    return result


# -- command ---------------------------------------------------------------------------------------------------------


def summary(report: Path) -> str:
    """A table of counts per test class, from a JUnit file."""
    counts: dict[str, Counter] = {}
    for case in xml.etree.ElementTree.parse(report).iter("testcase"):
        outcome = next((child.tag for child in case if child.tag in ("failure", "error", "skipped")), "passed")
        counts.setdefault(case.get("classname", "").rsplit(".", 1)[-1], Counter())[outcome] += 1
    lines = [f"{'':<32}{'failed':>8}{'passed':>8}{'skipped':>8}"]
    for name, count in sorted(counts.items()):
        lines.append(f"{name:<32}{count['failure'] + count['error']:>8}{count['passed']:>8}{count['skipped']:>8}")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m hf_audio_ssl.testing.conformance", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--method", action="append", choices=list(methods()), help="only this one; may be repeated")
    parser.add_argument("--workers", default="2", help="processes (default 2)")
    parser.add_argument("pytest_arguments", nargs="*", help="passed on to pytest, after --")
    args = parser.parse_args(argv)
    cache = cached_tests()
    print(f"test mixins of transformers {transformers.__version__}: {cache / PACKAGE}", flush=True)
    names = args.method or list(methods())
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", str(SUITE), "-n", args.workers, "-p", "no:cacheprovider", "-rs"]
        command += ["-o", f"pythonpath={cache}", f"--junit-xml={report}", *args.pytest_arguments]
        environment = os.environ | {"HF_AUDIO_SSL_CONFORMANCE": ",".join(names), "OMP_NUM_THREADS": "1"}
        code = subprocess.run(command, env=environment).returncode
        if report.exists():
            print(summary(report))
    return code


if __name__ == "__main__":
    sys.exit(main())
