# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""`hf-audio-ssl COMMAND`: everything the package does, from the shell.

Each command is a function of its arguments: the docstring is its help, and only the chosen one imports what it needs.
"""

import argparse
import dataclasses
import json
import logging
import re
import sys
from collections.abc import Callable
from pathlib import Path

EXAMPLES = """\
examples:
  hf-audio-ssl list
  hf-audio-ssl pretrain --recipe examples/recipes/eat/tiny.yaml --dataset recordings/ --output_dir pretrained
  hf-audio-ssl probe --model pretrained --dataset labelled/
  hf-audio-ssl finetune --model pretrained --dataset labelled/ --lora --output_dir classifier
  hf-audio-ssl push classifier me/my-classifier

`hf-audio-ssl COMMAND --help` explains a command."""


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    summaries = "\n".join(f"  {name:<10} {run.__doc__.splitlines()[0]}" for name, run in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="hf-audio-ssl",
        description=f"Audio self-supervised learning with transformers models.\n\ncommands:\n{summaries}",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="hf-audio-ssl COMMAND ...",
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help=argparse.SUPPRESS)
    command = parser.parse_args(argv[:1]).command
    return run_program(COMMANDS[command], argv[1:], f"hf-audio-ssl {command}")


def run_program(program: Callable, argv: list[str], name: str) -> int:
    """Call `program(argv)`, and say what goes on. What the user can mend is a message, not a traceback."""
    logging.basicConfig(format="%(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("hf_audio_ssl").setLevel(logging.INFO)
    try:
        program(argv)
    except re.error as error:
        message = f"{error.pattern!r} is no regular expression: {error}"
    except _mendable() as error:
        message = str(error)
    else:
        return 0
    print(f"{name}: {message}", file=sys.stderr)
    return 2


def _mendable() -> tuple[type[Exception], ...]:
    """Looked up once something has gone wrong: until then they need not be imported."""
    from huggingface_hub.errors import StrictDataclassError

    from hf_audio_ssl.data import CorpusReadError
    from hf_audio_ssl.training import CheckpointError, NonFiniteLossError

    return ValueError, OSError, StrictDataclassError, CorpusReadError, CheckpointError, NonFiniteLossError


def command_parser(run, parent: argparse.ArgumentParser | None = None) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog=f"hf-audio-ssl {run.__name__.removesuffix('_command')}",
        description=run.__doc__,
        parents=[parent] if parent else [],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", type=_device, help="such as cuda or cpu; default: a GPU if there is one")
    parser.add_argument("--batch_size", type=int, default=32, help="clips or windows per forward pass")


def _device(name: str) -> str:
    import torch

    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:  # no such device, or a torch that was built without it
        raise argparse.ArgumentTypeError(f"{name!r} cannot be used: {str(error).splitlines()[0]}") from error
    return name


def add_layers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--layers", type=int, nargs="+", default=[-1], help="hidden states; several are concatenated")


def add_corpus(parser: argparse.ArgumentParser) -> None:
    """The options of `open_corpus`."""
    group = parser.add_argument_group("audio")
    group.add_argument("--dataset", required=True, help="folder of audio files, Hub data set name, or synthetic")
    group.add_argument("--split", help="split of a Hub data set")
    group.add_argument("--config", help="configuration of a Hub data set")
    group.add_argument("--audio_column", help="column of a Hub data set with the audio")
    group.add_argument("--label_column", help="column of a Hub data set with the labels")
    group.add_argument("--group_column", help="column of a Hub data set with speakers, sessions, folds ...")
    group.add_argument(
        "--label_pattern",
        help="regular expression for file names without their ending, with the groups `label` and, for what is held "
        "out together, `group`: '(?P<label>[0-9])_(?P<group>[a-z]+)_.*' for 7_theo_3.wav. Default: metadata.csv, or "
        "sub-folders",
    )
    group.add_argument("--include", help="regular expression: only these file names (without their ending)")
    group.add_argument("--num_clips", type=int, help="size of the synthetic corpus")


def corpus_options(args: argparse.Namespace) -> dict:
    names = (
        "split",
        "config",
        "audio_column",
        "label_column",
        "group_column",
        "label_pattern",
        "include",
        "num_clips",
    )
    return {name: value for name in names if (value := getattr(args, name, None)) is not None}


def list_command(argv):
    """show the methods of the zoo"""
    parser = command_parser(list_command)
    add_json(parser)
    args = parser.parse_args(argv)

    from hf_audio_ssl.registry import methods

    specs = methods().values()
    if args.json:
        print(json.dumps([dataclasses.asdict(spec) for spec in specs]))
        return
    row = "{:<12} {:<5} {:<11} {:<12} {:<12} {:<12} {}"
    print(row.format("method", "year", "arXiv", "input", "learning", "parity", "title"))
    for s in specs:
        print(row.format(s.name, s.year, s.arxiv, s.input, s.taxonomy, s.parity, s.title))


def pretrain_command(argv):
    """pre-train a method on unlabelled audio

    On several GPUs: accelerate launch -m hf_audio_ssl.cli pretrain ...
    The same command again goes on from the last checkpoint.
    """
    from hf_audio_ssl.command_line import parse_pretraining
    from hf_audio_ssl.training.run import run_pretraining

    result = run_pretraining(
        **parse_pretraining(argv, description=pretrain_command.__doc__, prog="hf-audio-ssl pretrain")
    )
    print(f"{result.steps} steps, {result.skipped_steps} skipped. Model, log and plots: {result.output_dir}")


def finetune_command(argv):
    """fine-tune a pre-trained model for classification, in full or with LoRA"""
    from hf_audio_ssl.command_line import parse_finetuning
    from hf_audio_ssl.training.finetuning import run_finetuning

    args = parse_finetuning(argv, description=finetune_command.__doc__, prog="hf-audio-ssl finetune")
    print_finetuned(run_finetuning(args), args)


def print_finetuned(result, args) -> None:
    """The figures, and the folders that there are."""
    figures = {k: v for k, v in result.metrics.items() if "runtime" not in k and "per_s" not in k}
    print(", ".join(f"{name.removeprefix('eval_')} {value:.4g}" for name, value in figures.items()))
    folders = {"model": result.output_dir if args.lora_merge or not args.lora else None, "adapter": result.adapter_dir}
    print(", ".join(f"{name}: {folder}" for name, folder in folders.items() if folder))


def probe_command(argv):
    """compare embeddings: pre-trained, untrained, mel statistics

    Classifiers are fitted on the frozen embeddings of labelled clips and tested on clips held out: one group (speaker)
    after the other where the data set knows groups, five folds otherwise.
    """
    parser = command_parser(probe_command)
    parser.add_argument("--model", required=True, help="model folder or Hub id")
    add_corpus(parser)
    parser.add_argument("--probes", nargs="+", default=["linear", "knn"], help="linear, knn, prototypical")
    parser.add_argument("--pool", default="mean", help="mean, mean_std or cls")
    add_layers(parser)
    parser.add_argument("--seed", type=int, default=0, help="of the untrained network and of the folds")
    parser.add_argument("--no_baselines", action="store_false", dest="baselines", help="probe the model alone")
    add_device(parser)
    add_json(parser)
    args = parser.parse_args(argv)

    from hf_audio_ssl.evaluation import format_rows, run_probe

    rows = run_probe(
        args.model,
        args.dataset,
        probes=args.probes,
        pool=args.pool,
        layers=args.layers,
        seed=args.seed,
        baselines=args.baselines,
        device=args.device,
        batch_size=args.batch_size,
        **corpus_options(args),
    )
    print(json.dumps(rows) if args.json else format_rows(rows))


def extract_command(argv):
    """write the embeddings of a folder of audio to a file (.npz, .safetensors, .parquet)"""
    parser = command_parser(extract_command)
    parser.add_argument("--model", required=True, help="model folder or Hub id")
    parser.add_argument("--output", required=True, help="file to write; its ending says the format")
    add_corpus(parser)
    parser.add_argument("--pool", default="frames", help="frames, mean, mean_std or cls")
    add_layers(parser)
    parser.add_argument("--window", type=float, help="seconds; longer clips are cut into windows of this length")
    parser.add_argument("--hop", type=float, help="seconds between windows; overlaps are averaged")
    add_device(parser)
    add_json(parser)
    args = parser.parse_args(argv)

    from tqdm import tqdm

    from hf_audio_ssl.evaluation import extract

    with tqdm(unit="clip", disable=None) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        summary = extract(
            args.model,
            args.dataset,
            args.output,
            pool=args.pool,
            layers=args.layers,
            window=args.window,
            hop=args.hop,
            device=args.device,
            batch_size=args.batch_size,
            progress=progress,
            **corpus_options(args),
        )
    text = ", ".join(f"{value} {name}" for name, value in summary.items())
    print(json.dumps(summary) if args.json else f"{args.output}: {text}")


def stats_command(argv):
    """mean and standard deviation of a corpus's log mel, for the feature extractor

    The recipe's `features:` count, and what its `data:` says of the files.
    """
    from hf_audio_ssl.command_line import add_recipe, parse_recipe_arguments

    parser = command_parser(stats_command)
    parser.add_argument("--method", help="whose feature extractor is asked, where no recipe names it (default eat)")
    add_recipe(parser)
    add_corpus(parser)
    parser.add_argument("--max_clips", type=int, help="look at this many clips only")
    add_json(parser)
    given = parse_recipe_arguments(parser, argv, ("features",))
    args = argparse.Namespace(**given)

    from tqdm import tqdm

    from hf_audio_ssl.data import corpus_statistics, open_corpus
    from hf_audio_ssl.training.arguments import DATASET_KEYS
    from hf_audio_ssl.training.run import find_plan, make_extractor

    recipe = given.get("recipe")
    spec, plan = find_plan(recipe, args.method or (None if recipe else "eat"))
    extractor = make_extractor(spec, {**plan.features, **given.get("features block", {})})
    options = {name: plan.data[name] for name in DATASET_KEYS["corpus"] if name in plan.data}
    corpus = open_corpus(args.dataset, **{**options, **corpus_options(args)})
    with tqdm(unit="clip", disable=None) as bar:
        found = corpus_statistics(
            corpus, extractor, max_clips=args.max_clips, progress=lambda done: bar.update(done - bar.n)
        )
    if args.json:
        print(json.dumps(found))
    else:
        print(f"features:\n  mean: {found['mean']:.4f}\n  std: {found['std']:.4f}")
        print(f"# over {found['clips']} clips, {found['seconds']:.0f} s; skipped {found['skipped']}")


def convert_command(argv):
    """convert the authors' checkpoint of a method into a model folder"""
    from hf_audio_ssl.command_line import conversion_command
    from hf_audio_ssl.registry import get_method
    from hf_audio_ssl.testing.parity import load_script

    parser = command_parser(convert_command)
    parser.add_argument("method", help="such as eat; see hf-audio-ssl list")
    parser.add_argument(
        "--scripts",
        type=Path,
        default=Path(__file__).parents[1] / "conversion_scripts",
        help="folder with convert_<method>.py",
    )
    parser.epilog = "All other options are those of the method's script: hf-audio-ssl convert METHOD -- --help"
    args, options = parser.parse_known_args(argv)
    path = args.scripts / f"convert_{get_method(args.method).name}.py"
    if not path.is_file():
        raise ValueError(f"{path}: no such script; --scripts names the folder conversion_scripts of the repository")
    script = load_script(path)
    options = [option for option in options if option != "--"]
    prog = f"hf-audio-ssl convert {args.method}"
    print("wrote", conversion_command(script.convert, script.feature_extractor, options, prog=prog))


def bundle_command(argv):
    """add to a model folder the code it needs where this package is not installed"""
    parser = command_parser(bundle_command)
    parser.add_argument("folder", help="what save_pretrained wrote")
    parser.add_argument("--output", help="write a copy there instead")
    args = parser.parse_args(argv)

    from hf_audio_ssl.hub import bundle

    for path in bundle(args.folder, args.output):
        print(path)


def push_command(argv):
    """upload a model folder to the Hub, with its code and card"""
    parser = command_parser(push_command)
    parser.add_argument("folder", help="what save_pretrained wrote: a model, or a LoRA adapter")
    parser.add_argument("repo_id", help="user/name")
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    parser.add_argument("--revision", help="branch to upload to")
    parser.add_argument("--message", help="commit message")
    parser.add_argument("--no-code", action="store_true", help="leave out the code for trust_remote_code")
    args = parser.parse_args(argv)

    from hf_audio_ssl.hub import push

    print(
        push(
            args.folder,
            args.repo_id,
            private=args.private,
            revision=args.revision,
            commit_message=args.message,
            bundle_code=not args.no_code,
        )
    )


def card_command(argv):
    """write the card of a model folder, or renew the tables of this repository"""
    parser = command_parser(card_command)
    parser.add_argument("folder", nargs="?", help="model folder; its README.md is written")
    parser.add_argument("--repo_id", help="repository that the usage code names")
    parser.add_argument("--license", help="of the weights, such as mit")
    parser.add_argument("--datasets", nargs="*", default=[], help="Hub ids of the training data")
    parser.add_argument("--base_model", help="repository that the weights were fine-tuned from")
    parser.add_argument(
        "--checkpoint", help="name of the authors' checkpoint that was converted; see hf-audio-ssl list --json"
    )
    parser.add_argument("--results", help="JSON file with figures; default: results.json in the folder")
    parser.add_argument("--parity", help="report of `python -m hf_audio_ssl.testing.parity ... --json`")
    parser.add_argument(
        "--update", action="store_true", help="renew the tables of README.md and model_cards/ from the registry"
    )
    args = parser.parse_args(argv)
    if bool(args.folder) == args.update:
        parser.error("give either a folder or --update")

    from hf_audio_ssl.hub import render_card, update_family_card, update_table
    from hf_audio_ssl.registry import methods

    if args.update:
        changed = [path for path in [Path("README.md")] if update_table(path)]
        for spec in methods().values():
            path = Path("model_cards") / f"{spec.name}.md"
            changed += [path] if update_family_card(path, spec) else []
        print("\n".join(map(str, changed)) or "nothing to change")
        return
    path = Path(args.folder) / "README.md"
    render_card(
        args.folder,
        repo_id=args.repo_id,
        license=args.license,
        datasets=args.datasets,
        base_model=args.base_model,
        checkpoint=args.checkpoint,
        results=args.results,
        parity=args.parity,
    ).save(path)
    print(path)


def demo_command(argv):
    """the whole way in some minutes on a CPU: pre-train, probe, fine-tune, save, plot"""
    parser = command_parser(demo_command)
    parser.add_argument("--output", default="demo_output", help="folder for models, table and pictures")
    parser.add_argument("--steps", type=int, help="pre-training steps; fewer are faster and worse")
    args = parser.parse_args(argv)

    from hf_audio_ssl.demo import run_demo

    run_demo(Path(args.output), steps=args.steps)


COMMANDS = {
    "list": list_command,
    "pretrain": pretrain_command,
    "finetune": finetune_command,
    "probe": probe_command,
    "convert": convert_command,
    "extract": extract_command,
    "stats": stats_command,
    "bundle": bundle_command,
    "push": push_command,
    "card": card_command,
    "demo": demo_command,
}

if __name__ == "__main__":
    sys.exit(main())
