# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""What is particular to DinoSR. Shared behaviour: tests/models/test_methods.py; the original: tests/parity."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

import hf_audio_ssl
from hf_audio_ssl import DinoSrConfig, DinoSrFeatureExtractor, DinoSrForCTC, DinoSrForPreTraining
from hf_audio_ssl.data.corpus import Corpus
from hf_audio_ssl.data.dataset import ClipDataset
from hf_audio_ssl.testing.mixins import find_testers
from hf_audio_ssl.training import PretrainingArguments, pretrain

HERE = Path(__file__).parent
TESTER = find_testers(HERE.parent)["dinosr"]
PRETRAINING, CTC = "AutoModelForPreTraining", "AutoModelForCTC"
FRAMES, SHORT = 12, 6  # of the tester's clips


def test_sizes_of_the_paper():
    with torch.device("meta"):
        model = DinoSrForPreTraining(DinoSrConfig())
    student = sum(p.numel() for p in model.dinosr.parameters())
    # as data2vec's base model (93.2 million in transformers), with positions of the same size
    assert student / 1e6 == pytest.approx(93, rel=0.01)
    assert model.config.receptive_field == 400 and model.config.inputs_to_logits_ratio == 320


def test_the_encoder_is_transformers_data2vec():
    from transformers import Data2VecAudioConfig, Data2VecAudioModel

    model, inputs = TESTER.model("AutoModel"), TESTER.inputs()
    sizes = TESTER.sizes | {"hidden_dropout": 0.0, "attention_dropout": 0.0, "mask_time_prob": 0.0}
    theirs = Data2VecAudioModel(Data2VecAudioConfig(**sizes)).eval()
    theirs.load_state_dict(model.state_dict())
    with torch.no_grad():
        expected = theirs(inputs["input_values"]).last_hidden_state
        torch.testing.assert_close(model(inputs["input_values"]).last_hidden_state, expected)


def test_convolutions_that_have_biases_hear_how_loud_a_frame_is():
    model = TESTER.model("AutoModel", conv_bias=True).feature_extractor
    quiet = 0.01 * torch.randn(1, 4000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        similarity = F.cosine_similarity(model(quiet).flatten(), model(100 * quiet).flatten(), dim=0)
    assert similarity < 0.9  # with zero biases layer norm removes the level: 1.0


# -- pre-training -----------------------------------------------------------------------------------------------------


def test_targets_are_normalised_feed_forward_outputs_of_the_teacher():
    model, inputs = TESTER.model(PRETRAINING), TESTER.inputs()
    with torch.no_grad():
        for parameter in model.teacher.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    states = []
    for layer in model.teacher.layers:
        layer.feed_forward.register_forward_hook(lambda module, args, output: states.append(output))
    projected = model.dinosr.project(inputs["input_values"])
    targets = model.make_targets(projected, None)
    assert targets.shape == (2, 3, FRAMES, 32)
    for state, target in zip(states, targets):
        expected = (state - state.mean(1, keepdim=True)) / (state.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
        torch.testing.assert_close(target, expected, atol=1e-5, rtol=1e-4)
    # the layers really are the teacher's own
    own = model.teacher(projected)
    assert torch.equal(own, model.teacher.layers[-1].final_layer_norm(own_input(model, projected) + states[1]))
    one = TESTER.model(PRETRAINING, num_codebooks=1)
    one.teacher.load_state_dict(model.teacher.state_dict())
    assert torch.equal(one.make_targets(projected, None)[0], targets[1])


def own_input(model, projected):
    """What the last layer of the teacher adds its feed-forward output to."""
    caught = []
    layer = model.teacher.layers[-1].layer_norm
    handle = layer.register_forward_hook(lambda module, args, output: caught.append(output))
    model.teacher(projected)
    handle.remove()
    return caught[0]


def test_loss_is_the_cross_entropy_of_the_teachers_codes():
    """Written out frame by frame and codebook by codebook, with a padded clip."""
    model, arguments = TESTER.model(PRETRAINING), TESTER.arguments(PRETRAINING)
    output = model(**arguments)
    errors = []
    for clip in range(3):
        for frame in range(SHORT if clip == 2 else FRAMES):
            if arguments["bool_masked_pos"][clip, frame]:
                for book in range(2):
                    probability = output.predictions[clip, book, frame].softmax(dim=-1)
                    errors.append(-probability[output.targets[clip, book, frame]].log())
    torch.testing.assert_close(output.loss, torch.stack(errors).mean())
    assert torch.equal(output.loss, output.codebook_loss)
    codes = model.tokenize(arguments["input_values"], arguments["attention_mask"])
    assert torch.equal(codes[:2], output.targets[:2]) and torch.equal(
        codes[2, :, :SHORT], output.targets[2, :, :SHORT]
    )
    assert (codes[2, :, SHORT:] == -1).all()


def test_meters_by_hand():
    model, arguments = TESTER.model(PRETRAINING), TESTER.arguments(PRETRAINING)
    output = model(**arguments)
    scored = arguments["bool_masked_pos"].clone()
    scored[2, SHORT:] = False
    assert output.masked_share.item() == pytest.approx(scored.sum().item() / (2 * FRAMES + SHORT))
    entropies, guesses = [], []
    for book in range(2):
        share = output.targets[:, book][scored].bincount() / scored.sum()
        entropies.append(-(share * share.clamp(min=1e-9).log()).sum())
        share = output.predictions[:, book][scored].softmax(dim=-1).mean(dim=0)
        guesses.append((-(share * share.log()).sum()).exp())
    torch.testing.assert_close(output.target_entropy, torch.stack(entropies).mean())
    torch.testing.assert_close(output.codebook_perplexity, torch.stack(entropies).exp().mean())
    torch.testing.assert_close(output.prediction_perplexity, torch.stack(guesses).mean())


def test_a_padded_clip_is_what_the_clip_alone_is():
    """Unless the model is told to treat padding as the original does."""
    arguments = TESTER.arguments(PRETRAINING)
    real = TESTER.short_steps
    alone = {"input_values": arguments["input_values"][2:, :real]}
    for own, close in ((True, True), (False, False)):
        model = TESTER.model(PRETRAINING, mask_padding=own)
        padded = model.tokenize(arguments["input_values"], arguments["attention_mask"])[2:, :, :SHORT]
        assert torch.equal(padded, model.tokenize(**alone)) or not close
        frame_mask = model.dinosr.frame_mask(arguments["attention_mask"])
        targets = model.make_targets(model.dinosr.project(arguments["input_values"]), frame_mask)[:, 2, :SHORT]
        expected = model.make_targets(model.dinosr.project(**alone), None)[:, 0]
        states = model.dinosr(**{k: arguments[k] for k in ("input_values", "attention_mask")}).last_hidden_state
        difference = (states[2, :SHORT] - model.dinosr(**alone).last_hidden_state[0]).abs().amax(dim=-1)
        assert torch.allclose(targets, expected, atol=1e-4) is close
        assert (difference < 1e-5).all().item() is close


def test_every_row_of_a_batch_without_padding_has_as_many_masked_frames():
    model = TESTER.model(PRETRAINING)
    counts = model(torch.randn(20, TESTER.steps)).bool_masked_pos.sum(dim=1)
    assert len(counts.unique()) == 1 and 0 < counts[0] < FRAMES


def test_codebooks_are_drawn_wherever_the_model_was_made():
    with torch.device("meta"):
        model = DinoSrForPreTraining(TESTER.config())
    model.to_empty(device="cpu").init_weights()
    for codebook in (model.codebook, TESTER.model(PRETRAINING).codebook):
        codewords = codebook.codewords()
        torch.testing.assert_close(codewords.mean(dim=1), torch.zeros(2, 32), atol=1e-6, rtol=0)
        torch.testing.assert_close(codewords.var(dim=1, correction=0), torch.ones(2, 32), atol=1e-3, rtol=0)
        assert (codebook.counts == 1).all()
        assert not codebook.pending_sums.any() and not codebook.pending_counts.any()
    assert not torch.equal(TESTER.model(PRETRAINING, seed=1).codebook.sums, TESTER.model(PRETRAINING).codebook.sums)


def test_codebooks_learn_once_a_step_and_only_in_training():
    model, arguments = TESTER.model(PRETRAINING), TESTER.arguments(PRETRAINING)
    before = {name: value.clone() for name, value in model.codebook.state_dict().items()}
    model(**arguments)
    assert not model.codebook.pending_counts.any()
    model.train()(**arguments)
    assert model.codebook.pending_counts.sum() == 2 * (arguments["bool_masked_pos"].sum() - hidden_padding(arguments))
    assert all(torch.equal(value, before[name]) for name, value in model.codebook.state_dict().items())
    model.after_optimizer_step(1)
    assert not any(torch.equal(value, before[name]) for name, value in model.codebook.state_dict().items())


def hidden_padding(arguments):
    return arguments["bool_masked_pos"][2, SHORT:].sum()


def test_positions_are_copied_and_the_rest_is_averaged_until_the_teacher_is_frozen():
    model = TESTER.model(PRETRAINING, freeze_teacher_step=7)
    with torch.no_grad():
        for parameter in model.dinosr.encoder.parameters():
            parameter.add_(1)
    before = {name: value.clone() for name, value in model.teacher.named_parameters()}
    model.after_optimizer_step(5)
    assert model.ema_decay_at(5) == pytest.approx(0.945)
    for name, value in model.teacher.named_parameters():
        share = 1 if name.startswith("pos_conv") else 1 - 0.945
        torch.testing.assert_close(value, before[name] + share, atol=1e-6, rtol=1e-5)
    before = {name: value.clone() for name, value in model.teacher.named_parameters()}
    with torch.no_grad():
        for parameter in model.dinosr.encoder.parameters():
            parameter.add_(1)
    model.after_optimizer_step(7)
    assert model.ema_decay_at(7) == 1
    assert all(torch.equal(value, before[name]) for name, value in model.teacher.named_parameters())


def test_a_skipped_layer_changes_nothing_and_has_a_gradient():
    model, inputs = TESTER.model("AutoModel", layerdrop=0.999).train(), TESTER.inputs()
    hidden_states = model(**inputs).last_hidden_state
    hidden_states.sum().backward()
    embedded, _ = model.encoder.embed(
        model.project(inputs["input_values"]), model.frame_mask(inputs["attention_mask"])
    )
    assert torch.equal(hidden_states, embedded)
    assert all(not p.grad.any() for p in model.encoder.layers.parameters())
    assert not torch.equal(model.eval()(**inputs).last_hidden_state, embedded)


def test_the_teacher_attends_as_the_model_does():
    model = TESTER.model(PRETRAINING)
    model.set_attn_implementation("eager")
    assert {layer.attention.config._attn_implementation for layer in model.teacher.layers} == {"eager"}


@pytest.fixture(scope="module")
def distributed(tmp_path_factory):
    """State dicts of the same two steps by one process, and by two."""
    folder = tmp_path_factory.mktemp("distributed")
    states = {}
    environment = os.environ | {"PYTHONPATH": str(Path(hf_audio_ssl.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    for processes in (1, 2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        outputs = [folder / f"{processes}-{rank}" for rank in range(processes)]
        running = [
            subprocess.Popen(
                [sys.executable, HERE / "distributed.py", *map(str, (rank, processes, port)), output], env=environment
            )
            for rank, output in enumerate(outputs)
        ]
        assert [process.wait(timeout=300) for process in running] == [0] * processes
        states[processes] = [load_file(output) for output in outputs]
    return states


def test_two_processes_have_the_same_codebooks_as_one(distributed):
    (alone,), (first, second) = distributed[1], distributed[2]
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    untouched = TESTER.model(PRETRAINING).state_dict()
    for name, value in alone.items():
        torch.testing.assert_close(
            first[name], value, atol=1e-5, rtol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )
        if name.startswith(("codebook", "teacher.layers.0.attention.q_proj.weight")):
            assert not torch.equal(value, untouched[name])


def test_a_resumed_run_ends_with_the_same_codebooks(tmp_path):
    rng = np.random.default_rng(0)
    corpus = Corpus(
        [{"array": rng.standard_normal(4000).astype(np.float32) / 9, "sampling_rate": 16000} for _ in range(8)]
    )

    def run(folder):
        args = PretrainingArguments(
            output_dir=str(folder), max_steps=4, save_steps=2, per_device_batch_size=2, gradient_accumulation_steps=2
        )
        clips = ClipDataset(corpus, 16000, 0.24)
        pretrain(TESTER.model(PRETRAINING), TESTER.feature_extractor(), clips, args)
        return load_file(folder / "model.safetensors")

    whole = run(tmp_path / "whole")
    shutil.copytree(tmp_path / "whole/checkpoint-00000002", tmp_path / "half/checkpoint-00000002")
    resumed = run(tmp_path / "half")
    early = load_file(tmp_path / "whole/checkpoint-00000002/model.safetensors")
    assert whole.keys() == resumed.keys() and all(torch.equal(value, resumed[name]) for name, value in whole.items())
    assert not torch.equal(early["codebook.sums"], whole["codebook.sums"])


# -- fine-tuning ------------------------------------------------------------------------------------------------------


def test_spec_augment_uses_the_embedding_of_pretraining(tmp_path):
    pretrained = TESTER.model(PRETRAINING)
    pretrained.save_pretrained(tmp_path)
    model = DinoSrForCTC.from_pretrained(tmp_path, mask_time_prob=0.65, mask_time_length=2, mask_feature_prob=0.3)
    assert torch.equal(model.dinosr.masked_spec_embed, pretrained.dinosr.masked_spec_embed)
    assert DinoSrForCTC.from_pretrained(tmp_path).dinosr.masked_spec_embed is None
    inputs, seen = TESTER.inputs(), []
    projected = model.dinosr.project(inputs["input_values"])
    model.dinosr.encoder.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    model.eval()(**inputs)
    model.train()(**inputs)
    torch.testing.assert_close(seen[0], projected)
    masked = (seen[1] == model.dinosr.masked_spec_embed).all(dim=-1)
    hidden = (seen[1] == 0).logical_or(masked[..., None]).all(dim=1)
    assert 0 < masked.sum() < masked.numel() and not masked[2, SHORT:].any()
    assert 0 < hidden.sum() < hidden.numel()


def test_ctc_loss_counts_real_frames_and_tokens():
    model, arguments = TESTER.model(CTC), TESTER.arguments(CTC)
    output = model(**arguments)
    losses = []
    for clip, labels in enumerate(arguments["labels"]):
        frames = SHORT if clip == 2 else FRAMES
        tokens = labels[labels >= 0]
        losses.append(
            F.ctc_loss(output.logits[clip, :frames].log_softmax(-1), tokens, [frames], [len(tokens)]) * len(tokens)
        )
    torch.testing.assert_close(output.loss, torch.stack(losses).sum())
    with pytest.raises(ValueError, match="labels: got token 6, expected less than 5"):
        model(**(arguments | {"labels": arguments["labels"] + 3}))


def test_convolutions_can_be_fixed():
    model = TESTER.model(CTC).train()
    model.base_model.freeze_feature_encoder()
    model(**TESTER.arguments(CTC)).loss.backward()
    fixed = {name for name, p in model.named_parameters() if p.grad is None}
    assert fixed and all(name.startswith("dinosr.feature_extractor.") for name in fixed)


def test_speech_recognition_pipeline(tmp_path):
    from transformers import Wav2Vec2CTCTokenizer, pipeline

    (tmp_path / "vocab.json").write_text(json.dumps({"<pad>": 0, "|": 1, "A": 2, "B": 3, "<unk>": 4}))
    tokenizer = Wav2Vec2CTCTokenizer(str(tmp_path / "vocab.json"), bos_token=None, eos_token=None)
    recognise = pipeline(
        "automatic-speech-recognition",
        model=TESTER.model(CTC),
        tokenizer=tokenizer,
        feature_extractor=TESTER.feature_extractor(),
        device="cpu",
    )
    audio = TESTER.audio(1.0).numpy()
    whole, chunked = recognise(audio), recognise(audio, chunk_length_s=0.5)
    assert isinstance(whole["text"], str) and isinstance(chunked["text"], str)


# -- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 325), (2, 0), (400,), (1, 2, 4000)])
def test_input_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"input_values: got shape .*expected \(batch, at least 326 samples\)"):
        TESTER.model("AutoModel")(torch.zeros(shape))


def test_mask_of_another_shape():
    with pytest.raises(ValueError, match=r"bool_masked_pos: got shape \(3, 11\), expected \(3, 12\)"):
        TESTER.model(PRETRAINING)(TESTER.inputs()["input_values"], bool_masked_pos=torch.ones(3, 11))


def test_mask_without_an_embedding():
    with pytest.raises(ValueError, match="mask_time_indices: given, but the model has no mask embedding"):
        TESTER.model("AutoModel")(**TESTER.inputs(), mask_time_indices=torch.ones(3, 12))


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(conv_stride=(5, 2)), r"conv_dim, conv_kernel and conv_stride have \[7, 7, 2\] entries"),
        (
            dict(num_conv_pos_embedding_groups=7),
            "hidden_size=768 is not a multiple of num_conv_pos_embedding_groups=7",
        ),
        (dict(num_codebooks=13), "num_codebooks=13: expected 1 to num_hidden_layers=12"),
        (dict(codebook_size=1), "codebook_size=1"),
        (dict(mask_prob=0), "mask_prob=0"),
        (dict(mask_length=0), "mask_length=0"),
        (dict(mask_feature_prob=1.5), "mask_feature_prob=1.5"),
        (dict(layerdrop=1.0), r"layerdrop=1.0: expected a value in \[0, 1\)"),
        (dict(codebook_decay=1.0), "codebook_decay=1.0"),
        (dict(freeze_teacher_step=0), "freeze_teacher_step=0: expected at least 1, or None"),
        (dict(drop_path_rate=0.1), "drop_path_rate=0.1: DinoSR has layerdrop instead"),
        (dict(ema_decay=0.99, ema_end_decay=0.9), "ema_decay=0.99, ema_end_decay=0.9"),
    ],
)
def test_configurations_that_contradict_themselves(changes, message):
    with pytest.raises(ValueError, match=message):
        DinoSrConfig(**changes)


def test_extractor_is_the_papers():
    extractor = DinoSrFeatureExtractor()
    assert (extractor.sampling_rate, extractor.max_length, extractor.min_length) == (16000, 320000, 400)
