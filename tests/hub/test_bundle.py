# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""The bundler on a toy package that has every form of import; the real methods are in test_remote_code.py."""

import ast
import subprocess
import sys
from textwrap import dedent

import pytest
from transformers.dynamic_module_utils import get_imports, get_relative_imports

from hf_audio_ssl.hub.bundle import bundle, flat_name, flatten

HEADER = "# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.\n"


def write(root, **modules):
    """Files of a package: `a__b=...` is a/b.py, `a__init` is a/__init__.py."""
    for name, text in modules.items():
        path = root.joinpath(*name.split("__")).with_suffix(".py")
        path = path.with_name("__init__.py") if path.stem == "init" else path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(HEADER + dedent(text))
    return root


@pytest.fixture
def package(tmp_path):
    return write(
        tmp_path / "toy",
        init="raise ImportError('importing the package registers everything')\n",
        modules__init="from toy.modules.deep import depth as exported\n",
        modules__masking="def mask():\n    return 'mask'\n",
        modules__deep="# é: bytes and characters differ\nfrom toy.modules.masking import mask\ndepth = mask() + '!'\n",
        audio__fbank="def fbank():\n    from toy.modules import masking\n    return masking.mask() + ' fbank'\n",
        models__eat__init="from toy.registry import MethodSpec\n",
        models__eat__configuration_eat="class Config:\n    size = 3\n",
        models__eat__modeling_eat='''\
            """A method.

            Example:
                >>> from toy import Model  # stays as it is
            """
            import math, os  # é comment after an import

            import toy.modules.masking as m
            from toy.models.eat.configuration_eat import (  # the config
                Config,  # é kept
            )
            from toy.modules import deep, exported as e
            from toy.modules import masking as other


            def lazy():
                from toy.audio.fbank import fbank
                if True:
                    import unheard_of_package.sub  # optional

                return fbank()


            def guarded():
                try:
                    import unheard_of_too
                except ImportError:
                    return None


            RESULT = (Config.size, m.mask(), e, deep.depth, other.mask(), lazy, math.pi, os.sep)
            ''',
    )


def test_every_form_of_import(package, tmp_path):
    files = flatten({"toy.models.eat.modeling_eat"}, "toy", package)
    assert sorted(files) == [
        "configuration_eat.py",
        "modeling_eat.py",
        "ssl_audio_fbank.py",
        "ssl_modules_deep.py",
        "ssl_modules_masking.py",
    ]
    text = files["modeling_eat.py"]
    assert text.startswith(HEADER + "# Written by hf_audio_ssl.hub.bundle from toy/models/eat/modeling_eat.py")
    for kept in (
        "import math, os  # é comment after an import",
        "    Config,  # é kept",
        "  # the config",
        ">>> from toy",
    ):
        assert kept in text
    repository = tmp_path / "repo_toy"
    repository.mkdir()
    for name, source in files.items():
        (repository / name).write_text(source)
        assert not any(
            (getattr(node, "module", None) or "").startswith("toy")
            or any(a.name.startswith("toy") for a in node.names)
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.Import | ast.ImportFrom)
        )
    # transformers fetches what it sees, and insists on no package that is only imported on demand
    assert set(get_relative_imports(repository / "modeling_eat.py")) == {
        "configuration_eat", "ssl_audio_fbank", "ssl_modules_deep", "ssl_modules_masking",
    }  # fmt: skip
    assert not {"toy", "unheard_of_package", "unheard_of_too"} & set(get_imports(repository / "modeling_eat.py"))
    code = (
        "from repo_toy.modeling_eat import RESULT as r; print(r[:5], r[5].__name__);"
        "from repo_toy import ssl_audio_fbank as f; print(f.fbank())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert "(3, 'mask', 'mask!', 'mask!', 'mask') lazy\nmask fbank" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("import toy.modules.masking", "write `from"),
        ("from toy.modules.masking import *", "name what is imported"),
        ("from toy.registry import methods", "cannot be part of a model repository"),
        ("from toy import Model", "cannot be part of a model repository"),
        ("from toy.modules import nothing", "does not re-export nothing"),
        ("from toy.modules.nowhere import x", "no module toy.modules.nowhere"),
        ("x = 1; from toy.modules.masking import mask", "must begin its line"),
        ('"""Text:\n\nfrom .far import away\n"""', "take it for an import and look for far.py"),
    ],
)
def test_refuses_with_place_and_reason(package, line, error):
    write(package, registry="", models__eat__modeling_eat=line)
    with pytest.raises(ValueError, match=error) as caught:
        flatten({"toy.models.eat.modeling_eat"}, "toy", package)
    assert "modeling_eat" in str(caught.value)


def test_chain_names_every_step(package):
    write(package, registry="", modules__masking="from toy.registry import x\n")
    with pytest.raises(
        ValueError, match="modeling_eat imports .*deep imports .*masking imports toy.registry"
    ) as caught:
        flatten(
            {"toy.models.eat.modeling_eat"},
            "toy",
            write(package, models__eat__modeling_eat="import toy.modules.deep as d"),
        )
    assert "toy.models.eat.modeling_eat imports toy.modules.deep imports toy.modules.masking" in str(caught.value)


def test_flat_names_do_not_collide(package):
    write(
        package,
        modules__a__b="",
        modules__a_b="",
        models__eat__modeling_eat="import toy.modules.a.b as b\nimport toy.modules.a_b as c\n",
    )
    with pytest.raises(ValueError, match="would both become ssl_modules_a_b.py"):
        flatten({"toy.models.eat.modeling_eat"}, "toy", package)
    assert flat_name("hf_audio_ssl.modeling_base") == "ssl_modeling_base"
    assert flat_name("hf_audio_ssl.models.eat.modeling_eat") == "modeling_eat"


@pytest.mark.parametrize(("config", "error"), [(None, "has no config.json"), ('{"model_type": "bert"}', "'bert'")])
def test_folder_of_no_method(tmp_path, config, error):
    if config:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(ValueError, match=error):
        bundle(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == (["config.json"] if config else [])


def test_what_transformers_owns_needs_no_code(tmp_path):
    """The folder of a native model type is opened by plain transformers; bundling leaves it as it is."""
    import hf_audio_ssl

    sizes = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, conv_dim=(8,) * 7)
    sizes |= dict(num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2, codevector_dim=16)
    model = hf_audio_ssl.Wav2Vec2ForPreTraining(hf_audio_ssl.Wav2Vec2Config(**sizes))
    model.save_pretrained(tmp_path / "saved")
    hf_audio_ssl.Wav2Vec2FeatureExtractor().save_pretrained(tmp_path / "saved")
    assert bundle(tmp_path / "saved", tmp_path / "out") == []
    files = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir()}
    code = (
        "import sys; sys.modules['hf_audio_ssl'] = None\n"
        "from transformers import AutoFeatureExtractor, AutoModel, AutoModelForPreTraining\n"
        f"folder = {str(tmp_path / 'out')!r}\n"
        "for auto in (AutoFeatureExtractor, AutoModel, AutoModelForPreTraining):\n"
        "    loaded = auto.from_pretrained(folder)\n"
        "    print(type(loaded).__name__, type(loaded).__module__.split('.')[0])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    names = ["Wav2Vec2FeatureExtractor", "Wav2Vec2Model", "Wav2Vec2ForPreTraining"]
    assert done.stdout.splitlines() == [f"{name} transformers" for name in names], done.stderr
