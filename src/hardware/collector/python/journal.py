def key_of(point, world):
    return ",".join(map(str, point)) + (f",world={world}" if point[0] == "all_reduce" else "")


class Journal:
    """OUT/collector.jsonl: one line a measurement, on disk before the next one starts."""

    def __init__(self, path, header, restart=False):
        self.path, self.rows, self.begun, self.skipped = path, {}, collections.Counter(), {}
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        if restart and os.path.exists(path):
            os.replace(path, path + ".old")
        self.header = self.load(header)
        self.file = open(path, "ab")
        if self.header is None:
            self.header = header
            self.append({"header": header})

    def load(self, header):
        if not os.path.exists(self.path):
            return None
        with open(self.path, "rb") as file:
            text = file.read()
        whole = text.rfind(b"\n") + 1
        if whole < len(text):  # the last line was being written when the program ended
            os.truncate(self.path, whole)
        found = None
        for number, line in enumerate(text[:whole].splitlines(), 1):
            try:
                entry = json.loads(line)
                if "header" in entry:
                    found = entry["header"]
                elif "begin" in entry:
                    self.begun[entry["begin"]] += 1
                elif "stopped" in entry:
                    self.begun[entry["stopped"]] -= 1
                else:
                    key = key_of(entry["point"], entry.get("world"))
                    self.begun.pop(key, None)
                    (self.skipped if "skip" in entry else self.rows)[key] = entry
            except (ValueError, KeyError, TypeError):
                say(f"{self.path}:{number}: not a line of ours, passed over")
        for what in ("device", "torch"):
            if found and found.get(what) != header.get(what):
                raise BadInput(f"{self.path} was measured with {what} {found.get(what)!r}, this is {header.get(what)!r}: "
                               "give another --out, or --restart to measure anew")
        return found

    def append(self, entry, sync=True):
        self.file.write((json.dumps(entry, allow_nan=False) + "\n").encode())
        self.file.flush()
        if sync and self.path != os.devnull:  # where processes but the first write
            os.fsync(self.file.fileno())

    def begin(self, key):
        self.append({"begin": key}, sync=False)

    def stopped(self, key):
        """The point that was begun is to be tried again."""
        self.append({"stopped": key}, sync=False)

    def add(self, entry):
        key = key_of(entry["point"], entry.get("world"))
        (self.skipped if "skip" in entry else self.rows)[key] = entry
        self.append(entry)
