#!/usr/bin/env python3
"""Measures kernel latencies on this machine and writes them as an archplan hardware profile.

Needs Python 3.9 or later and PyTorch (with torch_npu on Ascend); nothing else, and no network.

    python3 collector.py --out my_device                 measure, then write the profile my_device/
    python3 collector.py --out my_device --budget 30m    the same, within half an hour
    torchrun --nproc-per-node 4 collector.py --out my_device     add all-reduce over 4 devices

Every measurement is appended to OUT/collector.jsonl as soon as it is made. Started again with the same --out, the
program goes on where it was stopped: by Ctrl-C, by the budget or by a crash.
"""
import argparse
import collections
import csv
import datetime
import json
import math
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import time
import warnings

SETTINGS = json.loads(r"""@SETTINGS@""")

# A point is a family followed by what stands here. `copy` and `norm` are for the elementwise rule: bytes moved, and a
# norm over `hidden` bf16 values of each token.
COLUMNS = {
    "gemm": ("m", "n", "k", "dtype"),
    "attention_prefill": ("batch", "seq_len", "q_heads", "kv_heads", "head_dim", "dtype"),
    "attention_decode": ("batch", "kv_len", "q_heads", "kv_heads", "head_dim", "dtype"),
    "all_reduce": ("bytes",),
    "copy": ("bytes",),
    "norm": ("tokens", "hidden"),
}
TABLES = ("gemm", "attention_prefill", "attention_decode", "all_reduce")
BYTES = {"f32": 4, "bf16": 2, "fp8": 1, "int8": 1}
FLUSH = 2  # the last-level cache is overwritten this many times between repeats
MOST_CALLS = 64  # calls in one timed run
NOISY = 0.05  # spread above which more repeats are made
FAILURES = 12  # so many errors in a row, and the device is taken to be broken


class NoRoom(Exception):
    """The point does not fit the device's memory."""


def no_room(error):
    """Whether PyTorch says that memory is short."""
    return any(words in str(error).lower() for words in ("out of memory", "can't allocate memory"))


class BadInput(Exception):
    """Something the user gave cannot be used."""


def say(text):
    print(text, file=sys.stderr, flush=True)


def check_point(row, where):
    family = row[0] if row else None
    columns = COLUMNS.get(family)
    if columns is None or len(row) != len(columns) + 1:
        raise BadInput(f"{where}: {row} is no point: expected a family ({', '.join(COLUMNS)}) and its sizes")
    point = [family]
    for column, value in zip(columns, row[1:]):
        if column == "dtype":
            if value not in BYTES:
                raise BadInput(f"{where}: dtype is {value!r}: expected one of {', '.join(BYTES)}")
            point.append(value)
            continue
        try:
            number = int(value)
        except (TypeError, ValueError):
            number = 0
        if number < 1 or number > 1 << 44 or str(number) != str(value).strip():
            raise BadInput(f"{where}: {column} is {value!r}: expected a whole number above zero")
        point.append(number)
    if family.startswith("attention") and point[3] % point[4]:
        raise BadInput(f"{where}: {point[4]} KV heads do not divide {point[3]} query heads")
    return tuple(point)


def read_points(path):
    """A JSON list of points, or one point a line in CSV without a header."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            text = file.read()
        if text.lstrip().startswith("["):
            rows = json.loads(text)
        else:
            rows = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines()) if row]
    except (OSError, ValueError, csv.Error) as error:
        raise BadInput(f"{path}: {error}")
    points = [check_point(row if isinstance(row, list) else [], f"{path}, point {i + 1}") for i, row in enumerate(rows)]
    return list(dict.fromkeys(points))


def flops(point):
    family, sizes = point[0], point[1:]
    if family == "gemm":
        return 2.0 * sizes[0] * sizes[1] * sizes[2]
    if family in ("attention_prefill", "attention_decode"):
        batch, length, q_heads, _, head_dim = sizes[:5]
        pairs = length * (length + 1) / 2 if family == "attention_prefill" else length
        return 4.0 * batch * q_heads * head_dim * pairs
    return 0.0


def moved(point):
    """Bytes that must be moved at least, as archplan counts them."""
    family, sizes = point[0], point[1:]
    if family == "gemm":
        m, n, k = sizes[:3]
        return float((m * k + n * k) * BYTES[sizes[3]] + m * n * max(2, BYTES[sizes[3]]))
    if family == "norm":
        return 4.0 * sizes[0] * sizes[1]
    if family in ("copy", "all_reduce"):
        return float(sizes[0])
    batch, length, q_heads, kv_heads, head_dim, dtype = sizes
    rows = length if family == "attention_prefill" else 1
    return float(batch * head_dim * (4 * q_heads * rows + 2 * kv_heads * length * BYTES[dtype]))
