# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""What plain `transformers.Trainer` needs to know about self-supervised models."""

from transformers import TrainerCallback


class AfterOptimizerStep(TrainerCallback):
    """Calls `model.after_optimizer_step(step)` after each optimizer step: EMA teachers, temperatures, codebooks.

    ```python
    Trainer(model=model, args=args, train_dataset=data, callbacks=[AfterOptimizerStep()]).train()
    ```
    """

    def on_step_end(self, args, state, control, model=None, **kwargs):
        # not on_optimizer_step: there `global_step` has not been advanced yet. Trainer hands over the unwrapped model.
        model.after_optimizer_step(state.global_step)
