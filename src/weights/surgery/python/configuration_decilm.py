"""Configuration of a DeciLM (Nemotron-NAS), a Llama each of whose layers has its own shape.

vLLM has the model but not this class, which makes attributes of the entries of `block_configs`; it is found through
`auto_map` of config.json and needs --trust-remote-code.
"""

from types import SimpleNamespace

from transformers import LlamaConfig


class DeciLMConfig(LlamaConfig):
    """A LlamaConfig with `block_configs`, one entry per layer."""

    model_type = "nemotron-nas"

    def __init__(self, block_configs=None, hidden_size=4096, num_attention_heads=32, head_dim=None, **kwargs):
        head_dim = head_dim or hidden_size // num_attention_heads
        # transformers 5 refuses a hidden size that the query heads do not divide, though their size is known.
        sizes = {"num_attention_heads": num_attention_heads, "head_dim": head_dim}
        super().__init__(hidden_size=num_attention_heads * head_dim, **sizes, **kwargs)
        self.hidden_size = hidden_size
        blocks = block_configs or []
        if len(blocks) not in (0, self.num_hidden_layers):
            raise ValueError(f"block_configs: expected {self.num_hidden_layers} entries, found {len(blocks)}")
        self.block_configs = [_as_attributes(block) for block in blocks]

    def to_dict(self):
        """As in config.json."""
        plain = super().to_dict()
        plain["block_configs"] = [_as_keys(block) for block in self.block_configs]
        return plain


def _as_attributes(block):
    if isinstance(block, SimpleNamespace):
        return block
    return SimpleNamespace(**{name: SimpleNamespace(**dict(part)) for name, part in block.items()})


def _as_keys(block):
    if isinstance(block, dict):
        return block
    return {name: dict(vars(part)) for name, part in vars(block).items()}
