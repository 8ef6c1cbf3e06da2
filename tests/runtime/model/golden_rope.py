#!/usr/bin/env python3
"""Writes golden_rope.h: RoPE frequencies as transformers computes them, for test_model_rope.

    pip install torch transformers numpy && python3 golden_rope.py > golden_rope.h

Made with transformers 5.23.0 and torch 2.15.0. Each case is a config.json; what comes out is inv_freq, exact fp32
numbers, and the factor on cosines and sines.
"""
import json
import textwrap

import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

SIZES = dict(model_type="llama", hidden_size=128, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
             vocab_size=32)

# name, the config's own keys, max_context
CASES = [
    ("default", dict(rope_theta=10000.0), 4096),
    ("default_theta", dict(), 4096),
    ("head_dim_68", dict(rope_theta=500000.0, head_dim=68), 4096),
    ("null_scaling", dict(rope_theta=10000, rope_scaling=None), 4096),
    ("parameters", dict(rope_parameters=dict(rope_type="default", rope_theta=1e6), head_dim=20), 4096),
    ("linear_old", dict(rope_theta=10000.0, rope_scaling=dict(type="linear", factor=4.0)), 4096),
    ("linear_new", dict(rope_parameters=dict(rope_type="linear", rope_theta=5e4, factor=2.5), head_dim=16), 4096),
    ("dynamic_short", dict(max_position_embeddings=2048, rope_scaling=dict(rope_type="dynamic", factor=2.0)), 1024),
    ("dynamic_long", dict(max_position_embeddings=2048, rope_scaling=dict(rope_type="dynamic", factor=2.0)), 65536),
    ("dynamic_1m", dict(max_position_embeddings=4096, rope_theta=1e5, head_dim=68,
                        rope_scaling=dict(type="dynamic", factor=8)), 1 << 20),
    ("llama3", dict(rope_theta=500000.0, head_dim=128, max_position_embeddings=131072,
                    rope_scaling=dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                      original_max_position_embeddings=8192)), 131072),
    ("llama3_32", dict(rope_parameters=dict(rope_type="llama3", rope_theta=500000.0, factor=32, low_freq_factor=1,
                                            high_freq_factor=4, original_max_position_embeddings=8192)), 131072),
    ("yarn", dict(rope_theta=10000.0, max_position_embeddings=65536,
                  rope_scaling=dict(type="yarn", factor=16.0, original_max_position_embeddings=4096)), 65536),
    ("yarn_no_original", dict(rope_theta=10000.0, max_position_embeddings=8192, head_dim=68,
                              rope_scaling=dict(rope_type="yarn", factor=4)), 65536),
    ("yarn_mscale", dict(max_position_embeddings=163840, rope_parameters=dict(
        rope_type="yarn", rope_theta=1e4, factor=40, original_max_position_embeddings=4096, beta_fast=16, beta_slow=2,
        mscale=1.0, mscale_all_dim=0.707)), 65536),
    ("yarn_attention_factor", dict(max_position_embeddings=32768, head_dim=32, rope_parameters=dict(
        rope_type="yarn", rope_theta=150000.0, factor=32.0, original_max_position_embeddings=4096,
        attention_factor=1.25, truncate=False)), 65536),
]


def frequencies(keys, max_context):
    config = LlamaConfig(**json.loads(json.dumps(SIZES | keys)))
    if config.rope_parameters["rope_type"] == "dynamic":
        inv_freq, factor = ROPE_INIT_FUNCTIONS["dynamic"](config, seq_len=max_context)
    else:
        embedding = LlamaRotaryEmbedding(config)
        inv_freq, factor = embedding.inv_freq, embedding.attention_scaling
    assert inv_freq.dtype == torch.float32
    return [x.item() for x in inv_freq], float(factor)


def main():
    print("/* Made by golden_rope.py: RoPE frequencies as transformers computes them. */\n/* clang-format off */")
    print("static const struct {\n    const char *name, *config;\n    long long max_context;")
    print("    double attention_factor;\n    int n;\n    double inv_freq[64];\n} golden_rope[] = {")
    for name, keys, max_context in CASES:
        inv_freq, factor = frequencies(keys, max_context)
        text = json.dumps(SIZES | keys).replace('"', '\\"')
        print(f'    {{"{name}",')
        for line in textwrap.wrap(text, 100, drop_whitespace=False, break_long_words=False, break_on_hyphens=False):
            print(f'     "{line}"')
        print(f"     , {max_context}, {factor!r}, {len(inv_freq)},\n     {{")
        print(textwrap.fill(", ".join(f"{x:.9g}" for x in inv_freq), 110, initial_indent="      ",
                            subsequent_indent="      ") + "}},")
    print("};")


if __name__ == "__main__":
    main()
