#!/usr/bin/env python3
"""Makes the tiny models with golden logits in golden/, which prove the oracle and test the runtime.

    python3 -m venv v && v/bin/pip install torch==2.6.0 transformers==4.51.3 safetensors numpy
    v/bin/python golden.py

A folder holds config.json and model.safetensors as any model folder does, and golden.safetensors: tokens (n) I64 and
logits (n, vocab_size) F64, computed in fp64 from the stored weights. The decoder around the attentions is transformers'
in every folder, its RoPE types included, and so is the softmax attention without q_norm and k_norm, or with them before
RoPE (Qwen3). LUCID, the q_norm and k_norm of its authors (after RoPE) and DeltaNet are written here from their
definitions. max_position_embeddings is below the number of tokens where the type of RoPE depends on it: the base of
"dynamic" is that of a context of exactly the golden tokens.

Weights are drawn so that attention matters: scores have a deviation of about 2, tokens repeat, gains and biases are far
from 1 and 0, and rms_norm_eps is large enough to be noticed.
"""
import copy
import json
import math
import pathlib
import shutil
from unittest import mock

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm, apply_rotary_pos_emb

N_TOKENS = 96  # one granule of 64 and a half
CONV_WIDTH = 4
L2_NORM_EPS = 1e-6

COMMON = dict(architectures=["LlamaForCausalLM"], model_type="llama", vocab_size=32, hidden_size=32,
              intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=20,
              max_position_embeddings=256, rms_norm_eps=1e-5, rope_theta=10000.0, rope_scaling=None, hidden_act="silu",
              attention_bias=False, mlp_bias=False, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2)
LUCID = dict(attention_type="lucid", which_rmsnorm="exp_k_norm", use_beta=False, use_rope=True, use_qknorm=False,
             rms_norm_eps=1e-3)
DELTANET = dict(attention_type="deltanet", use_rope=False, use_short_conv=True, conv_size=CONV_WIDTH,
                num_key_value_heads=2, rms_norm_eps=1e-3)

# folder: (dtype of the weights, what its config.json has beyond COMMON)
FOLDERS = {
    "softmax_default": ("F32", dict(num_attention_heads=4, num_key_value_heads=2)),
    "softmax_linear": ("F16", dict(rope_scaling=dict(type="linear", factor=4.0), attention_bias=True,
                                   tie_word_embeddings=False)),
    "softmax_dynamic": ("BF16", dict(rope_scaling=dict(rope_type="dynamic", factor=2.0), max_position_embeddings=32)),
    "softmax_llama3": ("BF16", dict(rope_scaling=dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0,
                                                      high_freq_factor=4.0, original_max_position_embeddings=64),
                                    rope_theta=500.0, max_position_embeddings=512)),
    "softmax_yarn": ("BF16", dict(rope_scaling=dict(rope_type="yarn", factor=4.0, beta_fast=4.0, beta_slow=1.0,
                                                    original_max_position_embeddings=64), rope_theta=500.0)),
    "softmax_norope": ("BF16", dict(attention_type="llama", use_rope=False, use_qknorm=False, hidden_act="gelu",
                                    mlp_bias=True, num_key_value_heads=2, tie_word_embeddings=False)),
    "softmax_qknorm": ("BF16", dict(attention_type="llama", use_rope=True, use_qknorm=True)),
    "softmax_qwen3": ("BF16", dict(architectures=["Qwen3ForCausalLM"], model_type="qwen3")),
    "lucid_rope": ("BF16", {**LUCID, "num_attention_heads": 4, "num_key_value_heads": 2}),
    "lucid_68": ("BF16", {**LUCID, "use_rope": False, "head_dim": 68, "attention_bias": True,
                          "tie_word_embeddings": False}),
    "lucid_qknorm": ("F32", {**LUCID, "use_qknorm": True, "rope_theta": 500.0}),
    "deltanet_conv": ("BF16", DELTANET),
    "deltanet_plain": ("BF16", {**DELTANET, "use_short_conv": False, "hidden_act": "gelu"}),
}


def precondition(k, v, eps):
    """P Y = V, P_ij = exp(kn_i . kn_j / sqrt(d) - sqrt(d)) below a unit diagonal. k, v (heads, n, d)."""
    root = math.sqrt(k.shape[-1])
    kn = k * torch.rsqrt(k.pow(2).mean(-1, keepdim=True) + eps)
    p = torch.exp(kn @ kn.transpose(-1, -2) / root - root)
    return torch.linalg.solve_triangular(p.tril(-1), v, upper=False, unitriangular=True)


class PaperAttention(nn.Module):
    """The LUCID authors' attention layers: "lucid", and "llama" with use_qknorm."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        hidden, d, bias = config.hidden_size, config.head_dim, config.attention_bias
        self.q_proj = nn.Linear(hidden, config.num_attention_heads * d, bias=bias)
        self.k_proj = nn.Linear(hidden, config.num_key_value_heads * d, bias=bias)
        self.v_proj = nn.Linear(hidden, config.num_key_value_heads * d, bias=bias)
        self.o_proj = nn.Linear(config.num_attention_heads * d, hidden, bias=bias)
        if config.use_qknorm:
            self.q_norm = LlamaRMSNorm(d, eps=config.rms_norm_eps)
            self.k_norm = LlamaRMSNorm(d, eps=config.rms_norm_eps)

    def forward(self, hidden_states, position_embeddings, **_):
        config, x, d = self.config, hidden_states[0], self.config.head_dim
        q, k, v = (p(x).view(len(x), -1, d).transpose(0, 1) for p in (self.q_proj, self.k_proj, self.v_proj))
        q, k = (y[0] for y in apply_rotary_pos_emb(q[None], k[None], *position_embeddings))
        if config.use_qknorm:
            q, k = self.q_norm(q), self.k_norm(k)
        if config.attention_type == "lucid":
            v = precondition(k, v, config.rms_norm_eps)
        k, v = (y.repeat_interleave(len(q) // len(k), dim=0) for y in (k, v))
        scores = q @ k.transpose(-1, -2) / math.sqrt(d)
        future = torch.ones(len(x), len(x), dtype=torch.bool).triu(1)
        out = torch.softmax(scores.masked_fill(future, -math.inf), dim=-1) @ v
        return self.o_proj(out.transpose(0, 1).reshape(1, len(x), -1)), None


class DeltaNetAttention(nn.Module):
    """flash-linear-attention's DeltaNet layer with its defaults, as the plain recurrence."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        hidden, heads, d = config.hidden_size, config.num_attention_heads, config.head_dim
        for name in "qkv":
            setattr(self, f"{name}_proj", nn.Linear(hidden, heads * d, bias=False))
            if config.use_short_conv:
                convolution = nn.Conv1d(heads * d, heads * d, CONV_WIDTH, groups=heads * d, padding=CONV_WIDTH - 1,
                                        bias=False)
                setattr(self, f"{name}_conv1d", convolution)
        self.b_proj = nn.Linear(hidden, heads, bias=False)
        self.o_norm = LlamaRMSNorm(d, eps=config.rms_norm_eps)
        self.o_proj = nn.Linear(heads * d, hidden, bias=False)

    def features(self, name, x):
        y = getattr(self, f"{name}_proj")(x)
        if self.config.use_short_conv:
            y = getattr(self, f"{name}_conv1d")(y.t())[:, :len(x)].t()
        return nn.functional.silu(y).view(len(x), -1, self.config.head_dim)

    def forward(self, hidden_states, **_):
        x, d = hidden_states[0], self.config.head_dim
        q, k, v = (self.features(name, x) for name in "qkv")
        q, k = (y / torch.sqrt(y.pow(2).sum(-1, keepdim=True) + L2_NORM_EPS) for y in (q, k))
        beta = torch.sigmoid(self.b_proj(x))
        state, out = torch.zeros(q.shape[1], d, d), torch.zeros_like(v)
        for t in range(len(x)):
            b = beta[t][:, None, None]
            state = state @ (torch.eye(d) - b * k[t][:, :, None] * k[t][:, None, :])
            state = state + b * v[t][:, :, None] * k[t][:, None, :]
            out[t] = torch.einsum("hvk,hk->hv", state, q[t] / math.sqrt(d))
        return self.o_proj(self.o_norm(out).reshape(1, len(x), -1)), None


class NoRotation(nn.Module):
    def forward(self, x, position_ids):
        n = position_ids.shape[-1]
        return torch.ones(1, n, 1), torch.zeros(1, n, 1)


def make_model(config):
    kinds = dict(llama=(LlamaConfig, LlamaForCausalLM), qwen3=(Qwen3Config, Qwen3ForCausalLM))
    config_class, model_class = kinds[config["model_type"]]
    parsed = config_class(**copy.deepcopy(config), attn_implementation="eager")
    model = model_class(parsed)
    if not config.get("use_rope", True):
        model.model.rotary_emb = NoRotation()
    for layer in model.model.layers:
        if config.get("attention_type") == "deltanet":
            layer.self_attn = DeltaNetAttention(parsed)
        elif config.get("attention_type") == "lucid" or config.get("use_qknorm"):
            layer.self_attn = PaperAttention(parsed)
    return model.eval()


def draw_weights(model, dtype, generator):
    for name, weight in model.named_parameters():
        noise = torch.randn(weight.shape, generator=generator, dtype=torch.double)
        if name.endswith("bias"):
            noise *= 0.5
        elif "norm" in name:
            noise = 1 + 0.4 * noise
        elif "conv1d" in name:
            noise *= 0.7
        elif "embed_tokens" not in name:
            noise *= 1.4 / math.sqrt(weight.shape[1])
        weight.data = noise.to(dtype).double()


def make_folder(folder, dtype_name, config, generator):
    dtype = dict(F32=torch.float, F16=torch.half, BF16=torch.bfloat16)[dtype_name]
    # transformers asks for fp32 by name in norms, softmax and RoPE; here it gets fp64.
    with mock.patch.multiple(torch, float32=torch.double, float=torch.double), \
            mock.patch.object(torch.Tensor, "float", torch.Tensor.double), torch.no_grad():
        model = make_model(config)
        draw_weights(model, dtype, generator)
        tokens = torch.randint(config["vocab_size"], (N_TOKENS,), generator=generator)
        logits = model(tokens[None], use_cache=False).logits[0]
    assert logits.dtype == torch.double and logits.isfinite().all()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    weights = {name: weight.to(dtype).contiguous() for name, weight in model.named_parameters()}
    save_file(weights, folder / "model.safetensors", metadata=dict(format="pt"))
    save_file(dict(tokens=tokens, logits=logits.contiguous()), folder / "golden.safetensors")
    print(f"{folder.name}: logits up to {logits.abs().max():.1f}")


def main():
    torch.set_default_dtype(torch.double)
    torch.set_num_threads(1)
    torch_dtypes = dict(F32="float32", F16="float16", BF16="bfloat16")
    for seed, (name, (dtype, extra)) in enumerate(FOLDERS.items()):
        config = {**COMMON, "torch_dtype": torch_dtypes[dtype], **extra}
        generator = torch.Generator().manual_seed(seed)
        make_folder(pathlib.Path(__file__).parent / "golden" / name, dtype, config, generator)


if __name__ == "__main__":
    main()
