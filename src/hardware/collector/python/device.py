def output_of(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def file_text(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


class Cpu:
    """The host's cores. Timed by the host's clock."""

    kind, unit_s, collective = "cpu", 5e-3, "gloo"

    def __init__(self, torch, _rank=0):
        self.torch, self.name = torch, "cpu"

    def synchronize(self):
        pass

    def free_bytes(self):
        found = re.search(r"MemAvailable:\s+(\d+) kB", file_text("/proc/meminfo"))
        return int(found.group(1)) * 1024 if found else self.total_bytes() // 2

    def total_bytes(self):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

    def release(self):
        pass

    def prepare(self, calls):
        """The calls as one function, and how it runs."""

        def run():
            for call in calls:
                call()

        return run, "loop"

    def seconds(self, run, flush):
        flush()
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    def facts(self):
        model = re.search(r"model name\s*:\s*(.+)", file_text("/proc/cpuinfo"))
        clock = re.search(r"cpu MHz\s*:\s*([\d.]+)", file_text("/proc/cpuinfo"))
        cache = re.match(r"(\d+)([KM]?)", file_text("/sys/devices/system/cpu/cpu0/cache/index3/size"))
        l2 = int(cache.group(1)) * {"": 1, "K": 1024, "M": 1 << 20}[cache.group(2)] if cache else 0
        threads = self.torch.get_num_threads()
        name = model.group(1).strip() if model else platform.processor() or platform.machine()
        return {"device": f"{name}, {threads} threads", "cores": threads, "l2_bytes": l2,
                "clocks": f"{float(clock.group(1)):.0f} MHz" if clock else "", "libraries": {}}


class Accelerator:
    """A CUDA or Ascend device. Runs are captured as one graph and timed by the device's events."""

    unit_s = 1e-3

    def __init__(self, torch, kind, module, index=0, name=None):
        self.torch, self.kind, self.module = torch, kind, module
        self.name = name or f"{kind}:{index}"
        self.index = index
        self.collective = {"cuda": "nccl", "npu": "hccl"}[kind]
        self.graph = getattr(module, "CUDAGraph", None) or getattr(module, "NPUGraph", None)
        self.why_eager = "" if self.graph else "this torch has no graphs"

    def synchronize(self):
        self.module.synchronize()

    def free_bytes(self):
        free = self.module.mem_get_info()[0]
        return free + self.module.memory_reserved() - self.module.memory_allocated()

    def total_bytes(self):
        return self.module.mem_get_info()[1]

    def release(self):
        self.module.synchronize()
        self.module.empty_cache()

    def prepare(self, calls):
        def loop():
            for call in calls:
                call()

        # Libraries allocate workspaces on their first calls, which must not happen during capture.
        side = self.module.Stream()
        side.wait_stream(self.module.current_stream())
        with self.module.stream(side):
            calls[0]()
            calls[-1]()
        self.module.current_stream().wait_stream(side)
        self.synchronize()
        if self.graph:
            try:
                graph = self.graph()
                with self.module.graph(graph):
                    loop()
                self.synchronize()
                return graph.replay, "graph"
            except RuntimeError as error:
                if no_room(error):
                    raise
                if not self.why_eager:
                    self.why_eager = str(error).splitlines()[0][:200]
                    say(f"note: a call cannot be captured in a graph, so launches by the host count: {self.why_eager}")
                self.synchronize()
        return loop, "eager"

    def seconds(self, run, flush):
        start = self.module.Event(enable_timing=True)
        end = self.module.Event(enable_timing=True)
        flush()  # the device is busy with this while the host launches what follows
        start.record()
        run()
        end.record()
        self.synchronize()
        return start.elapsed_time(end) * 1e-3

    def facts(self):
        found = self.module.get_device_properties(self.index)
        cores = getattr(found, "multi_processor_count", 0) or getattr(found, "cube_core_num", 0)
        facts = {"device": getattr(found, "name", "") or self.module.get_device_name(self.index), "cores": cores,
                 "l2_bytes": getattr(found, "L2_cache_size", 0), "clocks": "", "libraries": {}}
        if self.kind == "cuda":
            key = str(getattr(found, "uuid", "") or self.index)
            key = key if key.isdigit() or key.startswith("GPU-") else f"GPU-{key}"
            query = "driver_version,power.limit,clocks.max.sm,clocks.max.mem,clocks.sm"
            line = output_of("nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader", "-i", key)
            cells = [cell.strip() for cell in line.split(",")]
            if len(cells) == 5:
                facts["libraries"]["driver"] = cells[0]
                facts["clocks"] = f"power limit {cells[1]}, clocks up to {cells[2]} (SM) and {cells[3]} (memory), {cells[4]} at the start"
            runtime = getattr(self.torch.version, "cuda", None) or getattr(self.torch.version, "hip", None)
            facts["libraries"].update({"cuda": str(runtime)} if runtime else {})
        else:
            version = re.search(r"npu-smi\s+([\w.]+)", output_of("npu-smi", "info"))
            facts["libraries"].update({"npu-smi": version.group(1)} if version else {})
            power = re.search(r"Power[^\d\n]*([\d.]+)", output_of("npu-smi", "info", "-t", "power", "-i", str(self.index)))
            facts["clocks"] = f"{power.group(1)} W at the start" if power else ""
            npu = sys.modules.get("torch_npu")
            facts["libraries"].update({"torch_npu": npu.__version__} if npu else {})
        return facts


def open_device(kind, torch, index):
    if kind == "cpu":
        return Cpu(torch)
    if kind == "npu":
        try:
            import torch_npu  # noqa: F401  (makes torch.npu)
        except ImportError as error:
            raise BadInput(f"--device npu needs torch_npu: {error}")
    module = getattr(torch, kind)
    if not module.is_available():
        raise BadInput(f"this PyTorch ({torch.__version__}) finds no {kind} device")
    module.set_device(index)
    return Accelerator(torch, kind, module, index)
