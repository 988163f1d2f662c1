def spread_of(samples):
    """Robust standard deviation as a share of the median."""
    middle = statistics.median(samples)
    return 1.4826 * statistics.median(abs(x - middle) for x in samples) / middle if middle > 0 else 0.0


class Meter:
    """Times points on one machine."""

    def __init__(self, kernels, repeats, agree=None):
        self.kernels, self.machine, self.repeats = kernels, kernels.machine, repeats
        # With several devices the slowest counts, and all must make the same calls.
        self.agree = agree or (lambda value: value)

    def once(self, call):
        self.machine.synchronize()
        start = time.perf_counter()
        call()
        self.machine.synchronize()
        return time.perf_counter() - start

    def open(self, point):
        """The first variant that runs: its name, its maker, and roughly how long a call takes."""
        reasons = []
        for name, make in self.kernels.variants(point):
            try:
                call = make(1)[0]
                seconds = self.agree(self.once(call))
                if seconds < 0.5:  # the first call pays for set-up
                    seconds = self.agree(min(self.once(call), self.once(call)))
                return name, make, seconds
            except (NotImplementedError, RuntimeError, TypeError, AttributeError) as error:
                if no_room(error):
                    raise
                reasons.append(f"{name}: {(str(error) or type(error).__name__).splitlines()[0][:160]}")
        raise RuntimeError("; ".join(reasons))

    def measure(self, point):
        """The point's row; a second try with all memory given back where the first found too little."""
        for last in (False, True):
            try:
                return self.row(point)
            except (NoRoom, RuntimeError) as error:
                if not isinstance(error, NoRoom) and not no_room(error):
                    raise
                if last or not self.kernels.buffers:
                    raise NoRoom(str(error).splitlines()[0][:200])
            self.kernels.buffers.clear()
            self.machine.release()

    def row(self, point):
        name, make, rough = self.open(point)
        # With launches by the host the rough time includes them; a graph run may then be shorter than meant.
        calls = max(1, min(MOST_CALLS, math.ceil(self.machine.unit_s / max(rough, 1e-7))))
        cold = self.kernels.cold_bytes(point)
        sets = min(calls, 1 + FLUSH * self.kernels.cache_bytes // cold) if cold else 1
        if cold:
            self.kernels.require(cold)  # for one set at least
            sets = max(1, min(sets, int(0.5 * self.machine.free_bytes() // cold)))
        made = make(sets)
        run, how = self.machine.prepare([made[i % len(made)] for i in range(calls)])
        run()
        self.machine.synchronize()
        samples = []
        while True:
            samples.append(self.agree(self.machine.seconds(run, self.kernels.flush) / calls))
            count, enough = len(samples), self.repeats
            if count >= 3 * enough or (count >= enough and count % enough == 0 and spread_of(samples) <= NOISY):
                break
            if count >= enough and rough * calls > 0.2:
                break
        latency, spread = statistics.median(samples), spread_of(samples)
        if not (math.isfinite(latency) and latency > 0 and math.isfinite(spread)):
            raise RuntimeError(f"the clock gave {latency} s")
        return {"point": list(point), "latency_us": float(f"{latency * 1e6:.9g}"), "spread_percent": float(f"{spread * 100:.3g}"),
                "repeats": len(samples), "calls": calls, "how": f"{name}, {how}"}
