# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""Tests that every method must pass, and the small description of a method that they need.

    class MyTester(MethodTester):
        method = "eat"
        sizes = {"hidden_size": 32, "num_hidden_layers": 2, ...}
        ...

    class TestMine(MethodTests):
        tester = MyTester()

The tests ask what transformers' own mixins do not: does the loss fall, does the teacher follow, does padding leave the
numbers alone, can the model be exported, compiled, adapted. `hf_audio_ssl.testing.conformance` runs those mixins from
the same description.
"""

import copy
import importlib
import importlib.util
import re
from functools import cached_property
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from hf_audio_ssl.registry import MethodSpec, from_pretrained, get_method, load_class, methods

HEADS = (
    "AutoModelForPreTraining",
    "AutoModelForAudioClassification",
    "AutoModelForAudioFrameClassification",
    "AutoModelForCTC",
)


class MethodTester:
    """A tiny model of one method and inputs for it.

    Subclasses set `method`, `sizes` (a configuration that runs in milliseconds, without any dropout) and `steps`, and
    write `num_tokens` and `explicit_randomness`.
    """

    method: str
    sizes: dict = {}
    extractor_sizes: dict = {}
    # length of input_values along time, and real steps of the last clip of a batch: a whole number of frames
    steps: int
    short_steps: int
    batch_size = 3
    # what LoRA adapts; and whether the encoder has attention, of which there are then several implementations
    lora_targets = ("q_proj", "v_proj")
    has_attentions = True
    # ends of the names of parameters that only masked input uses: supervised heads leave them as they are
    only_masked_input_uses: tuple[str, ...] = ()
    # beginnings of the names of parameters that a teacher copies from its student instead of averaging them
    copied_by_teacher: tuple[str, ...] = ()
    # transformers' test -> why it does not apply; see `hf_audio_ssl.testing.conformance`
    conformance_skips: dict[str, str] = {}

    @property
    def spec(self) -> MethodSpec:
        return get_method(self.method)

    def config(self, **changes):
        return load_class(self.spec, "AutoConfig")(**(self.sizes | changes))

    def model(self, auto_class: str, seed: int = 0, **changes):
        """A freshly initialised model in evaluation mode."""
        torch.manual_seed(seed)
        return load_class(self.spec, auto_class)(self.config(**changes)).eval()

    def feature_extractor(self):
        return load_class(self.spec, "AutoFeatureExtractor")(**self.extractor_sizes)

    def audio(self, seconds: float, seed: int = 0) -> Tensor:
        """A chirp in noise at the method's rate, (samples,)."""
        time = torch.arange(int(seconds * self.spec.sampling_rate)) / self.spec.sampling_rate
        noise = torch.randn(len(time), generator=torch.Generator().manual_seed(seed))
        return 0.3 * torch.sin(6.28 * (200 + 100 * seed + 300 * time) * time) + 0.03 * noise

    def inputs(self, batch_size: int | None = None, steps: int | None = None) -> dict[str, Tensor]:
        """`input_values` and an `attention_mask` whose last clip is padded."""
        batch_size, steps = batch_size or self.batch_size, steps or self.steps
        config = self.config()
        shape = (batch_size, steps, config.num_mel_bins) if self.spec.input == "spectrogram" else (batch_size, steps)
        mask = torch.ones(batch_size, steps, dtype=torch.long)
        mask[-1, min(self.short_steps, steps) :] = 0
        values = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        return {"input_values": values, "attention_mask": mask}

    def labels(self, auto_class: str, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """What a supervised head needs beside `inputs`."""
        batch = len(inputs["input_values"])
        if auto_class == "AutoModelForAudioClassification":
            return {"labels": torch.arange(batch) % self.config().num_labels}
        if auto_class == "AutoModelForAudioFrameClassification":
            frames = self.model("AutoModel").num_frames(inputs["input_values"].shape[1])
            return {"labels": (torch.arange(batch * frames) % self.config().num_labels).view(batch, frames)}
        if auto_class == "AutoModelForCTC":
            # one transcript of two tokens, the others of one; 0 is the blank
            tokens = 1 + torch.arange(batch) % (self.config().vocab_size - 1)
            return {"labels": torch.stack([tokens, tokens.flip(0).masked_fill(torch.arange(batch) > 0, -100)], dim=1)}
        return {}

    def num_tokens(self, config, steps: int, auto_class: str) -> int:
        """Tokens that the transformer layers see: transformers' mixins check the shape of the hidden states."""
        raise NotImplementedError

    def explicit_randomness(self, config, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Everything that `ForPreTraining.forward` would draw, as arguments: masks, noise, negatives."""
        raise NotImplementedError

    def arguments(self, auto_class: str, **kwargs) -> dict[str, Tensor]:
        """A whole batch for one head, nothing left to chance."""
        inputs = self.inputs(**kwargs)
        if auto_class == "AutoModelForPreTraining":
            return inputs | self.explicit_randomness(self.config(), inputs)
        return inputs | self.labels(auto_class, inputs)


def find_testers(folder: str | Path) -> dict[str, MethodTester]:
    """The testers of all registered methods: the one `MethodTester` in `<folder>/<method>/tester.py`.

    Raises:
        ValueError: names the methods that have none.
    """
    testers, missing = {}, []
    for name in methods():
        path = Path(folder) / name / "tester.py"
        if not path.is_file():
            missing.append(str(path))
            continue
        spec = importlib.util.spec_from_file_location(f"tester_{name}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        classes = [c for c in vars(module).values() if isinstance(c, type) and getattr(c, "method", None) == name]
        testers[name] = classes[0]()
    if missing:
        raise ValueError(f"methods without a tester: expected {', '.join(missing)}")
    return testers


def gradients(model, arguments: dict) -> dict[str, Tensor | None]:
    """Gradients of the loss (of the sum of the outputs, if there is none) for all trained parameters."""
    model.zero_grad()
    output = model(**arguments)
    loss = output.loss if "loss" in output else sum(value.sum() for value in output.values())
    loss.backward()
    return {name: p.grad for name, p in model.named_parameters() if p.requires_grad}


def fake(model, mode: FakeTensorMode, device: str):
    """The same model with tensors that have a shape, a type and a device, but no values."""
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is None:
                    continue
                with_values, tensor = tensor, mode.from_tensor(tensor.detach())
                with mode:
                    tensor = tensor.to(device)
                if isinstance(with_values, nn.Parameter):
                    tensor = nn.Parameter(tensor, with_values.requires_grad)
                tensors[name] = tensor
    return model


def assert_outputs_close(actual, expected, *, atol: float, rtol: float = 1e-4) -> None:
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, Tensor):
            torch.testing.assert_close(
                actual[name], value, atol=atol, rtol=rtol, msg=lambda text, name=name: f"{name}: {text}"
            )


class MethodTests:
    """Inherit, set `tester`, and pytest runs them all."""

    tester: MethodTester

    @cached_property
    def heads(self) -> list[str]:
        return [name for name in HEADS if name in self.tester.spec.classes]

    @cached_property
    def model_classes(self) -> list[str]:
        return ["AutoModel", *self.heads]

    @pytest.fixture(autouse=True)
    def _seed(self):
        torch.manual_seed(0)

    # -- learning -----------------------------------------------------------------------------------------------------

    def test_pretraining_loss_falls_on_one_batch(self):
        """Masks are drawn anew at each step and the teacher moves: only learning brings the loss down."""
        model = self.tester.model("AutoModelForPreTraining").train()
        inputs = self.tester.inputs()
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-3)
        losses = []
        for step in range(1, 61):
            output = model(**inputs)
            optimizer.zero_grad()
            output.loss.backward()
            optimizer.step()
            model.after_optimizer_step(step)
            losses.append(output.loss.item())
        first, last = sum(losses[:5]) / 5, sum(losses[-5:]) / 5
        assert last < 0.8 * first, f"from {first:.4f} to {last:.4f}"

    def test_supervised_heads_overfit_one_batch(self):
        for name in self.heads:
            if name == "AutoModelForPreTraining":
                continue
            model, arguments = self.tester.model(name).train(), self.tester.arguments(name)
            optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
            losses = []
            # CTC learns to say nothing first
            for _ in range(100 if name == "AutoModelForCTC" else 40):
                loss = model(**arguments).loss
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
            assert losses[-1] < 0.2 * losses[0], f"{name}: from {losses[0]:.4f} to {losses[-1]:.4f}"

    def test_no_unused_parameters(self):
        """DistributedDataParallel waits forever for a gradient that never comes."""
        for name in self.model_classes:
            missing = [
                parameter
                for parameter, grad in gradients(self.tester.model(name).train(), self.tester.arguments(name)).items()
                if grad is None
                and (name == "AutoModelForPreTraining" or not parameter.endswith(self.tester.only_masked_input_uses))
            ]
            assert not missing, f"{name}: no gradient for {missing}"

    def test_scalar_outputs_can_be_logged(self):
        output = self.tester.model("AutoModelForPreTraining")(**self.tester.arguments("AutoModelForPreTraining"))
        scalars = {name: v for name, v in output.items() if isinstance(v, Tensor) and v.ndim == 0}
        assert "loss" in scalars and any(name.endswith("_loss") for name in scalars)
        meters = self.tester.model("AutoModelForPreTraining").collapse_meters
        assert meters and meters.keys() <= scalars.keys()
        assert all(value.isfinite() for value in scalars.values())

    # -- teachers -----------------------------------------------------------------------------------------------------

    def test_teacher_starts_as_the_loaded_student(self, tmp_path):
        encoder = self.tester.model("AutoModel", seed=1)
        encoder.save_pretrained(tmp_path)
        model = type(self.tester.model("AutoModelForPreTraining")).from_pretrained(tmp_path)
        for teacher, student in model.teacher_pairs():
            assert not any(p.requires_grad for p in teacher.parameters()) and not teacher.training
            for (name, ours), theirs in zip(teacher.named_parameters(), student.parameters()):
                assert torch.equal(ours, theirs), name
        loaded = dict(model.base_model.named_parameters())
        assert all(torch.equal(loaded[name], value) for name, value in encoder.named_parameters())

    def test_teacher_takes_no_gradient_and_follows(self):
        model = self.tester.model("AutoModelForPreTraining").train()
        if not model.teacher_pairs():
            pytest.skip("there is no teacher")
        for teacher, student in model.teacher_pairs():
            with torch.no_grad():
                for parameter in student.parameters():
                    parameter.add_(1)
            gradients(model, self.tester.arguments("AutoModelForPreTraining"))
            assert all(p.grad is None for p in teacher.parameters())
            before = [p.clone() for p in teacher.parameters()]
            model.after_optimizer_step(1)
            for old, (name, new), target in zip(before, teacher.named_parameters(), student.parameters()):
                if self.tester.copied_by_teacher and name.startswith(self.tester.copied_by_teacher):
                    assert torch.equal(new, target), name
                else:
                    assert ((new > old) & (new < target)).all(), name

    def test_teacher_survives_saving(self, tmp_path):
        model = self.tester.model("AutoModelForPreTraining")
        with torch.no_grad():
            for teacher, _ in model.teacher_pairs():
                for parameter in teacher.parameters():
                    parameter.add_(torch.randn_like(parameter))
        model.save_pretrained(tmp_path)
        again = type(model).from_pretrained(tmp_path)
        expected, actual = model.state_dict(), again.state_dict()
        assert expected.keys() == actual.keys()
        assert [name for name in expected if not torch.equal(expected[name], actual[name])] == []
        for teacher, _ in again.teacher_pairs():
            assert not any(p.requires_grad for p in teacher.parameters())

    # -- padding, batches, chance -------------------------------------------------------------------------------------

    def test_padding_changes_nothing(self):
        """Whatever stands at padded steps, and however much of it."""
        model, inputs = self.tester.model("AutoModel"), self.tester.inputs()
        real = self.tester.short_steps
        short = {
            "input_values": inputs["input_values"][-1:, :real],
            "attention_mask": inputs["attention_mask"][-1:, :real],
        }
        inputs["input_values"][-1, real:] = 17.0
        with torch.no_grad():
            padded, alone = model(**inputs), model(**short)
            unmasked = model(short["input_values"])
        split = model.split_tokens(padded.last_hidden_state, inputs["attention_mask"])
        expected = model.split_tokens(alone.last_hidden_state, short["attention_mask"])
        valid = split[2][-1]
        assert valid.sum() == expected[1].shape[1] < len(valid)
        torch.testing.assert_close(split[1][-1, valid], expected[1][0], atol=1e-5, rtol=1e-4)
        if split[0] is not None:
            torch.testing.assert_close(split[0][-1], expected[0][0], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(unmasked.last_hidden_state, alone.last_hidden_state, atol=1e-5, rtol=1e-4)

    def test_padding_changes_no_loss(self):
        model, arguments = (
            self.tester.model("AutoModelForPreTraining"),
            self.tester.arguments("AutoModelForPreTraining"),
        )
        with torch.no_grad():
            first = model(**arguments)
            arguments["input_values"][-1, self.tester.short_steps :] = 17.0
            second = model(**arguments)
        for name, value in first.items():
            if name.endswith("loss"):
                torch.testing.assert_close(
                    second[name], value, atol=1e-5, rtol=1e-5, msg=lambda t, n=name: f"{n}: {t}"
                )

    def test_encode_does_not_depend_on_batch_or_padding(self):
        model, extractor = self.tester.model("AutoModel"), self.tester.feature_extractor()
        clips = [self.tester.audio(seconds, seed) for seed, seconds in enumerate((0.5, 2.3, 0.9, 1.4))]
        options = dict(sampling_rate=self.tester.spec.sampling_rate, feature_extractor=extractor)
        for pool in ("mean", "mean_std", "frames"):
            together = model.encode(clips, pool=pool, **options)
            for batch_size in (1, 3):
                again = model.encode(clips, pool=pool, batch_size=batch_size, **options)
                for one, other in zip(together, again):
                    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
            for clip, expected in zip(clips, together):
                torch.testing.assert_close(model.encode(clip, pool=pool, **options)[0], expected, atol=1e-5, rtol=1e-4)

    def test_encode_uses_the_extractor_that_was_saved(self, tmp_path):
        model, extractor = self.tester.model("AutoModelForPreTraining"), self.tester.feature_extractor()
        model.save_pretrained(tmp_path)
        audio, rate = self.tester.audio(1.0), self.tester.spec.sampling_rate
        again = type(model).from_pretrained(tmp_path)
        assert again.own_feature_extractor().to_dict() == type(extractor)().to_dict()
        extractor.save_pretrained(tmp_path)
        assert again.own_feature_extractor().to_dict() == extractor.to_dict() != type(extractor)().to_dict()
        assert torch.equal(again.encode(audio, rate), model.encode(audio, rate, feature_extractor=extractor))
        # without a folder there is only the default
        assert model.own_feature_extractor().to_dict() == type(extractor)().to_dict()

    def test_clips_of_a_batch_do_not_mix(self):
        for name in ("AutoModel", *self.heads):
            if name == "AutoModelForPreTraining":
                continue
            model, inputs = self.tester.model(name), self.tester.inputs()
            with torch.no_grad():
                first = model(**inputs)[0]
                inputs["input_values"][1] += 1
                second = model(**inputs)[0]
            torch.testing.assert_close(first[[0, 2]], second[[0, 2]], atol=1e-6, rtol=1e-5)
            assert (first[1] - second[1]).abs().max() > 1e-4

    def test_same_seed_same_numbers(self):
        model, inputs = self.tester.model("AutoModelForPreTraining"), self.tester.inputs()
        with torch.no_grad():
            outputs = []
            for seed in (3, 3, 4):
                torch.manual_seed(seed)
                outputs.append(model(**inputs))
        assert_outputs_close(outputs[1], outputs[0], atol=0, rtol=0)
        assert outputs[2].loss != outputs[0].loss

    def test_explicit_randomness_leaves_nothing_to_chance(self):
        model, arguments = (
            self.tester.model("AutoModelForPreTraining"),
            self.tester.arguments("AutoModelForPreTraining"),
        )
        with torch.no_grad():
            first = model(**arguments)
            torch.manual_seed(5)
            state = torch.get_rng_state()
            second = model(**arguments)
        assert_outputs_close(second, first, atol=0, rtol=0)
        assert torch.equal(torch.get_rng_state(), state), "a random number was drawn"

    # -- ways to run --------------------------------------------------------------------------------------------------

    def test_eager_equals_sdpa(self):
        if not self.tester.has_attentions:
            pytest.skip("there is no attention")
        for name in self.model_classes:
            model, arguments = self.tester.model(name), self.tester.arguments(name)
            outputs = []
            for implementation in ("eager", "sdpa"):
                model.set_attn_implementation(implementation)
                with torch.no_grad():
                    outputs.append(model(**arguments))
            assert_outputs_close(outputs[1], outputs[0], atol=1e-5)

    def test_bfloat16_is_finite(self):
        for name in self.model_classes:
            model, arguments = self.tester.model(name).train(), self.tester.arguments(name)
            expected = model(**arguments)[0].float()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                grads = gradients(model, arguments)
                result = model(**arguments)[0].float()
            assert [key for key, grad in grads.items() if grad is not None and not grad.isfinite().all()] == []
            torch.testing.assert_close(result, expected, atol=0.1, rtol=0.1)
            arguments = {k: v.bfloat16() if v.is_floating_point() else v for k, v in arguments.items()}
            assert model.bfloat16()(**arguments)[0].isfinite().all()

    def test_gradient_checkpointing_changes_no_gradient(self):
        for name in self.model_classes:
            model, arguments = self.tester.model(name).train(), self.tester.arguments(name)
            expected = {key: grad.clone() for key, grad in gradients(model, arguments).items() if grad is not None}
            model.gradient_checkpointing_enable()
            actual = {key: grad for key, grad in gradients(model, arguments).items() if grad is not None}
            assert actual.keys() == expected.keys()
            for key, grad in actual.items():
                torch.testing.assert_close(grad, expected[key], atol=1e-6, rtol=1e-5)

    @pytest.mark.parametrize(
        ("device", "dtype"), [("cpu", torch.float32), ("cpu", torch.bfloat16), ("cuda", torch.float32)]
    )
    def test_pretraining_step_stays_on_the_device(self, device, dtype):
        """Fake tensors have no values, so reading one raises, as does mixing devices; they need no GPU to be on it."""
        mode = FakeTensorMode()
        model = fake(self.tester.model("AutoModelForPreTraining").train(), mode, device)
        inputs = {name: mode.from_tensor(value) for name, value in self.tester.inputs().items()}
        with mode:
            inputs = {name: value.to(device) for name, value in inputs.items()}
            for batch in (inputs, {"input_values": inputs["input_values"]}):  # with and without padding
                with torch.autocast(device, dtype, enabled=dtype != torch.float32):
                    loss = model(**batch).loss
                assert loss.device.type == device
                if device == "cpu":  # autograd asks the driver of a GPU for its streams
                    loss.backward()
            model.after_optimizer_step(1)

    def test_encoder_exports(self):
        """With a batch of any size."""
        model, inputs = self.tester.model("AutoModel"), self.tester.inputs()
        batch = torch.export.Dim("batch", min=2, max=64)
        shapes = {name: {0: batch} for name in inputs}
        program = torch.export.export(model, (), inputs, dynamic_shapes=shapes, strict=False)
        larger = self.tester.inputs(batch_size=5)
        with torch.no_grad():
            expected = model(**larger)
            actual = program.module()(**larger)
        torch.testing.assert_close(actual["last_hidden_state"], expected.last_hidden_state, atol=1e-5, rtol=1e-4)

    def test_encoder_compiles_without_graph_breaks(self):
        model, inputs = self.tester.model("AutoModel"), self.tester.inputs()
        torch.compiler.reset()
        compiled = torch.compile(model, fullgraph=True, backend="eager")
        with torch.no_grad():
            assert_outputs_close(compiled(**inputs), model(**inputs), atol=1e-5)
            assert_outputs_close(compiled(inputs["input_values"]), model(inputs["input_values"]), atol=1e-5)
        torch.compiler.reset()

    def test_pretraining_step_compiles_without_graph_breaks(self):
        """Where the masks are drawn inside; nothing may wait for the device."""
        model, inputs = self.tester.model("AutoModelForPreTraining").train(), self.tester.inputs()
        model(**inputs)  # transformers installs its output hooks at the first call, under a lock that cannot be traced
        torch.compiler.reset()
        compiled = torch.compile(model, fullgraph=True, backend="eager")
        other = self.tester.inputs(batch_size=2, steps=inputs["input_values"].shape[1] - self.tester.short_steps // 2)
        for batch in (inputs, other):  # then a graph for any size
            loss = compiled(**batch).loss
            loss.backward()
            assert loss.isfinite()
        torch.compiler.reset()

    # -- lengths ------------------------------------------------------------------------------------------------------

    def test_any_length_from_one_frame(self):
        model = self.tester.model("AutoModel")
        shortest = model.receptive_field
        for steps in (shortest, shortest + 2 * model.input_steps_per_frame):
            with torch.no_grad():
                output = model(self.tester.inputs(steps=steps)["input_values"])
            assert output.last_hidden_state.isfinite().all()
            assert model.split_tokens(output.last_hidden_state, None)[1].shape[1] == model.num_frames(steps)
        with pytest.raises(ValueError, match="input_values: got"):
            model(self.tester.inputs(steps=shortest - 1)["input_values"])

    def test_minutes_are_encoded_in_windows(self):
        model, extractor = self.tester.model("AutoModel"), self.tester.feature_extractor()
        rate = self.tester.spec.sampling_rate
        seconds = 200
        (result,) = model.encode(self.tester.audio(seconds), rate, pool="frames", feature_extractor=extractor)
        assert result.embeddings.isfinite().all() and len(result.embeddings) == len(result.times)
        step = result.times.diff()
        torch.testing.assert_close(step, step[:1].expand_as(step), atol=1e-3, rtol=0)
        assert 0 <= result.times[0] <= step[0] and seconds - 2 * step[0] - 0.1 <= result.times[-1] <= seconds

    # -- transformers' ways -------------------------------------------------------------------------------------------

    def test_auto_classes_load_what_was_saved(self, tmp_path):
        import transformers

        native = self.tester.spec.native
        for name, class_name in self.tester.spec.classes.items():
            auto, folder = getattr(transformers, name), tmp_path / name
            if name == "AutoConfig":
                original = self.tester.config()
            elif name == "AutoFeatureExtractor":
                original = self.tester.feature_extractor()
            else:
                original = self.tester.model(name)
            if native:  # extractors are found through the model type
                self.tester.config().save_pretrained(folder)
            original.save_pretrained(folder)
            again = auto.from_pretrained(folder)
            if native:
                # transformers opens the folder with its own class of that name; so do we, with ours
                assert type(again).__name__ == class_name and type(again).__module__.startswith("transformers.")
                again = from_pretrained(name, folder)
            assert type(again) is type(original) and type(again).__name__ == class_name
            if hasattr(original, "state_dict"):
                arguments = self.tester.arguments(name)
                with torch.no_grad():
                    assert_outputs_close(again(**arguments), original(**arguments), atol=0, rtol=0)
                if not native:
                    assert type(auto.from_config(self.tester.config())) is type(original)
            else:
                ignored = {"_name_or_path", "architectures"}
                actual, expected = again.to_dict(), original.to_dict()
                assert {k: v for k, v in actual.items() if k not in ignored} == {
                    k: v for k, v in expected.items() if k not in ignored
                }

    def test_trainer_takes_a_step_on_every_head(self, tmp_path):
        transformers = importlib.import_module("transformers")
        pytest.importorskip("accelerate")
        for name in self.heads:
            model = self.tester.model(name)
            before = copy.deepcopy(model.state_dict())
            trainer = self._trainer(transformers, model, name, tmp_path / name)
            result = trainer.train()
            assert result.training_loss > 0 and torch.tensor(result.training_loss).isfinite()
            moved = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
            assert {key for key, p in model.named_parameters() if p.requires_grad} >= moved > set()
            metrics = trainer.evaluate()
            assert metrics["eval_loss"] > 0

    def test_lora_trains_the_adapters_only(self, tmp_path):
        peft = pytest.importorskip("peft")
        transformers = importlib.import_module("transformers")
        name = "AutoModelForAudioClassification"
        targets = list(self.tester.lora_targets)
        config = peft.LoraConfig(r=2, target_modules=targets, modules_to_save=["classifier"])
        base = self.tester.model(name)
        model = peft.get_peft_model(base, config)
        before = copy.deepcopy(model.state_dict())
        self._trainer(transformers, model, name, tmp_path / "run").train()
        moved = [key for key, value in model.state_dict().items() if not torch.equal(value, before[key])]
        assert moved and all(re.search(r"lora_|modules_to_save", key) for key in moved)
        model.save_pretrained(tmp_path / "adapter")
        again = peft.PeftModel.from_pretrained(self.tester.model(name), tmp_path / "adapter").eval()
        arguments = self.tester.arguments(name)
        with torch.no_grad():
            assert_outputs_close(again(**arguments), model.eval()(**arguments), atol=0, rtol=0)

    def _trainer(self, transformers, model, name, folder):
        arguments = self.tester.inputs(batch_size=4)
        arguments |= self.tester.labels(name, arguments)
        rows = [{key: value[i] for key, value in arguments.items()} for i in range(4)]
        options = transformers.TrainingArguments(
            output_dir=str(folder), max_steps=2, per_device_train_batch_size=2, learning_rate=1e-2, report_to="none",
            use_cpu=True, disable_tqdm=True, save_strategy="no", prediction_loss_only=True, logging_strategy="no",
        )  # fmt: skip
        return transformers.Trainer(model=model, args=options, train_dataset=rows, eval_dataset=rows)
