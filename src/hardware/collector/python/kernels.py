class Kernels:
    """Makes the calls of a point, with operands that lie side by side in buffers of random numbers."""

    def __init__(self, torch, machine, cache_bytes):
        self.torch, self.machine, self.buffers = torch, machine, {}
        self.functional = torch.nn.functional
        self.dtypes = {"f32": torch.float32, "bf16": torch.bfloat16, "int8": torch.int8,
                       "fp8": getattr(torch, "float8_e4m3fn", None)}
        self.npu = sys.modules.get("torch_npu")
        self.cache_bytes = cache_bytes
        self.flushed = torch.empty(max(cache_bytes * FLUSH, 1 << 20), dtype=torch.int8, device=machine.name)
        if machine.kind == "cuda":
            # Fall back to the unfused form only where we ask for it.
            torch.backends.cuda.enable_math_sdp(False)
        self.causal = None

    def flush(self):
        self.flushed.zero_()

    def empty(self, *shape, dtype="bf16"):
        return self.torch.empty(shape, dtype=self.dtypes[dtype], device=self.machine.name)

    def require(self, size):
        """Raises NoRoom unless so many more bytes fit; gives the buffers up first."""
        if size > 0.85 * self.machine.free_bytes() and self.buffers:
            self.buffers.clear()
            self.machine.release()
        if size > 0.85 * self.machine.free_bytes():
            raise NoRoom(f"needs {size / 2**30:.2f} GiB, free are {self.machine.free_bytes() / 2**30:.2f}")

    def random(self, dtype, shapes, sets=1, role="hot"):
        """`sets` groups of tensors of these shapes; within a role no two tensors share memory."""
        sizes = [-(-math.prod(shape) // 512) * 512 for shape in shapes]
        need, key = sum(sizes) * sets, (role, dtype)
        if key not in self.buffers or self.buffers[key].numel() < need:
            self.buffers.pop(key, None)
            self.require(need * BYTES[dtype])
            self.buffers[key] = self.fill(dtype, need)
        groups, at = [], 0
        for _ in range(sets):
            group = []
            for shape, size in zip(shapes, sizes):
                group.append(self.buffers[key][at:at + math.prod(shape)].view(shape))
                at += size
            groups.append(group)
        return groups

    def fill(self, dtype, count):
        torch = self.torch
        seed = torch.randn(min(count, 1 << 22), device=self.machine.name)
        seed = (seed * 32).clamp(-127, 127).to(torch.int8) if dtype == "int8" else seed.to(self.dtypes[dtype])
        raw = torch.uint8 if dtype == "fp8" else self.dtypes[dtype]  # not every device copies fp8
        seed, buffer = seed.view(raw), torch.empty(count, dtype=raw, device=self.machine.name)
        for at in range(0, count, seed.numel()):
            part = buffer[at:at + seed.numel()]
            part.copy_(seed[:part.numel()])
        return buffer.view(self.dtypes[dtype])

    @staticmethod
    def cold_bytes(point):
        """Bytes of the operands that are not in the cache when a model makes the call: weights, KV cache."""
        family, sizes = point[0], point[1:]
        if family == "gemm":
            return sizes[1] * sizes[2] * BYTES[sizes[3]]
        if family == "attention_decode":
            return 4 * sizes[0] * sizes[1] * sizes[3] * sizes[4]
        return int(moved(point)) if family in ("copy", "norm") else 0

    def variants(self, point):
        """Ways to make the calls of a point, best first: (name, maker). A maker takes a number of cold operand sets."""
        family, npu = point[0], self.npu
        if family == "gemm":
            return [("mm" if BYTES[point[4]] > 1 else f"{point[4]}_mm", lambda sets: self.gemm(sets, *point[1:]))]
        if family == "copy":
            return [("copy", lambda sets: [lambda a=a, b=b: b.copy_(a) for a, b in self.copies(sets, point[1])])]
        if family == "norm":
            names = ["npu_rms_norm"] if hasattr(npu, "npu_rms_norm") else ["layer_norm"]
        elif family == "all_reduce":
            names = [self.machine.collective]
        elif family == "attention_prefill":
            names = ["npu_fused_infer_attention_score", "npu_prompt_flash_attention"] if npu else []
            names += ["sdpa_gqa", "sdpa_repeated_kv", "sdpa_unfused"]
        else:
            names = ["npu_fused_infer_attention_score"] if npu else []
            names += ["sdpa", "sdpa_unfused"]
        make = getattr(self, family)
        return [(name, lambda sets, name=name: make(sets, name, *point[1:])) for name in names]

    def gemm(self, sets, m, n, k, dtype):
        torch, npu = self.torch, self.npu
        ((a,),) = self.random("bf16" if BYTES[dtype] == 1 else dtype, [(m, k)])
        if BYTES[dtype] > 1:
            weights, out = self.random(dtype, [(n, k)], sets, "cold"), self.empty(m, n, dtype=dtype)
            return [lambda w=w: torch.mm(a, w.t(), out=out) for (w,) in weights]
        if dtype == "fp8":
            if self.dtypes["fp8"] is None or not hasattr(torch, "_scaled_mm"):
                raise NotImplementedError("this PyTorch has no torch._scaled_mm for float8_e4m3fn")
            one, fp8 = torch.ones((), device=self.machine.name), self.dtypes["fp8"]

            def call(w):
                x = a.to(fp8)  # one kernel, as with a static scale per tensor
                torch._scaled_mm(x, w.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16, use_fast_accum=True)

            return [lambda w=w: call(w) for (w,) in self.random(dtype, [(n, k)], sets, "cold")]
        if not hasattr(npu, "npu_quant_matmul"):
            raise NotImplementedError("int8 needs torch_npu.npu_quant_matmul")
        scale = torch.ones(n, device=self.machine.name)

        def call(w):
            x, scales = npu.npu_dynamic_quant(a)
            npu.npu_quant_matmul(x, w, scale, pertoken_scale=scales, output_dtype=torch.bfloat16)

        return [lambda w=w: call(w) for (w,) in self.random(dtype, [(k, n)], sets, "cold")]

    def copies(self, sets, size):
        count = max(size // 4, 1)
        return self.random("bf16", [(count,), (count,)], sets, "cold")

    def norm(self, sets, name, tokens, hidden):
        groups = self.random("bf16", [(tokens, hidden)], sets, "cold")
        if name == "npu_rms_norm":
            gain = self.empty(hidden).fill_(1)
            return [lambda x=x: self.npu.npu_rms_norm(x, gain, 1e-6) for (x,) in groups]
        return [lambda x=x: self.functional.layer_norm(x, (hidden,)) for (x,) in groups]

    def all_reduce(self, _sets, _name, size):
        buffer = self.empty(max(size // 2, 1)).zero_()
        return [lambda: self.torch.distributed.all_reduce(buffer)]

    def sdpa(self, name, q, k, v, causal):
        if name == "sdpa_unfused" and self.machine.kind == "cuda":
            self.torch.backends.cuda.enable_math_sdp(True)
        try:
            gqa = {"enable_gqa": True} if k.shape[1] != q.shape[1] else {}
            return self.functional.scaled_dot_product_attention(q, k, v, is_causal=causal, **gqa)
        finally:
            if name == "sdpa_unfused" and self.machine.kind == "cuda":
                self.torch.backends.cuda.enable_math_sdp(False)

    def attention_prefill(self, _sets, name, batch, seq_len, q_heads, kv_heads, head_dim, dtype):
        shapes = [(batch, q_heads, seq_len, head_dim)] + [(batch, kv_heads, seq_len, head_dim)] * 2
        ((q, k, v),) = self.random(dtype, shapes)
        if name == "sdpa_repeated_kv":
            self.require(2 * q.numel() * BYTES[dtype])
            k, v = (x.repeat_interleave(q_heads // kv_heads, 1) for x in (k, v))
        if not name.startswith("npu"):
            return [lambda: self.sdpa(name, q, k, v, True)]
        if self.causal is None:  # the operators' compressed form of a causal mask
            ones = self.torch.ones(2048, 2048, dtype=self.torch.bool, device=self.machine.name)
            self.causal = self.torch.triu(ones, 1)
        scale = {"scale": head_dim**-0.5} if "infer" in name else {"scale_value": head_dim**-0.5, "next_tokens": 0}
        operator = getattr(self.npu, name)
        return [lambda: operator(q, k, v, num_heads=q_heads, num_key_value_heads=kv_heads, input_layout="BNSD",
                                 sparse_mode=2, atten_mask=self.causal, **scale)]

    def attention_decode(self, sets, name, batch, kv_len, q_heads, kv_heads, head_dim, dtype):
        caches = self.random(dtype, [(batch, kv_heads, kv_len, head_dim)] * 2, sets, "cold")
        # A group's query heads share a KV head, so that they may stand as the queries of one head.
        ((q,),) = self.random(dtype, [(batch, kv_heads, q_heads // kv_heads, head_dim)])
        if not name.startswith("npu"):
            return [lambda k=k, v=v: self.sdpa(name, q, k, v, False) for k, v in caches]
        q, operator = q.view(batch, q_heads, 1, head_dim), getattr(self.npu, name)
        return [lambda k=k, v=v: operator(q, k, v, num_heads=q_heads, num_key_value_heads=kv_heads,
                                          input_layout="BNSD", scale=head_dim**-0.5) for k, v in caches]
