class Group:
    """The processes torchrun started: the first one decides and writes."""

    def __init__(self, torch, machine, world, rank):
        self.world, self.rank, self.machine, self.dist, self.torch = world, rank, machine, torch.distributed, torch
        self.dist.init_process_group(machine.collective)

    def slowest(self, value):
        cell = self.torch.tensor([value], dtype=self.torch.float32, device=self.machine.name)
        self.dist.all_reduce(cell, op=self.dist.ReduceOp.MAX)
        return float(cell.item())

    def tell(self, value):
        """What the first process says, in JSON: PyTorch's own way to send objects needs numpy."""
        text = list(json.dumps(value).encode()) if self.rank == 0 else []
        cell = self.torch.tensor([len(text)], device=self.machine.name)
        self.dist.broadcast(cell, 0)
        room = self.torch.zeros(int(cell.item()), dtype=self.torch.uint8)
        cell = (self.torch.tensor(text, dtype=self.torch.uint8) if self.rank == 0 else room).to(self.machine.name)
        self.dist.broadcast(cell, 0)
        return json.loads(bytes(cell.tolist()))


def duration(text):
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(s|min|m|h)", text.strip())
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is no time with its unit, such as 90s, 30m or 2h")
    return float(match.group(1)) * {"s": 1, "m": 60, "min": 60, "h": 3600}[match.group(2)]


def sheet_entry(text):
    key, _, value = text.partition("=")
    numbers = [f"{d}_tflops" for d in BYTES] + ["hbm_gib", "hbm_gbps", "l2_mib", "cores", "interconnect_gbps"]
    try:
        if key == "source" and value:
            return key, value
        if key == "tile" and len(value.split("x")) == 3 and all(int(x) > 0 for x in value.split("x")):
            return key, [int(x) for x in value.split("x")]
        if key in numbers and 0 < float(value) < 1e9:
            return key, float(value)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r}: expected {', '.join(k + '=NUMBER' for k in numbers)}, tile=MxNxK or source=TEXT")


def arguments(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--out", default="measured", metavar="DIR", help="profile to write; its last part names it [default: %(default)s]")
    add("--device", choices=("cuda", "npu", "cpu"), default=SETTINGS["device"], help="[default: %(default)s]")
    add("--budget", type=duration, default=SETTINGS["budget_s"], metavar="TIME", help="stop in time, such as 90s, 30m or 2h")
    add("--points", metavar="FILE",
        help="points to measure instead of the built-in ones: a JSON list of lists, or CSV such as gemm,1,4096,4096,bf16")
    add("--list-points", action="store_true", help="print the points, coarsest first, and stop")
    add("--datasheet", type=sheet_entry, action="append", default=[], metavar="KEY=VALUE",
        help="a fact of the device, such as bf16_tflops=362 or hbm_gbps=864; repeatable")
    add("--licence", default="measured by you; choose a licence", help="of the rows")
    add("--repeats", type=int, default=7, metavar="N", help="of each point, 5 at least [default: %(default)s]")
    add("--threads", type=int, metavar="N", help="of the host, with --device cpu [default: PyTorch's choice]")
    add("--restart", action="store_true", help="measure anew; the old measurements are kept as collector.jsonl.old")
    args = parser.parse_args(argv)
    if args.repeats < 5 or (args.threads is not None and args.threads < 1):
        parser.error("--repeats must be 5 at least, --threads 1 at least")
    args.name = os.path.basename(os.path.abspath(args.out))
    if not re.fullmatch(r"[a-z0-9_]+", args.name):
        parser.error(f"--out ends in {args.name!r}: a profile's name is made of lower-case letters, digits and underscores")
    return args


def host_gbps(torch, machine):
    """Rate of copies from the device to its host; on the host itself that of its memory."""
    source = torch.empty(1 << 25, dtype=torch.int8, device=machine.name)
    target = torch.empty(1 << 25, dtype=torch.int8, pin_memory=machine.kind == "cuda")
    times = []
    for _ in range(6):
        machine.synchronize()
        start = time.perf_counter()
        target.copy_(source)
        machine.synchronize()
        times.append(time.perf_counter() - start)
    return float(f"{(1 << 25) / statistics.median(times[1:]) / 1e9:.4g}")


def header_of(args, torch, machine):
    facts = machine.facts()
    sheet = known_device(facts["device"]) or {}
    facts["l2_bytes"] = facts["l2_bytes"] or int(sheet.get("l2_mib", 0) * 2**20)
    model = Cpu(torch).facts() if machine.kind != "cpu" else facts
    host = f"host {platform.node()}, {platform.system()} {platform.release()}, {os.cpu_count()} CPUs, Python {platform.python_version()}"
    host += f", {model['device']}" if machine.kind != "cpu" else f", {torch.backends.cpu.get_cpu_capability()}"
    return {**facts, "torch": torch.__version__, "memory_bytes": machine.total_bytes(), "host": host,
            "host_gbps": host_gbps(torch, machine), "repeats": args.repeats, "date": datetime.date.today().isoformat(),
            "collector": SETTINGS["version"]}


class Run:
    """Goes through the points until they are done or the time is."""

    def __init__(self, args, points, journal, meter, group):
        self.args, self.points, self.journal, self.meter, self.group = args, points, journal, meter, group
        self.world = group.world if group else 1
        self.start, self.told, self.failed, self.seen = time.monotonic(), 0.0, 0, []
        self.done = self.left = 0

    def expected_s(self, point):
        """Time the point may take, from the point of its family with the most similar work; 0 before any was seen."""
        work = lambda p: math.log(flops(p) + 10 * moved(p))
        like = [(abs(work(p) - work(point)), work(p), latency) for p, latency, _ in self.seen if p[0] == point[0]]
        if not like:
            return 0.0
        _, near, latency = min(like)
        overhead = statistics.median(spent for _, _, spent in self.seen[-20:])
        return overhead + (self.args.repeats + 4) * latency * math.exp(max(0.0, work(point) - near))

    def remaining_s(self):
        return math.inf if self.args.budget is None else self.args.budget - (time.monotonic() - self.start)

    def wanted(self, point):
        key = key_of(point, self.world)
        if key in self.journal.rows or key in self.journal.skipped:
            return False
        if self.journal.begun[key] >= 2:
            self.journal.add({"point": list(point), "world": self.world, "skip": "the program ended twice during this point"})
            return False
        return True

    def progress(self, point, text, force=False):
        now = time.monotonic()
        if not force and now - self.told < 1.0:
            return
        self.told, past = now, now - self.start
        rest = past / max(self.done, 1) * (len(self.todo) - self.done)
        ends = f"about {min(rest, self.remaining_s()) / 60:.1f} min left" if self.done > 4 else ""
        say(f"[{100 * self.done // max(len(self.todo), 1):3d} %] {self.done}/{len(self.todo)}  {','.join(map(str, point))}  {text}  {ends}")

    def go(self):
        self.todo = [p for p in self.points if self.wanted(p)] if self.group is None or self.group.rank == 0 else []
        if self.group:
            self.todo = [tuple(point) for point in self.group.tell(self.todo)]
        for dtype in sorted({p[4] for p in self.todo if p[0] == "gemm"}):
            try:
                self.meter.open(("gemm", 32, 256, 256, dtype))
            except (NoRoom, RuntimeError) as error:
                say(f"{dtype} is left out of gemm: {str(error)[:300]}")
                self.todo = [p for p in self.todo if p[0] != "gemm" or p[4] != dtype]
        for point in self.todo:
            fits = self.remaining_s() > self.expected_s(point)
            if self.group:
                fits = self.group.tell(fits)
            if not fits:
                self.left += 1
                continue
            self.one(point)
            self.done += 1
            if self.failed >= FAILURES:
                raise RuntimeError(f"{FAILURES} points in a row failed; the device may be in a bad state: start again to go on")

    def one(self, point):
        begun, writes, key = time.monotonic(), self.group is None or self.group.rank == 0, key_of(point, self.world)
        world = {"world": self.world} if point[0] == "all_reduce" else {}
        if writes:
            self.journal.begin(key)
        try:
            row = {**self.meter.measure(point), **world}
            self.failed, text = 0, f"{row['latency_us']:.4g} us, spread {row['spread_percent']:.2g} %"
            self.seen.append((point, row["latency_us"] * 1e-6, time.monotonic() - begun))
        except NoRoom as error:
            row, text = {"point": list(point), **world, "skip": f"no room: {error}"}, f"skipped: {error}"
        except (RuntimeError, NotImplementedError) as error:
            self.failed += 1
            self.journal.stopped(key)
            row, text = None, f"failed, to be tried again at the next start: {str(error)[:300]}"
        except KeyboardInterrupt:
            self.journal.stopped(key)
            raise
        if writes:
            if row:
                self.journal.add(row)
            self.progress(point, text, force=row is None or "skip" in row)


def interrupt(*_):
    raise KeyboardInterrupt


def main(argv=None):
    args = arguments(argv)
    points = read_points(args.points) if args.points else [check_point(p, "built-in points") for p in SETTINGS["points"]]
    if args.list_points:
        print("\n".join(",".join(map(str, point)) for point in points))
        return 0
    warnings.filterwarnings("ignore", message="Failed to initialize NumPy")
    try:
        import torch
    except ImportError as error:
        raise BadInput(f"PyTorch is needed: {error}")
    if args.threads:
        torch.set_num_threads(args.threads)
    world, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    machine = open_device(args.device, torch, int(os.environ.get("LOCAL_RANK", "0")))
    group = Group(torch, machine, world, rank) if world > 1 else None
    listed = points
    points = [point for point in points if (point[0] == "all_reduce") == (world > 1)]
    header = header_of(args, torch, machine)
    path = os.path.join(args.out, "collector.jsonl") if rank == 0 else os.devnull
    journal = Journal(path, header, args.restart and rank == 0)
    signal.signal(signal.SIGTERM, interrupt)
    kernels = Kernels(torch, machine, header["l2_bytes"] or 64 << 20)
    run, code = Run(args, points, journal, Meter(kernels, args.repeats, group and group.slowest), group), 0
    try:
        with torch.inference_mode():
            run.go()
    except KeyboardInterrupt:
        say("stopped; start again with the same --out to go on")
        code = 130
    except RuntimeError as error:
        say(f"error: {error}")
        code = 1
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if rank == 0:
        have = sum(key_of(p, world) in journal.rows for p in points)
        skipped = sum(key_of(p, world) in journal.skipped for p in points)
        if write_profile(args.out, args.name, journal, dict(args.datasheet), args.licence, listed):
            say(f"{args.out}: {have} of {len(points)} points measured ({100 * have // max(len(points), 1)} %), {skipped} skipped, "
                f"{run.left} left for want of time; check it with: archplan profiles check {args.out}")
        else:
            code = code or 1
    if group:
        group.dist.destroy_process_group()
    return code


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BadInput as error:
        say(f"error: {error}")
        sys.exit(2)
