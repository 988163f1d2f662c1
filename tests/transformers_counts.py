"""Counts the parameters of configurations with transformers, on the meta device (no weights are allocated).

usage: transformers_counts.py CASES.json
CASES.json is a list of {"name": ..., "config": {...}}; stdout gets {"version": ..., "results": [...]}, where a
result is {"name": ..., "parameters": n, "head_dim": n} or {"name": ..., "error": "..."}.

openPangu-Embedded is no class of transformers: it is built as the Llama class with attention biases, which has the
same tensors; for `sandwich_norm` the two further norms of vLLM's OpenPanguDecoderLayer are added to every layer.
"""

import json
import os
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm


def as_llama(config):
    """The openPangu configuration as that of a Llama with the same tensors."""
    llama = {key: value for key, value in config.items() if key not in ("auto_map", "bias", "sandwich_norm")}
    biases = {"attention_bias": config["bias"], "mlp_bias": False}
    return llama | {"model_type": "llama", "architectures": ["LlamaForCausalLM"]} | biases


def build(config):
    """The model of a config.json, as transformers loads it from a directory."""
    pangu = config["model_type"] == "PanguEmbedded"
    with tempfile.TemporaryDirectory() as directory:
        with open(os.path.join(directory, "config.json"), "w") as file:
            json.dump(as_llama(config) if pangu else config, file)
        loaded = AutoConfig.from_pretrained(directory)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(loaded)
        if pangu and config.get("sandwich_norm"):
            for layer in model.model.layers:
                layer.pre_mlp_layernorm = LlamaRMSNorm(loaded.hidden_size)
                layer.post_mlp_layernorm = LlamaRMSNorm(loaded.hidden_size)
    return model


def count(case):
    """One result."""
    try:
        model = build(case["config"])
    except Exception as error:  # whatever transformers raises is the result
        return {"name": case["name"], "error": " ".join(str(error).split())}
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {"name": case["name"], "parameters": parameters, "head_dim": model.model.layers[0].self_attn.head_dim}


def main():
    with open(sys.argv[1]) as file:
        cases = json.load(file)
    print(json.dumps({"version": transformers.__version__, "results": [count(case) for case in cases]}))


if __name__ == "__main__":
    main()
