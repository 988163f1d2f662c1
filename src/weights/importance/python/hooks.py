"""Statistics of importance from PyTorch: python hooks.py MODEL DATA.jsonl SAMPLES SEQ_LEN OUT.safetensors

DATA: a line per sample, {"tokens": [...]} or {"text": "..."}. Then:
archplan calibrate import OUT.safetensors --model MODEL --out stats.safetensors
Needs torch, transformers, safetensors; on GPUs accelerate too, which spreads a large model over them.
"""
import hashlib, json, math, os, sys
import torch, transformers
from safetensors.torch import save_file

SKIP_FIRST, SPACING = 1, 64
path, data, samples, seq_len, out = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
trusted = "--trust-remote-code" in sys.argv  # openPangu's classes come with its checkpoint
spread = {"device_map": "auto"} if torch.cuda.is_available() else {}
dtype = torch.bfloat16 if spread else torch.float32
model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=dtype, trust_remote_code=trusted, **spread).eval()
config, layers = model.config.get_text_config(), model.model.layers
head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
q_heads, kv_heads, offset = config.num_attention_heads, config.num_key_value_heads, "gemma" in config.model_type
sums, streams, counts = {}, {}, {"samples": 0, "tokens": 0, "angular_tokens": 0}


def add(name, value):
    sums[name] = sums.get(name, 0) + value.detach().double().cpu().reshape(-1)


def mean_squared(name, a):  # a: [tokens, units]
    add(name, a[SKIP_FIRST:].abs().double().mean(0) ** 2)


def channels(name, a):
    mean_squared(name + ".mean_abs_squared", a)
    add(name + ".sum", a[SKIP_FIRST:].double().sum(0))
    add(name + ".sum_squares", (a[SKIP_FIRST:].double() ** 2).sum(0))


def pre_norm(name):
    def hook(module, inputs, output):
        x = inputs[0][0][SKIP_FIRST:].double()
        channels(name + ".output", output[0])
        add(name + ".energy", (x**2 / (x**2).sum(-1, keepdim=True)).sum(0))
    return hook


def post_norm(name, gain, heads=None):
    def hook(module, inputs, output):
        o = inputs[0][0].double()
        rms = (o**2).mean(-1).sqrt()
        gained = ((o * gain().to(o.device)) ** 2).sum(-1)
        terms = {"rms": rms, "rms_squared": rms**2, "gained": gained, "gained_by_rms": gained / rms}
        for field, value in terms.items():
            add(f"{name}.{field}", value[SKIP_FIRST:].sum())
        if heads:
            heads(rms)
    return hook


def attach(index, layer):
    at, attention, held = f"layers.{index}.", layer.self_attn, {}
    names = ("pre_feedforward_layernorm", "pre_mlp_layernorm", "post_attention_layernorm")
    ffn_norm = next(getattr(layer, name) for name in names if hasattr(layer, name))
    sandwich = ffn_norm is not layer.post_attention_layernorm
    gain = lambda norm: norm.weight.double() + float(offset)

    def contributions(rms=None):  # of heads and groups to the stream, over the post-norm's divisor
        a, weight = held.pop("a"), attention.o_proj.weight.double()
        weight = weight * gain(layer.post_attention_layernorm)[:, None].to(weight) if sandwich else weight
        for name, units in (("head_contributions", q_heads), ("group_contributions", kv_heads)):
            gram = torch.einsum("oui,ouj->uij", *[weight.view(weight.shape[0], units, -1)] * 2)
            parts = a.view(a.shape[0], units, -1)
            norms = torch.einsum("tui,uij,tuj->tu", parts, gram, parts).clamp(min=0).sqrt()
            mean_squared(at + name, norms if rms is None else norms / rms[:, None].to(norms))

    def heads(module, inputs):
        a = held["a"] = inputs[0][0].double()
        channels(at + "head_outputs", a)
        mean_squared(at + "heads", a.view(a.shape[0], q_heads, head_dim).norm(dim=-1))
        sandwich or contributions()

    def stream(module, inputs, output):
        x, y = inputs[0][0].double(), (output[0] if isinstance(output, tuple) else output)[0].double()
        y = y.reshape(x.shape).to(x.device)
        streams[index], streams[index + 1] = x.cpu(), y.cpu()
        add(at + "stream_norm", x[SKIP_FIRST:].norm(dim=-1).sum())
        add(at + "first_token_norm", x[0].norm())
        add(at + "cosine", torch.cosine_similarity(x, y, dim=-1)[SKIP_FIRST:].sum())

    layer.input_layernorm.register_forward_hook(pre_norm(at + "attention_norm"))
    ffn_norm.register_forward_hook(pre_norm(at + "ffn_norm"))
    attention.o_proj.register_forward_pre_hook(heads)
    layer.mlp.down_proj.register_forward_pre_hook(lambda m, inputs: channels(at + "ffn_hidden", inputs[0][0]))
    layer.register_forward_hook(stream)
    if sandwich:
        norm = layer.post_attention_layernorm
        norm.register_forward_hook(post_norm(at + "attention_post_norm", lambda: gain(norm), contributions))
        last = getattr(layer, "post_feedforward_layernorm", None) or layer.post_mlp_layernorm
        last.register_forward_hook(post_norm(at + "ffn_post_norm", lambda: gain(last)))
    return sandwich


sandwich = [attach(index, layer) for index, layer in enumerate(layers)][0]
model.model.norm.register_forward_hook(pre_norm("final_norm"))
lines, tokenizer = open(data).read().splitlines()[:samples], None
assert len(lines) == samples, f"{data}: {len(lines)} lines, {samples} samples asked for"
for line in map(json.loads, lines):
    tokens = line.get("tokens") or line.get("input_ids")
    if tokens is None:
        if tokenizer is None:
            tokenizer = transformers.AutoTokenizer.from_pretrained(path, trust_remote_code=trusted)
        tokens = tokenizer(line["text"])["input_ids"]
    with torch.no_grad():
        model.model(torch.tensor([tokens[:seq_len]], device=model.device), use_cache=False)
    counted = len(tokens[:seq_len]) - SKIP_FIRST
    looked_at = math.ceil(counted / SPACING)
    rows = [SKIP_FIRST + (2 * i + 1) * counted // (2 * looked_at) for i in range(looked_at)]
    boundary = torch.stack([streams[i][rows] for i in range(len(layers) + 1)])
    boundary = boundary / boundary.norm(dim=-1, keepdim=True)
    angle = torch.einsum("atd,btd->abt", boundary, boundary).clamp(-1, 1).acos() / math.pi
    add("angular", angle.sum(-1).triu(1))
    for count, more in (("samples", 1), ("tokens", counted), ("angular_tokens", looked_at)):
        counts[count] += more


def sha256(name):
    return hashlib.sha256(open(name, "rb").read()).hexdigest()


shape = {"ffn": config.intermediate_size, "q_heads": q_heads, "kv_heads": kv_heads}
architecture = {"hidden": config.hidden_size, "head_dim": head_dim,
                "layers": {"uniform": {"count": len(layers), "shape": shape}}}
header = {"made_by": f"hooks.py (torch {torch.__version__}, transformers {transformers.__version__})",
          "model": {"architecture": architecture, "sandwich": sandwich},
          "data": {"path": data, "sha256": sha256(data)},
          "tokenizer_sha256": sha256(os.path.join(path, "tokenizer.json")) if tokenizer else "",
          "seq_len": seq_len, "skip_first": SKIP_FIRST, "samples": samples, "shards": 1, "parts": [0], "grams": False}
metadata = {"archplan_statistics": json.dumps({"format": 1, "header": header, "counts": counts})}
save_file({name: value.contiguous() for name, value in sums.items()}, out, metadata=metadata)
