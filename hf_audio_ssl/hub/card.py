# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Model cards and method tables, generated from the registry, a saved folder and the results of a run."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from transformers.utils import CONFIG_NAME, FEATURE_EXTRACTOR_NAME

from hf_audio_ssl.hub.bundle import method_of
from hf_audio_ssl.registry import MethodSpec, load_class, methods

TEMPLATE = Path(__file__).with_name("card_template.md")
ADAPTER_CONFIG = "adapter_config.json"
LOG = "log.jsonl"
PARITY = {"verified": "verified, every case of the parity suite passes", "in progress": "in progress"}
# Auto class -> the task whose Hub widget runs such a model. Encoders have none: "feature-extraction" is text only.
WIDGET_TASKS = {
    "AutoModelForAudioClassification": "audio-classification",
    "AutoModelForCTC": "automatic-speech-recognition",
}
KINDS = {
    "AutoModel": "encoder",
    "AutoModelForPreTraining": "pre-training model (encoder and pre-training head)",
    "AutoModelForAudioClassification": "clip classifier",
    "AutoModelForAudioFrameClassification": "frame classifier",
    "AutoModelForCTC": "speech recogniser (CTC)",
}
# Licence identifiers of the Hub; any other name goes under `other`.
LICENSES = (
    "apache-2.0", "bsd-2-clause", "bsd-3-clause", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0",
    "cc-by-nc-nd-4.0", "cc0-1.0", "gpl-3.0", "mit", "other", "unknown",
)  # fmt: skip
# Public clips from the Hub's own documentation, for repositories without a samples/ folder
SAMPLES = "https://cdn-media.huggingface.co/speech_samples/"


def render_card(
    folder,
    *,
    repo_id: str | None = None,
    license: str | None = None,
    datasets: Iterable[str] = (),
    base_model: str | None = None,
    checkpoint: str | None = None,
    results: Iterable[Mapping] | str | Path | None = None,
    history: Iterable[Mapping] | str | Path | None = None,
    parity: Iterable[Mapping] | str | Path | None = None,
) -> ModelCard:
    """The card of a saved model folder; `render_card(...).save(folder / "README.md")` writes it.

    Args:
        folder: what `save_pretrained` wrote: a model, or a PEFT adapter (`adapter_config.json`).
        repo_id: repository that the usage code names. Default: the name of the folder.
        license: of the weights. Default: the released checkpoint's, else `unknown`; nobody's licence is guessed.
        datasets: Hub ids or names of the training data. Default: the released checkpoint's.
        base_model: repository that the weights were fine-tuned from. Default: what the adapter says, or the key
            `base_model` of a result, which fine-tuning writes.
        checkpoint: name of the authors' checkpoint (`MethodSpec.checkpoints`) that the weights were converted from.
        results: records `{"task", "dataset", "metric", "value"}` and optionally `"split"`, `"command"`,
            `"base_model"`, or a JSON file with a list of them. Default: `results.json` in `folder` if there is one.
        history: the run's log, records or a JSON-lines file; the last value of each collapse meter is shown. Default:
            `log.jsonl` in `folder` or, for a checkpoint, beside it.
        parity: report of the parity harness (`--json`), a list or a file. Default: what the registry says.

    Raises:
        ValueError: no config of a registered method in `folder`, an unknown checkpoint, an incomplete result.
        FileNotFoundError: a file given for `results`, `history` or `parity` is not there.
    """
    folder = Path(folder)
    adapter = _json(folder / ADAPTER_CONFIG)
    spec = _method_of_adapter(folder, adapter) if adapter else method_of(folder)
    config = _json(folder / CONFIG_NAME) or {}
    auto_class = _auto_class(spec, config, adapter)
    released = _checkpoint(spec, checkpoint)
    if adapter and base_model is None and not is_local(adapter.get("base_model_name_or_path")):
        base_model = adapter["base_model_name_or_path"]
    repo_id, datasets = repo_id or folder.resolve().name, [*datasets] or ([released.dataset] if released else [])
    rows = _results(_json(folder / "results.json") or [] if results is None else results)
    base_model = base_model or next((row["base_model"] for row in rows if row.get("base_model")), None)
    # the method's rate is that of the authors' models: one trained here may have another
    rate = (_json(folder / FEATURE_EXTRACTOR_NAME) or {}).get("sampling_rate", spec.sampling_rate)
    task = WIDGET_TASKS.get(auto_class)
    license_id, license_name = _license(license or (released.license if released else "unknown"))
    data = ModelCardData(
        library_name="peft" if adapter else "transformers",
        pipeline_tag=task,
        license=license_id,
        license_name=license_name,
        tags=[
            "audio",
            "self-supervised-learning",
            spec.name,
            spec.taxonomy,
            "hf_audio_ssl",
            *(["lora"] if adapter else []),
        ],
        datasets=[_slug(name) for name in datasets] or None,
        base_model=base_model,
        base_model_relation=("adapter" if adapter else "finetune") if base_model else None,
        metrics=list(dict.fromkeys(row["metric"] for row in rows)) or None,
        model_name=repo_id.split("/")[-1] if rows else None,
        eval_results=[_eval_result(row) for row in rows] or None,
        widget=_widget(folder, repo_id) if task else None,
    )
    if history is None:
        history = next((log for log in (folder / LOG, folder.resolve().parent / LOG) if log.is_file()), None)
    meters = _meters(spec, _records(history)) if auto_class == "AutoModelForPreTraining" else []
    return ModelCard.from_template(
        data,
        template_path=str(TEMPLATE),
        name=repo_id.split("/")[-1],
        method=_method(spec),
        summary=_summary(spec, auto_class, adapter, base_model),
        usage=_usage(spec, auto_class, repo_id, config, rate, adapter and (base_model or "BASE_MODEL")),
        usage_note=_usage_note(spec, adapter),
        facts=_facts(spec, auto_class, config, folder, rate),
        intended=INTENDED.get(auto_class, INTENDED["AutoModel"]),
        limits=_limits(rate),
        results=rows,
        commands=any(row.get("command") for row in rows),
        meters=meters,
        measured=any(meter["value"] != "" for meter in meters),
        origin=_origin(spec, released, base_model, adapter, datasets, _json(folder / "conversion.json")),
        code=not adapter and not spec.native,
        parity=PARITY[spec.parity] if parity is None else parity_figures(spec, parity),
        citation=citation(spec),
    )


def methods_table(specs: Iterable[MethodSpec] | None = None) -> str:
    """Markdown table of the methods (default: all that are registered), for the README."""
    lines = [
        "| method | paper | family | input | models | authors' weights | parity |",
        "|---|---|---|---|---|---|---|",
    ]
    for spec in methods().values() if specs is None else specs:
        models = [name for auto, name in spec.classes.items() if auto.startswith("AutoModel")]
        weights = sorted({item.license for item in spec.checkpoints})
        released = f"{len(spec.checkpoints)} ({', '.join(weights)})" if weights else "none"
        lines.append(
            f"| `{spec.name}` | [{spec.title}](https://arxiv.org/abs/{spec.arxiv}), {spec.year} | {spec.taxonomy} "
            f"| {spec.input}, {spec.sampling_rate / 1000:g} kHz | {', '.join(f'`{name}`' for name in models)} "
            f"| {released} | {spec.parity} |"
        )
    return "\n".join(lines)


def update_table(path) -> bool:
    """Put `methods_table()` between `<!-- methods:begin -->` and `<!-- methods:end -->`. True if the file changed."""
    return replace_block(Path(path), "methods", methods_table())


def update_family_card(path, spec: MethodSpec) -> bool:
    """Renew what the registry knows in a hand-written card of a family of checkpoints (`model_cards/<method>.md`).

    That is the YAML front matter and the block between `<!-- registry:begin -->` and `<!-- registry:end -->`: facts,
    checkpoints, citation. True if the file changed.
    """
    path = Path(path)
    licenses = {item.license for item in spec.checkpoints} or {"unknown"}
    license_id, license_name = _license(licenses.pop() if len(licenses) == 1 else "see the table of checkpoints")
    data = ModelCardData(
        library_name="transformers",
        license=license_id,
        license_name=license_name,
        tags=["audio", "self-supervised-learning", spec.name, spec.taxonomy, "hf_audio_ssl"],
        datasets=sorted({_slug(item.dataset) for item in spec.checkpoints}) or None,
    )
    facts = [*_facts(spec, None, {}, None, spec.sampling_rate), ("Parity with the original code", PARITY[spec.parity])]
    block = ["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in facts), ""]
    if spec.checkpoints:
        block += ["| checkpoint | where | trained on | licence | note |", "|---|---|---|---|---|"]
        block += [f"| {c.name} | {c.source} | {c.dataset} | {c.license} | {c.note} |" for c in spec.checkpoints]
        block += [""]
    block += ["```bibtex", citation(spec), "```"]
    before = path.read_text(encoding="utf-8")
    body = re.sub(r"\A---\n.*?\n---\n", "", before, count=1, flags=re.DOTALL)
    path.write_text(f"---\n{data.to_yaml()}\n---\n\n{body.lstrip()}", encoding="utf-8")
    replace_block(path, "registry", "\n".join(block))
    return path.read_text(encoding="utf-8") != before


def citation(spec: MethodSpec) -> str:
    """BibTeX of the method's paper, as arXiv knows it."""
    fields = {"title": f"{{{spec.title}}}", "year": spec.year, "eprint": spec.arxiv, "archivePrefix": "arXiv"}
    lines = [
        f"  {key} = {{{value}}}," for key, value in (fields | {"url": f"https://arxiv.org/abs/{spec.arxiv}"}).items()
    ]
    return "\n".join([f"@misc{{{spec.name}{spec.year},", *lines, "}"])


INTENDED = {
    "AutoModel": (
        "Embeddings of sound for retrieval, clustering and small classifiers, and a starting point for fine-tuning "
        "(full or LoRA) on labelled audio."
    ),
    "AutoModelForPreTraining": (
        "Going on with self-supervised pre-training on other audio, embeddings (`AutoModel` loads the encoder alone), "
        "and a starting point for fine-tuning (full or LoRA)."
    ),
    "AutoModelForAudioClassification": "Labelling sound with the classes it was trained on.",
    "AutoModelForAudioFrameClassification": "Labelling every frame of a sound with the classes it was trained on.",
    "AutoModelForCTC": "Writing down speech in the language and the alphabet it was trained on.",
}


def parity_figures(spec: MethodSpec, report: Iterable[Mapping] | str | Path) -> str:
    """One sentence on the method's cases in a parity report. Raises `ValueError` if it has none."""
    report = _given(report)
    cases = [case for case in report if case["method"] == spec.name]
    tensors = [tensor for case in cases for tensor in case["tensors"]]
    if not tensors:
        raise ValueError(f"parity: the report holds no tensors of {spec.name}")
    passed = sum(tensor["ok"] for tensor in tensors)
    shares = [
        t["max_abs_diff"] / t["atol"] for t in tensors if t["ok"] and t["atol"] and t["max_abs_diff"] is not None
    ]
    largest = f"; the largest difference is {max(shares):.0%} of its tolerance" if shares else ""
    return f"{passed} of {len(tensors)} tensors in {len(cases)} cases agree within tolerance{largest}"


def _method(spec: MethodSpec) -> str:
    """The method's name as its authors write it: what the title puts before a colon, else from the class names."""
    name, colon, _ = spec.title.partition(":")
    return name if colon and len(name.split()) <= 3 else spec.classes["AutoModel"].removesuffix("Model")


def _summary(spec, auto_class, adapter, base_model) -> str:
    paper = f"[{spec.title}](https://arxiv.org/abs/{spec.arxiv}) ({spec.year})"
    what = f"LoRA adapter ({KINDS.get(auto_class, 'model')})" if adapter else KINDS.get(auto_class, "model")
    origin = f", trained from [{base_model}](https://huggingface.co/{base_model})" if base_model else ""
    return f"{what[0].upper()}{what[1:]} of the self-supervised audio method {paper}{origin}."


def _usage(spec, auto_class, repo_id, config, rate, base) -> str:
    head = auto_class if auto_class in spec.classes else "AutoModel"
    trust = "" if spec.native else ", trust_remote_code=True"
    if base:
        labels = f", num_labels={len(config['id2label'])}" if config.get("id2label") else ""
        return "\n".join(
            ["from peft import PeftModel", f"from transformers import {head}", "",
             f'base = {head}.from_pretrained("{base}"{labels}{trust})',
             f'model = PeftModel.from_pretrained(base, "{repo_id}").eval()']
        )  # fmt: skip
    if auto_class == "AutoModelForCTC":
        return "\n".join(
            ["from transformers import pipeline", "",
             f'recognise = pipeline("automatic-speech-recognition", model="{repo_id}"{trust})',
             f"text = recognise(audio)  # a file name, or a 1-D float array at {rate} Hz"]
        )  # fmt: skip
    if auto_class == "AutoModelForAudioClassification":
        return "\n".join(
            ["from transformers import pipeline", "",
             f'classify = pipeline("audio-classification", model="{repo_id}"{trust})',
             f"labels = classify(audio)  # a file name, or a 1-D float array at {rate} Hz"]
        )  # fmt: skip
    if auto_class == "AutoModelForAudioFrameClassification":
        return "\n".join(
            [f"from transformers import AutoFeatureExtractor, {head}", "",
             f'extractor = AutoFeatureExtractor.from_pretrained("{repo_id}"{trust})',
             f'model = {head}.from_pretrained("{repo_id}"{trust}).eval()',
             f'logits = model(**extractor(audio, sampling_rate={rate}, return_tensors="pt")).logits']
        )  # fmt: skip
    # transformers' own class of a native model type cannot `encode`
    library, encoder = ("hf_audio_ssl", spec.classes["AutoModel"]) if spec.native else ("transformers", "AutoModel")
    return "\n".join(
        [f"from {library} import {encoder}", "",
         f'model = {encoder}.from_pretrained("{repo_id}"{trust}).eval()',
         f"embedding = model.encode(audio, sampling_rate={rate})  # 1-D float array(s) -> (clips, dim)"]
    )  # fmt: skip


def _usage_note(spec, adapter) -> str:
    if spec.native:
        return "Opens in plain transformers too; `hf_audio_ssl` adds `encode` and the authors' pre-training."
    note = "With `import hf_audio_ssl` first, the package's own code is used and `trust_remote_code` is not needed."
    return note if adapter else f"{note} Without the package, the files in this repository are all that is needed."


def _facts(spec, auto_class, config, folder, rate) -> list[tuple[str, str]]:
    facts = [
        ("Method", f"{_method(spec)}, {spec.family}, {spec.taxonomy}"),
        ("Paper", f"[{spec.title}](https://arxiv.org/abs/{spec.arxiv}), arXiv {spec.arxiv}, {spec.year}"),
        ("Original code", f"{spec.repository} ({spec.license})"),
        ("Input", f"{spec.input}, {rate} Hz mono"),
    ]
    if auto_class:
        facts.append(("Class", f"`{spec.classes[auto_class]}` (`{auto_class}`)"))
    size = [
        f"{config[key]} {word}"
        for key, word in (("hidden_size", "wide"), ("num_hidden_layers", "layers"))
        if key in config
    ]
    if size:
        facts.append(("Size", ", ".join(size)))
    parameters = _parameters(folder) if folder else 0
    if parameters:
        facts.append(("Parameters stored here", f"{parameters:,}"))
    return facts


def _limits(rate: int) -> list[str]:
    return [
        f"Expects mono audio at {rate} Hz and raises an error otherwise; nothing above {rate / 2000:g} kHz is seen.",
        "Knows the sounds, languages and recording conditions of its training data; measure it on yours first.",
        "Voices are personal data: identifying or judging people by them needs consent and a law that allows it.",
    ]


def _origin(spec, released, base_model, adapter, datasets, conversion) -> str:
    data = f" on {', '.join(datasets)}" if datasets else ""
    if released:
        note = f" {released.note}" if released.note else ""
        return (
            f"Converted by `conversion_scripts/convert_{spec.name}.py` from the authors' checkpoint `{released.name}` "
            f"({released.source}; weights: {released.license}). Every tensor of the original file is used, or named "
            f"in the conversion report.{note}"
        )
    if conversion:
        return (
            f"Converted by `conversion_scripts/convert_{spec.name}.py` from `{conversion['checkpoint']}`, which was "
            "trained elsewhere. `conversion.json` names what of it was left out, and why."
        )
    if base_model:
        how = "Trained as a LoRA adapter of" if adapter else "Fine-tuned from"
        return f"{how} [{base_model}](https://huggingface.co/{base_model}){data} with `hf_audio_ssl`."
    return f"Trained{data} with `hf_audio_ssl`; these are not the authors' weights."


def _meters(spec, records: list[Mapping]) -> list[dict]:
    """The pre-training model's collapse meters with their normal range and their last value in the log."""
    meters = []
    for name, (low, high) in load_class(spec, "AutoModelForPreTraining").collapse_meters.items():
        bounds = [f"above {low:g}"] if low is not None else []
        bounds += [f"below {high:g}"] if high is not None else []
        last = next((record[name] for record in reversed(records) if isinstance(record.get(name), int | float)), None)
        value = "" if last is None else f"{last:.4g}"
        meters.append({"name": name, "range": " and ".join(bounds) or "any", "value": value})
    return meters


def _results(source) -> list[dict]:
    rows = [dict(row) for row in _given(source)]
    for row in rows:
        missing = {"task", "dataset", "metric", "value"} - row.keys()
        if missing:
            raise ValueError(f"results: {row} has no {', '.join(sorted(missing))}")
        if isinstance(row["value"], float):
            row["value"] = round(row["value"], 4)
    return rows


def _eval_result(row: Mapping) -> EvalResult:
    return EvalResult(
        task_type=row["task"],
        dataset_type=_slug(row["dataset"]),
        dataset_name=row["dataset"],
        dataset_split=row.get("split"),
        metric_type=row["metric"],
        metric_value=row["value"],
    )


def _records(history) -> list[Mapping]:
    if isinstance(history, str | Path):
        return [json.loads(line) for line in Path(history).read_text(encoding="utf-8").splitlines() if line.strip()]
    return [*(history or [])]


def _widget(folder: Path, repo_id: str) -> list[dict]:
    """Examples for the Hub's audio widget: the clips in `samples/`, else two public ones."""
    clips = sorted(path for path in (folder / "samples").glob("*") if path.suffix in (".wav", ".flac", ".mp3", ".ogg"))
    if clips:
        base = f"https://huggingface.co/{repo_id}/resolve/main/" if "/" in repo_id else ""
        return [{"example_title": path.stem, "src": f"{base}samples/{path.name}"} for path in clips]
    return [{"example_title": f"Speech sample {n}", "src": f"{SAMPLES}sample{n}.flac"} for n in (1, 2)]


def _auto_class(spec, config, adapter) -> str | None:
    """Auto class that the saved weights belong to; None for an adapter that does not tell."""
    name = (config.get("architectures") or [None])[0]
    if adapter:
        name = (adapter.get("auto_mapping") or {}).get("base_model_class", name)
        if name is None and adapter.get("task_type") == "SEQ_CLS":
            return "AutoModelForAudioClassification"
    return next((auto for auto, class_name in spec.classes.items() if class_name == name), None)


def _method_of_adapter(folder: Path, adapter: Mapping) -> MethodSpec:
    """A PEFT adapter names the module of its base model, or at least the folder; else a config lies beside it."""
    library = (adapter.get("auto_mapping") or {}).get("parent_library") or ""
    for spec in methods().values():
        # a base model that was itself loaded as remote code lives in transformers_modules.<...>.<module>
        if library.startswith(f"{spec.package}.") or library.split(".")[-1] in spec.modules:
            return spec
    base = Path(adapter.get("base_model_name_or_path") or "")
    return method_of(base if base.is_dir() and (base / CONFIG_NAME).is_file() else folder)


def is_local(name: str | None) -> bool:
    """Whether `name` is a path (or nothing) rather than a Hub repository."""
    return not name or Path(name).is_absolute() or Path(name).exists() or name.count("/") > 1


def _checkpoint(spec, name: str | None):
    known = {item.name: item for item in spec.checkpoints}
    if name is not None and name not in known:
        raise ValueError(f"checkpoint={name!r} is not one of {spec.name}'s: expected {', '.join(known) or 'none'}")
    return known.get(name)


def _license(name: str) -> tuple[str, str | None]:
    """(Hub identifier, name for `license_name` if the Hub has no identifier)."""
    return (name.lower(), None) if name.lower() in LICENSES else ("other", _slug(name))


def _parameters(folder: Path) -> int:
    """Number of parameters in the folder's safetensors files, read from their headers."""
    count = 0
    for file in folder.glob("*.safetensors"):
        with file.open("rb") as stream:
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        for name, tensor in header.items():
            size = 1
            for length in tensor.get("shape", ()) if name != "__metadata__" else (0,):
                size *= length
            count += size
    return count


def _slug(name: str) -> str:
    return re.sub(r"[^\w./-]+", "-", name).strip("-").lower() if "/" not in name else name


def _given(source: Iterable[Mapping] | str | Path) -> list[Mapping]:
    """Records, or those of a JSON file that must be there."""
    return json.loads(Path(source).read_text(encoding="utf-8")) if isinstance(source, str | Path) else [*source]


def _json(path: Path):
    """What is in a JSON file; None without one."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def replace_block(path: Path, name: str, content: str) -> bool:
    """Put `content` between the lines `<!-- name:begin -->` and `<!-- name:end -->`. True if the file changed."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before = path.read_text(encoding="utf-8")
    if before.count(begin) != 1 or before.count(end) != 1 or before.index(begin) > before.index(end):
        raise ValueError(f"{path} needs one line {begin} and after it one line {end}")
    after = f"{before.partition(begin)[0]}{begin}\n\n{content}\n\n{end}{before.partition(end)[2]}"
    path.write_text(after, encoding="utf-8")
    return after != before
