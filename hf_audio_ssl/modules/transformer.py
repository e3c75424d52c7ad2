# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""The transformer block that most methods share."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS


def eager_attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs,
) -> tuple[Tensor, Tensor]:
    """softmax(Q K^T / sqrt(d)) V with the softmax in float32. Shapes (batch, heads, tokens, head_dim)."""
    scores = (query * scaling) @ key.transpose(2, 3)
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(query.dtype)
    weights = nn.functional.dropout(weights, p=dropout, training=module.training)
    return (weights @ value).transpose(1, 2).contiguous(), weights


class SelfAttention(nn.Module):
    """Multi-head self-attention through transformers' attention interface (eager, SDPA, flash, flex)."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.head_dim = config.hidden_size // config.num_attention_heads
        self.scaling = self.head_dim**-0.5
        self.attention_dropout = config.attention_probs_dropout_prob
        self.is_causal = False
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.k_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.v_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None, **kwargs) -> tuple[Tensor, Tensor]:
        return self.attend(*self.project(hidden_states), attention_mask, **kwargs)

    def project(self, hidden_states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value, each (batch, heads, tokens, head_dim)."""
        shape = (*hidden_states.shape[:-1], -1, self.head_dim)
        return tuple(
            projection(hidden_states).view(shape).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs
    ) -> tuple[Tensor, Tensor]:
        """Output (batch, tokens, hidden_size) and, where the implementation has them, weights."""
        attend: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        output, weights = attend(
            self,
            query,
            key,
            value,
            attention_mask,
            dropout=self.attention_dropout if self.training else 0.0,
            scaling=self.scaling,
            **kwargs,
        )
        return self.o_proj(output.flatten(2)), weights


class FeedForward(nn.Module):
    """Linear, activation, linear."""

    def __init__(self, config):
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)
        self.activation = ACT2FN[config.hidden_act]

    def forward(self, hidden_states: Tensor) -> Tensor:
        return self.fc2(self.activation(self.fc1(hidden_states)))


def tag_xavier(module: nn.Module) -> None:
    """Marks the linear layers below `module` for MAE's initialisation: Xavier-uniform, q, k and v as one matrix."""
    for child in module.modules():
        if isinstance(child, nn.Linear) and not hasattr(child, "_ssl_init"):
            child._ssl_init = "xavier_uniform"
    for child in module.modules():
        if isinstance(child, SelfAttention):
            for projection in (child.q_proj, child.k_proj, child.v_proj):
                projection._ssl_init = "xavier_uniform_qkv"


class DropPath(nn.Module):
    """Drops the whole residual branch of a sample with probability `p` while training, and rescales the others."""

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        keep = torch.rand(x.shape[0], *[1] * (x.ndim - 1), device=x.device) >= self.p
        return x * keep / (1 - self.p)


def drop_layer(before: Tensor, after: Tensor, probability: float) -> Tensor:
    """LayerDrop (arXiv 1909.11556) of a layer that is computed all the same: what went in instead of what came out.

    So no parameter is without gradient, and the host does not wait for the device.
    """
    return torch.where(torch.rand((), device=after.device) < probability, before, after)


def scale_gradient(x: Tensor, factor: float) -> Tensor:
    """`x`, bit for bit, whose gradient is multiplied by `factor`."""
    return x.detach() + factor * (x - x.detach()) if factor != 1 and x.requires_grad else x


class TransformerLayer(GradientCheckpointingLayer):
    """Attention and feed-forward with residuals, normed after each (`norm_first=False`, BERT) or before (ViT).

    The drop-path rate grows linearly with depth up to `config.drop_path_rate`. `residual_scale` multiplies what the
    branches are added to (DeepNorm, arXiv 2203.00555).
    """

    attention_class = SelfAttention
    mlp_class = FeedForward
    residual_scale = 1.0

    def __init__(self, config, layer_index: int, norm_first: bool = False):
        super().__init__()
        self.norm_first = norm_first
        self.attention = self.attention_class(config)
        self.mlp = self.mlp_class(config)
        self.norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.drop_path = DropPath(config.drop_path_rate * layer_index / max(config.num_hidden_layers - 1, 1))

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None, **kwargs) -> Tensor:
        x = self.norm1(hidden_states) if self.norm_first else hidden_states
        x, _ = self.attention(x, attention_mask, **kwargs)
        x = torch.add(self.drop_path(self.dropout(x)), hidden_states, alpha=self.residual_scale)
        if self.norm_first:
            branch = self.drop_path(self.dropout(self.mlp(self.norm2(x))))
            return torch.add(branch, x, alpha=self.residual_scale)
        x = self.norm1(x)
        return self.norm2(torch.add(self.drop_path(self.dropout(self.mlp(x))), x, alpha=self.residual_scale))
