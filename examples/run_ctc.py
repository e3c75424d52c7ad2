#!/usr/bin/env python
# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Fine-tune a pre-trained model for speech recognition with CTC, in full or with LoRA.

    python examples/run_ctc.py --recipe examples/recipes/wav2vec2/ctc_digits.yaml \\
        --model PRETRAINED --dataset DIR --output_dir OUT

The transcript of a clip is its label: a column of metadata.csv or of a Hub data set (`--set data.label_column=text`),
or what a pattern finds in its file name (`--set 'data.label_pattern=...(?P<label>...)...'`); `--words` says what a
label stands for. The result opens with `pipeline("automatic-speech-recognition", model=OUT)`.
"""

import sys

from hf_audio_ssl.cli import print_finetuned, run_program
from hf_audio_ssl.command_line import parse_finetuning
from hf_audio_ssl.training.ctc import CTCArguments, run_ctc


def main(argv):
    args = parse_finetuning(argv, kind=CTCArguments, description=__doc__)
    print_finetuned(run_ctc(args), args)


if __name__ == "__main__":
    sys.exit(run_program(main, sys.argv[1:], "run_ctc.py"))
