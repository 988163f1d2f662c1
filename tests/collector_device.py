"""The collector's control flow on a made-up accelerator: graphs, events, fall-backs, limits. Argument: the program.

The tensors are the host's; the made-up module keeps a clock that only its replays and calls move.
"""
import contextlib
import importlib.util
import json
import os
import sys
import tempfile
import types
import warnings

warnings.filterwarnings("ignore")
import torch  # noqa: E402

spec = importlib.util.spec_from_file_location("collector", sys.argv[1])
collector = importlib.util.module_from_spec(spec)
spec.loader.exec_module(collector)
GIB = 1 << 30


class Fake:
    """What the program uses of torch.cuda."""

    def __init__(self, capture=True, free=4 * GIB, name="NVIDIA L40S"):
        fake = self
        self.now, self.log, self.free, self.side, self.name = 0.0, [], free, False, name

        class Stream:
            def wait_stream(self, _other):
                fake.log.append("wait")

        class Event:
            def __init__(self, enable_timing):
                assert enable_timing

            def record(self):
                self.at = fake.now

            def elapsed_time(self, end):
                return (end.at - self.at) * 1e3

        class CUDAGraph:
            def replay(self):
                fake.log.append("replay")
                fake.now += 5e-6 * max(self.calls, 1)

        self.Stream, self.Event, self.CUDAGraph, self.capture = Stream, Event, CUDAGraph, capture
        self.calls = 0

    @contextlib.contextmanager
    def graph(self, graph):
        if not self.capture:
            raise RuntimeError("operation not permitted when stream is capturing")
        assert self.log[-1] == "synchronize" and "side" in self.log, "captured before it was warmed up"
        before = self.calls
        yield
        graph.calls = self.calls - before
        self.log.append(f"captured {graph.calls}")

    @contextlib.contextmanager
    def stream(self, _stream):
        self.log.append("side")
        yield

    def current_stream(self):
        return self.Stream()

    def synchronize(self):
        self.log.append("synchronize")

    def mem_get_info(self):
        return self.free, 8 * GIB

    def memory_reserved(self):
        return 0

    memory_allocated = memory_reserved

    def empty_cache(self):
        self.log.append("empty")

    def get_device_properties(self, _index):
        return types.SimpleNamespace(name=self.name, total_memory=48 * GIB, multi_processor_count=142,
                                     L2_cache_size=1 << 20, uuid="abc")


def meter(fake, **made):
    machine = collector.Accelerator(torch, "cuda", fake, name="cpu")
    kernels = collector.Kernels(torch, machine, 1 << 20)
    for name, make in made.items():
        setattr(kernels, name, make)
    return collector.Meter(kernels, 5)


def counted(fake, kernels, name):
    """Wraps a maker so that each call moves the clock."""
    make = getattr(kernels, name)

    def counting(sets, *sizes):
        def one(call):
            def run():
                fake.calls += 1
                fake.now += 5e-6
                return call()
            return run
        return [one(call) for call in make(sets, *sizes)]

    setattr(kernels, name, counting)


def graph_runs_are_divided_by_their_calls():
    fake = Fake()
    one = meter(fake)
    counted(fake, one.kernels, "gemm")
    row = one.measure(("gemm", 1, 256, 256, "bf16"))
    captured = next(int(line.split()[1]) for line in fake.log if line.startswith("captured"))
    assert row["calls"] == captured and row["how"] == "mm, graph", row
    assert abs(row["latency_us"] - 5.0) < 1e-6 and row["spread_percent"] < 1e-6, row
    assert row["repeats"] == 5 and fake.log.count("replay") == 6, "one to warm up, then the repeats"


def the_cache_is_overwritten_before_each_repeat():
    fake = Fake()
    one = meter(fake)
    flush = one.kernels.flush
    one.kernels.flush = lambda: (fake.log.append("flush"), flush())
    one.measure(("copy", 1 << 20))
    replays = [i for i, line in enumerate(fake.log) if line == "replay"][1:]
    assert replays and all(fake.log[i - 1] == "flush" for i in replays)
    assert one.kernels.flushed.numel() >= 2 << 20


def weights_rotate_beyond_the_cache():
    fake = Fake()
    one = meter(fake)
    seen = []
    gemm = one.kernels.gemm
    one.kernels.gemm = lambda sets, *sizes: seen.append(sets) or gemm(sets, *sizes)
    one.once = lambda call: (call(), 1e-6)[1]
    one.measure(("gemm", 1, 512, 512, "bf16"))
    assert seen[-1] == 5, f"{seen}: four weights of half a MiB fill the cache twice, the fifth comes on top"
    buffer = one.kernels.random("bf16", [(8, 16), (4, 4)], 3, "cold")
    spans = sorted((x.data_ptr(), x.data_ptr() + x.numel() * 2) for group in buffer for x in group)
    assert all(a[1] <= b[0] for a, b in zip(spans, spans[1:])), "operands overlap"
    assert all(torch.isfinite(x.float()).all() for group in buffer for x in group)


def what_cannot_be_captured_runs_eagerly():
    fake = Fake(capture=False)
    one = meter(fake)
    counted(fake, one.kernels, "gemm")
    row = one.measure(("gemm", 1, 256, 256, "bf16"))
    assert row["how"] == "mm, eager" and abs(row["latency_us"] - 5.0) < 1e-6, row


def outliers_do_not_count_and_noise_asks_for_more():
    one = meter(Fake())
    samples = iter([5e-6] * 4 + [5e-3] + [5e-6] * 100)
    one.machine.seconds = lambda run, flush: next(samples)
    row = one.measure(("copy", 1 << 28))
    assert abs(row["latency_us"] * row["calls"] - 5.0) < 1e-9 and row["spread_percent"] == 0, row
    noisy = iter([1e-6 * (1 + i % 7) for i in range(200)])
    one.machine.seconds = lambda run, flush: next(noisy)
    row = one.measure(("copy", 1 << 24))
    assert row["repeats"] == 15 and row["spread_percent"] > 5, row
    one.machine.seconds = lambda run, flush: float("nan")
    try:
        one.measure(("copy", 1 << 20))
        raise AssertionError("NaN was taken for a measurement")
    except RuntimeError as error:
        assert "clock" in str(error)


def what_does_not_fit_is_skipped():
    one = meter(Fake(free=1 << 20))
    for point in (("gemm", 1, 4096, 4096, "bf16"), ("attention_decode", 4, 4096, 8, 8, 128, "bf16")):
        try:
            one.measure(point)
            raise AssertionError("it fits nowhere")
        except collector.NoRoom as error:
            assert "GiB" in str(error)

    def full(*_):
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")

    one = meter(Fake(), gemm=full)
    try:
        one.measure(("gemm", 1, 64, 64, "bf16"))
        raise AssertionError("out of memory went unnoticed")
    except collector.NoRoom:
        pass
    # Memory that other points' operands hold is given back, and the point is tried once more.
    fake = Fake()
    one = meter(fake)
    one.measure(("copy", 1 << 20))
    assert one.kernels.buffers
    gemm = one.kernels.gemm
    one.kernels.gemm = lambda *given: gemm(*given) if ("cold", "bf16") not in one.kernels.buffers or "empty" in fake.log else full()
    assert one.measure(("gemm", 1, 64, 64, "bf16"))["latency_us"] > 0 and "empty" in fake.log


def a_type_the_device_lacks_is_left_out_once():
    one = meter(Fake())

    def scaled(*_, **__):
        raise RuntimeError("torch._scaled_mm is only supported on CUDA devices with compute capability >= 9.0 or 8.9")

    real, torch._scaled_mm = torch._scaled_mm, scaled
    try:
        with tempfile.TemporaryDirectory() as folder:
            journal = collector.Journal(os.path.join(folder, "collector.jsonl"), {"device": "x", "torch": "1"})
            points = [("gemm", m, 64, 64, dtype) for m in range(1, 20) for dtype in ("fp8", "bf16")]
            args = types.SimpleNamespace(budget=None, repeats=5)
            run = collector.Run(args, points, journal, one, None)
            run.go()
            assert len(journal.rows) == 19 and run.failed == 0 and all("fp8" not in key for key in journal.rows)
    finally:
        torch._scaled_mm = real


def the_first_form_that_runs_is_taken():
    one = meter(Fake())
    tried = []

    def sdpa(name, q, k, v, causal):
        tried.append((name, k.shape[1]))
        if name == "sdpa_gqa":
            raise RuntimeError("No available kernel. Aborting execution.")
        return q

    one.kernels.sdpa = sdpa
    row = one.measure(("attention_prefill", 1, 64, 8, 2, 64, "bf16"))
    assert tried[0] == ("sdpa_gqa", 2) and ("sdpa_repeated_kv", 8) in tried
    assert row["how"].startswith("sdpa_repeated_kv")


def fp8_takes_a_column_major_weight():
    if not hasattr(torch, "float8_e4m3fn"):
        return
    given, one, real = [], meter(Fake()), torch._scaled_mm

    def scaled(a, b, scale_a, scale_b, out_dtype, use_fast_accum):
        given.append((a, b, scale_a, out_dtype))

    torch._scaled_mm = scaled
    try:
        row = one.measure(("gemm", 16, 64, 32, "fp8"))
    finally:
        torch._scaled_mm = real
    a, b, scale, out = given[0]
    assert a.dtype == b.dtype == torch.float8_e4m3fn and a.shape == (16, 32) and b.shape == (32, 64)
    assert a.is_contiguous() and b.stride() == (1, 32) and scale.numel() == 1 and out == torch.bfloat16
    assert row["how"].startswith("fp8_mm")


def folded_heads_attend_as_grouped_ones():
    one = meter(Fake())
    caches, queries = one.kernels.random("bf16", [(2, 2, 16, 64)] * 2, 1, "cold"), one.kernels.random("bf16", [(2, 2, 4, 64)])
    (k, v), (q,) = caches[0], queries[0]
    folded = one.kernels.attention_decode(1, "sdpa", 2, 16, 8, 2, 64, "bf16")[0]()
    whole = torch.nn.functional.scaled_dot_product_attention(
        q.view(2, 8, 1, 64).float(), k.repeat_interleave(4, 1).float(), v.repeat_interleave(4, 1).float())
    assert torch.allclose(folded.float().view(2, 8, 1, 64), whole, atol=0.05)


def npu_operators_get_what_their_documents_ask_for():
    given = {}
    npu = types.SimpleNamespace(
        npu_fused_infer_attention_score=lambda q, k, v, **kw: given.setdefault("fused", []).append((q, k, kw)),
        npu_dynamic_quant=lambda x: (x.to(torch.int8), torch.ones(x.shape[0])),
        npu_quant_matmul=lambda x, w, scale, **kw: given.setdefault("quant", []).append((x, w, scale, kw)))
    one = meter(Fake())
    one.kernels.npu = npu
    assert one.measure(("attention_prefill", 1, 64, 8, 2, 64, "bf16"))["how"].startswith("npu_fused_infer")
    q, k, kw = given["fused"][0]
    assert q.shape == (1, 8, 64, 64) and kw["num_key_value_heads"] == 2 and kw["input_layout"] == "BNSD"
    assert kw["sparse_mode"] == 2 and kw["atten_mask"].shape == (2048, 2048) and kw["atten_mask"][0, 1] and not kw["atten_mask"][1, 0]
    given.clear()
    one.measure(("attention_decode", 3, 64, 8, 2, 64, "bf16"))
    q, k, kw = given["fused"][0]
    assert q.shape == (3, 8, 1, 64) and k.shape == (3, 2, 64, 64) and kw["num_heads"] == 8 and "atten_mask" not in kw
    one.measure(("gemm", 4, 96, 32, "int8"))
    x, w, scale, kw = given["quant"][0]
    assert x.dtype == w.dtype == torch.int8 and w.shape == (32, 96) and scale.shape == (96,)
    assert kw["pertoken_scale"].shape == (4,) and kw["output_dtype"] == torch.bfloat16


def a_known_device_has_its_data_sheet():
    fake = Fake()
    machine = collector.Accelerator(torch, "cuda", fake, name="cpu")
    header = {**machine.facts(), "memory_bytes": machine.total_bytes(), "host_gbps": 20.0}
    rows = [{"point": ["gemm", 16, 64, 64, "bf16"], "latency_us": 5.0}, {"point": ["gemm", 16, 64, 64, "fp8"], "latency_us": 4.0}]
    facts, source, dtypes = collector.device_facts(header, rows, {})
    assert (facts["bf16_tflops"], facts["fp8_tflops"], facts["hbm_gbps"], facts["cores"]) == (362.05, 733, 864, 142), facts
    assert "aiconfigurator" in source and "MEASURED" not in source and dtypes == ["bf16", "fp8"]
    facts, source, _ = collector.device_facts(header, rows, {"bf16_tflops": 300.0, "source": "my own"})
    assert facts["bf16_tflops"] == 300.0 and "my own" in source
    facts, source, _ = collector.device_facts({**header, "device": "Unheard of"}, rows + [{"point": ["copy", 10**9], "latency_us": 1000.0}], {})
    assert facts["hbm_gbps"] == 1000.0 and "MEASURED" in source and facts["interconnect_gbps"] == 20.0


def the_elementwise_rule_is_found_again():
    rows = [{"point": ["copy", size], "latency_us": 2.5 + size / (0.8 * 1e12) * 1e6} for size in (1 << 14, 1 << 20, 1 << 24, 1 << 28)]
    launch, efficiency, factor, count = collector.elementwise_rule(rows, 1000.0)
    assert abs(launch - 2.5) < 1e-6 and abs(efficiency - 0.8) < 1e-6 and factor == 1.05 and count == 4
    for few in (rows[:1], rows[-1:], [{"point": ["copy", 4096], "latency_us": 9.0}, {"point": ["copy", 1 << 20], "latency_us": 3.0}]):
        launch, efficiency, factor, _ = collector.elementwise_rule(few, 1000.0)
        assert launch > 0 and 0 < efficiency <= 1 and 1 <= factor < 100, (few, launch, efficiency, factor)


def a_journal_outlives_half_a_line():
    with tempfile.TemporaryDirectory() as folder:
        path, header = os.path.join(folder, "collector.jsonl"), {"device": "x", "torch": "1"}
        journal = collector.Journal(path, header)
        journal.begin("copy,8")
        journal.add({"point": ["copy", 8], "latency_us": 1.0})
        journal.begin("copy,16")
        journal.begin("copy,16")
        with open(path, "ab") as file:
            file.write(b'{"point": ["copy", 32], "late')
        again = collector.Journal(path, header)
        assert list(again.rows) == ["copy,8"] and again.begun["copy,16"] == 2 and again.begun["copy,8"] == 0
        again.add({"point": ["copy", 64], "latency_us": 2.0})
        with open(path, encoding="utf-8") as file:
            assert all(json.loads(line) for line in file)
        try:
            collector.Journal(path, {**header, "device": "y"})
            raise AssertionError("two devices in one journal")
        except collector.BadInput as error:
            assert "--restart" in str(error)


if __name__ == "__main__":
    tests = [f for name, f in list(globals().items()) if isinstance(f, types.FunctionType) and f.__module__ == "__main__"
             and name not in ("meter", "counted")]
    for test in tests:
        test()
        print(f"ok {test.__name__}")
