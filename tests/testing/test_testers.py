# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
from pathlib import Path

import pytest

from hf_audio_ssl.registry import methods
from hf_audio_ssl.testing.conformance import summary
from hf_audio_ssl.testing.mixins import MethodTester, find_testers


def test_every_method_has_a_tester():
    testers = find_testers(Path(__file__).parents[1] / "models")
    assert testers.keys() == methods().keys()
    assert all(isinstance(tester, MethodTester) for tester in testers.values())


def test_a_method_without_tester_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="methods without a tester: expected .*eat/tester.py"):
        find_testers(tmp_path)


def test_summary_counts_outcomes(tmp_path):
    report = tmp_path / "report.xml"
    outcomes = {"x.A": ("", "<skipped/>", "<failure/>"), "x.B": ("<error/>",)}
    cases = [f'<testcase classname="{name}">{tag}</testcase>' for name, tags in outcomes.items() for tag in tags]
    report.write_text(f"<testsuites><testsuite>{''.join(cases)}</testsuite></testsuites>")
    lines = summary(report).splitlines()
    assert lines[1].split() == ["A", "1", "1", "1"] and lines[2].split() == ["B", "1", "0", "0"]
