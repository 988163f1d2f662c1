"""Seconds (clock, CPU time) of torch's f32 forward pass at the shape of SmolLM-135M: THREADS SEQUENCES LENGTH."""

import sys
import time

import torch
from transformers import LlamaConfig, LlamaForCausalLM

threads, sequences, length = map(int, sys.argv[1:4])
torch.set_num_threads(threads)
torch.manual_seed(1)
config = LlamaConfig(
    hidden_size=576, num_hidden_layers=30, intermediate_size=1536, num_attention_heads=9, num_key_value_heads=3,
    vocab_size=49152, max_position_embeddings=2048, rms_norm_eps=1e-5, tie_word_embeddings=True,
    attn_implementation="sdpa",
)
model = LlamaForCausalLM(config).float().eval()
tokens = torch.arange(sequences * length).mul(7919).remainder(49152).reshape(sequences, length)
with torch.inference_mode():
    for repeat in range(9):
        start, used = time.perf_counter(), time.process_time()
        model(tokens, use_cache=False)
        if repeat > 0:
            print(time.perf_counter() - start, time.process_time() - used)
