# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Upload of a saved model folder to the Hub, with its code and its card."""

import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import validate_repo_id
from transformers.utils import CONFIG_NAME

from hf_audio_ssl.hub.bundle import NOT_FOR_THE_HUB, bundle, method_of
from hf_audio_ssl.hub.card import ADAPTER_CONFIG, is_local, render_card

CARD = "README.md"
UNFILLED = "[More Information Needed]"  # in the card that PEFT saves beside an adapter


def push(
    folder,
    repo_id: str,
    *,
    private: bool = False,
    commit_message: str | None = None,
    token: str | None = None,
    revision: str | None = None,
    bundle_code: bool = True,
) -> str:
    """Upload a saved model folder and return its URL. The folder itself is left as it is.

    Creates the repository (and the branch `revision`) if needed. Adds the code for `trust_remote_code`, and a card if
    the folder has none or an unfilled template. Training state (optimizer, checkpoints, pickles) stays at home.

    Args:
        folder: what `save_pretrained` wrote: a model, or a PEFT adapter, whose code is its base model's.
        repo_id: `user/name`, or `name` for a repository of your own.
        private: make a new repository private. An existing public one is refused rather than filled.
        commit_message: default: "Upload <class> with hf_audio_ssl".
        token: access token with write permission. Default: `HF_TOKEN` or the stored login.
        revision: branch to push to, created from `main` if it does not exist.
        bundle_code: False uploads the folder without code: others then need the package.

    Raises:
        ValueError: a malformed `repo_id`, a folder without a model, an adapter of a local base model, no token.
        PermissionError: the Hub refuses the token.
    """
    folder = Path(folder)
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ValueError(f"repo_id={repo_id!r}: expected 'user/name'. {error}") from error
    what = _what(folder)
    token = token or get_token()
    if not token:
        raise ValueError(
            "token: none given and none stored. Log in with `hf auth login`, set HF_TOKEN or pass token=...; "
            "https://huggingface.co/settings/tokens makes one (with write permission)"
        )
    api = HfApi(token=token, library_name="hf_audio_ssl")
    with tempfile.TemporaryDirectory() as copy, _permission(repo_id):
        if "/" not in repo_id:
            repo_id = f"{api.whoami()['name']}/{repo_id}"
        ignore = shutil.ignore_patterns(*NOT_FOR_THE_HUB)
        shutil.copytree(folder, copy, copy_function=_link_or_copy, dirs_exist_ok=True, ignore=ignore)
        code = bundle_code and (folder / CONFIG_NAME).is_file()
        if code:
            bundle(copy)
        card = Path(copy) / CARD
        if not card.is_file() or UNFILLED in card.read_text(encoding="utf-8"):
            render_card(folder, repo_id=repo_id).save(card)

        url = api.create_repo(repo_id, private=private, exist_ok=True)
        if private and not api.model_info(repo_id).private:
            raise ValueError(f"private=True, but {repo_id} exists and is public: nothing was uploaded")
        if revision:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        api.upload_folder(
            repo_id=repo_id,
            folder_path=copy,
            commit_message=commit_message or f"Upload {what} with hf_audio_ssl",
            revision=revision,
            # code files of an earlier version that this one does not have
            delete_patterns=["ssl_*.py"] if code else None,
        )
    return str(url)


@contextmanager
def _permission(repo_id: str):
    """The Hub's refusals as `PermissionError`."""
    try:
        yield
    except HfHubHTTPError as error:
        if error.response.status_code in (401, 403):
            raise PermissionError(f"the Hub refuses this token for {repo_id}: {error}") from error
        raise


def _what(folder: Path) -> str:
    """Name of what is pushed, once it is clear that others can load it."""
    adapter = folder / ADAPTER_CONFIG
    if not adapter.is_file():
        spec = method_of(folder)
        architectures = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8")).get("architectures")
        return (architectures or [spec.name])[0]
    base = json.loads(adapter.read_text(encoding="utf-8")).get("base_model_name_or_path")
    if is_local(base):
        raise ValueError(
            f"{adapter}: the base model {base!r} is no Hub repository, so nobody else could load this adapter. Push "
            "the base model first and write its repository id into base_model_name_or_path"
        )
    return f"LoRA adapter of {base}"


def _link_or_copy(source: str, target: str) -> str:
    """Weights are linked, not copied; small files are copied, since some of them get changed."""
    if source.endswith(".safetensors"):
        try:
            os.link(source, target)
            return target
        except OSError:  # another file system
            pass
    return shutil.copy2(source, target)
