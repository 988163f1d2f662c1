"""Learns src/hardware/transfer/constants.json from measured kernel tables of several devices.

    python docs/transfer/learn.py SYSTEMS src/hardware/transfer/constants.json

SYSTEMS is the folder `systems` of the PyPI package aiconfigurator-core 0.12.0 (Apache-2.0,
(c) NVIDIA CORPORATION & AFFILIATES). The profiles that ship are read from hardware_profiles/ instead, so that rows kept
out of them stay out of this too. Needs numpy, scipy, pandas and pyarrow. What is fitted, and why, stands in
docs/transfer.md. No row leaves this script: only fitted constants do.
"""

import itertools
import json
import os
import sys

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from scipy.linalg import solve_triangular
from scipy.optimize import least_squares, minimize

# bf16, fp8 TFLOPS, GB/s, cores, L2 MiB: the data sheets.
DEVICES = {
    "a100_sxm": (312, None, 2039, 108, 40),
    "h100_sxm": (989, 1978, 3350, 132, 50),
    "h200_sxm": (989, 1978, 4800, 132, 50),
    "l40s": (362.05, 733, 864, 142, 96),
    "rtx_pro_6000_server": (467.8, 935.6, 1792, 188, 128),
    "b200_sxm": (2250, 4500, 7700, 148, 126),
}
# Devices so alike that leaving one out means leaving both.
TWINS = {"h100_sxm": ["h200_sxm"], "h200_sxm": ["h100_sxm"]}
FAMILIES = ["gemm", "attention_prefill", "attention_decode"]
TYPES = {"bfloat16": "bf16", "fp8": "fp8"}
WIDTH = {"bf16": 2.0, "fp8": 1.0}
# Where the axes are centred, in octaves.
CENTRES = {"gemm": [8, 11, 11], "attention_prefill": [2, 9, 3, 1, 7], "attention_decode": [4, 8, 3, 1, 7]}
START = {
    "gemm": [3, 0.8, 0.8, 1, 0.5, 1, 1, 1],
    "attention_prefill": [10, 0.6, 0.6, 1, 0.5, 1, 1, 1],
    "attention_decode": [10, 0.6, 0.8, 1, 0.5, 1, 1, 1],
}
LAW = ["launch_us", "compute_efficiency", "memory_efficiency", "cache_gbps_per_core", "cache_share",
       "least_tile", "fill_sharpness", "overlap"]
DOF = 8.0


def read(systems, device, family):
    ours = f"hardware_profiles/{device}/{family}.csv"
    if os.path.exists(ours):
        t = pd.read_csv(ours)
        t = t.groupby(["dtype"] + [c for c in t.columns if c not in ("dtype", "latency_us")]).latency_us.median()
        return {dtype: t[dtype] for dtype in t.index.get_level_values(0).unique()}
    base = f"{systems}/data/{device}/{'gemm' if family == 'gemm' else 'attention'}/vllm/0.24.0"
    if family == "gemm":
        t = pq.read_table(f"{base}/gemm_perf.parquet").to_pandas()
        t["dtype"] = t.gemm_dtype.map(TYPES)
        keys = ["m", "n", "k"]
    else:
        kind = "context" if family == "attention_prefill" else "generation"
        t = pq.read_table(f"{base}/{kind}_attention_perf.parquet").to_pandas()
        if "window_size" in t:
            t = t[t.window_size == 0]
        if "attn_dtype" in t:
            t = t[t.attn_dtype == "bfloat16"]
        t = t[t.head_dim.isin([64, 128, 256])].copy()
        t["dtype"] = t.kv_cache_dtype.map(TYPES)
        t["length"] = t.isl if kind == "context" else t.isl + t.step
        keys = ["batch_size", "length", "num_heads", "num_key_value_heads", "head_dim"]
    t = t[t.dtype.notna()]
    t = t.groupby(["dtype"] + keys).latency.median() * 1e3
    return {dtype: t[dtype] for dtype in t.index.get_level_values(0).unique()}


def columns(index):
    return [index.get_level_values(i).to_numpy().astype(float) for i in range(index.nlevels)]


def work(family, dtype, x, device):
    """Compute and memory bound (us), bytes, cores' worth of work."""
    bf16, fp8, bandwidth, cores, l2 = DEVICES[device]
    w, peak = WIDTH[dtype], bf16
    if family == "gemm":
        m, n, k = x
        flops, moved = 2 * m * n * k, (m * k + n * k) * w + 2 * m * n
        peak, units = fp8 if dtype == "fp8" else bf16, m * n / 4096
    elif family == "attention_prefill":
        b, s, h, kv, d = x
        flops, moved = 4 * b * h * d * s * (s + 1) / 2, b * s * d * (4 * h + 2 * kv * w)
        units = b * h * s / 128
    else:
        b, s, h, kv, d = x
        flops, moved = 4 * b * h * d * s, 2 * b * d * s * kv * w + 4 * b * d * h
        units = b * kv * np.maximum(1, s / 256)
    return flops / peak / 1e6, moved / bandwidth / 1e3, moved, units / cores


def law(family, dtype, x, device, theta):
    c, ec, em, cache, share, tile, fill, overlap = np.exp(theta)
    _, _, bandwidth, cores, l2 = DEVICES[device]
    tc, tm, moved, units = work(family, dtype, x, device)
    q = (1 + (units / tile) ** -fill) ** (1 / fill)
    stays = 1 / (1 + (moved / (share * l2 * 2**20)) ** 3)
    tm = moved / 1e3 * (stays / (cache * 40 * cores) + (1 - stays) / (em * bandwidth))
    tc = tc / ec
    tc, tm = (tc, tm * q) if family == "attention_decode" else (tc * q, tm)
    high, low, p = np.maximum(tc, tm), np.minimum(tc, tm), 1 + overlap
    return c + high * (1 + (low / high) ** p) ** (1 / p)


def fit_law(tables, family, dtype, devices):
    index = None
    for d in devices:
        i = tables[d, family][dtype].index
        index = i if index is None else index.intersection(i)
    index = index[np.sort(np.random.default_rng(0).choice(len(index), min(700, len(index)), replace=False))]
    x = columns(index)
    logs = [np.log(tables[d, family][dtype].reindex(index).to_numpy()) for d in devices]
    start = np.log(START[family])

    def residuals(theta):
        r = np.array([l - np.log(law(family, dtype, x, d, theta)) for d, l in zip(devices, logs)])
        between = (r - r.mean(0)) * np.sqrt(len(devices) / (len(devices) - 1))
        pull = 0.05 * np.sqrt(0.05 * len(index)) * (theta - start)
        return np.concatenate([between.ravel(), 0.3 * r.ravel(), pull])

    return least_squares(residuals, start, loss="soft_l1", f_scale=0.15, max_nfev=200).x


def features(family, dtype, x, device, theta):
    tc, tm, _, _ = work(family, dtype, x, device)
    launch = np.minimum(np.exp(theta[0]) / law(family, dtype, x, device, theta), 1)
    compute = (1 - launch) * tc / (tc + tm)
    dims = x if family == "gemm" else [x[0], x[1], x[2], x[2] / x[3], x[4]]
    axes = np.stack([(np.log2(v) - c) / 4 for v, c in zip(dims, CENTRES[family])], 1)
    return axes, np.stack([launch - 0.5, compute - 0.3], 1)


def kernel(p, axes, shares):
    e = np.exp(p)
    k = e[0] + e[1] * np.outer(shares[:, 0], shares[:, 0]) + e[2] * np.outer(shares[:, 1], shares[:, 1])
    k += e[3] * axes @ axes.T
    scaled = axes * e[6 : 6 + axes.shape[1]]
    far = np.sqrt(3 * ((scaled[:, None] - scaled[None]) ** 2).sum(2))
    return k + e[4] * (1 + far) * np.exp(-far)


def distance(a, b):
    a, b = DEVICES[a], DEVICES[b]
    return np.sqrt(np.mean([np.log(a[i] / b[i]) ** 2 for i in (0, 2, 3, 4)]))


def fit_prior(tables, family, devices, thetas):
    n_axes = len(CENTRES[family])
    start = np.log([0.5, 0.5, 0.5, 0.1, 0.5, 0.1] + [1.0] * n_axes + [0.1, 0.25, 0.6])
    sets = []
    for turn, pair in enumerate(itertools.combinations(devices, 2)):
        s, g = pair if turn % 2 == 0 else pair[::-1]
        parts = []
        for dtype in thetas:
            a, b = tables[s, family].get(dtype), tables[g, family].get(dtype)
            if a is None or b is None:
                continue
            index = a.index.intersection(b.index)
            index = index[np.random.default_rng(turn).choice(len(index), 90, replace=False)]
            x, theta = columns(index), thetas[dtype]
            r = np.log(b.reindex(index).to_numpy() / a.reindex(index).to_numpy())
            r -= np.log(law(family, dtype, x, g, theta) / law(family, dtype, x, s, theta))
            parts.append((r, *features(family, dtype, x, g, theta), np.full(len(index), dtype == "fp8")))
        sets.append((distance(s, g), *(np.concatenate(v) for v in zip(*parts))))

    def loss(p):
        total = 0.5 * np.sum(((p - start) / 1.5) ** 2) + (1e9 if p[-1] > -0.01 else 0)
        for far, r, axes, shares, quantised in sets:
            scale = np.exp(2 * p[-3]) + np.exp(2 * p[-2]) * far**2
            same = np.where(quantised[:, None] == quantised[None], 1, np.exp(p[-1]))
            k = scale * (kernel(p, axes, shares) * same + np.exp(p[5]) * np.eye(len(r))) + 1e-5 * np.eye(len(r))
            try:
                root = np.linalg.cholesky(k)
            except np.linalg.LinAlgError:
                return 1e9
            z = solve_triangular(root, r, lower=True)
            total += np.log(np.diag(root)).sum() + 0.5 * (DOF + len(r)) * np.log1p(z @ z / DOF)
        return total

    return minimize(loss, start, method="L-BFGS-B", options={"maxiter": 60}).x


def learn(tables, without):
    devices = [d for d in DEVICES if d not in without]
    out = {"without": sorted(without), "devices": devices, "families": {}}
    for family in FAMILIES:
        types = ("bf16", "fp8")
        having = {t: [d for d in devices if t in tables[d, family]] for t in types}
        thetas = {t: fit_law(tables, family, t, having[t]) for t in types}
        p = np.exp(fit_prior(tables, family, devices, thetas))
        n = len(CENTRES[family])
        short = lambda v: float(f"{v:.4g}")
        laws = {t: {k: short(v) for k, v in zip(LAW, np.exp(theta))} for t, theta in thetas.items()}
        for values in laws.values():
            values["cache_gbps_per_core"] = short(40 * values["cache_gbps_per_core"])
        out["families"][family] = {
            "laws": laws,
            "prior": {
                "constant": short(p[0]), "launch": short(p[1]), "compute": short(p[2]), "slope": short(p[3]),
                "local": short(p[4]), "own": short(p[5]), "inverse_lengths": [short(v) for v in p[6 : 6 + n]],
                "least_scale": short(p[-3]), "scale_per_distance": short(p[-2]),
                "between_types": short(min(p[-1], 0.99)),
            },
        }
        print(sorted(without), family, json.dumps(out["families"][family]["prior"]), file=sys.stderr, flush=True)
    return out


def main():
    systems, target = sys.argv[1:3]
    tables = {(d, f): read(systems, d, f) for d in DEVICES for f in FAMILIES}
    sets, done = [learn(tables, [])], set()
    for device in DEVICES:
        without = tuple(sorted([device] + TWINS.get(device, [])))
        if without not in done:
            done.add(without)
            sets.append(learn(tables, list(without)))
    with open(target, "w") as file:
        json.dump({"source": "aiconfigurator-core 0.12.0 (PyPI), Apache-2.0, (c) 2025-2026 NVIDIA CORPORATION & "
                             "AFFILIATES: constants fitted to its tables of vLLM kernels by docs/transfer/learn.py",
                   "sets": sets}, file, indent=1)
        file.write("\n")


main()
