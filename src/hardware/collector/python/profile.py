def write_file(path, text):
    part = f"{path}.part"
    with open(part, "w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def table_text(family, rows):
    """A table in the order archplan writes it; all-reduce worlds ascend."""
    order = list(BYTES)

    def place(row):
        sizes = row["point"][1:]
        lead = [row["world"]] if family == "all_reduce" else []
        return lead + [order.index(x) if x in BYTES else x for x in sizes]

    header = ("world", "bytes", "backend") if family == "all_reduce" else COLUMNS[family]
    lines = [",".join((*header, "latency_us", "spread_percent"))]
    for row in sorted(rows, key=place):
        cells = [row["world"], row["point"][1], "nccl"] if family == "all_reduce" else row["point"][1:]
        lines.append(",".join([*map(str, cells), f"{row['latency_us']:.9g}", f"{row['spread_percent']:.3g}"]))
    return "\n".join(lines) + "\n"


def elementwise_rule(rows, gbps):
    """launch_us + bytes / (efficiency x bandwidth) by least squares of relative errors, and the factor that holds 90 %."""
    pairs = [(moved(row["point"]), row["latency_us"]) for row in rows if row["point"][0] in ("copy", "norm")]
    weight = [(1 / t, x / t) for x, t in pairs]
    aa, ab, bb = (sum(u * v for u, v in cells) for cells in
                  ([(a, a) for a, _ in weight], weight, [(b, b) for _, b in weight]))
    a, b = sum(u for u, _ in weight), sum(v for _, v in weight)
    determinant = aa * bb - ab * ab
    launch, slope = ((a * bb - b * ab) / determinant, (b * aa - a * ab) / determinant) if determinant > 1e-12 * aa * bb else (0, 0)
    if launch <= 0 or slope <= 0:  # the rows cannot tell the two apart: half of the fastest row is taken for the launch
        launch = min(t for _, t in pairs) / 2
        slope = sum((t - launch) / t * (x / t) for x, t in pairs) / bb
    efficiency = min(1.0, 1e-3 / (slope * gbps))
    errors = sorted(abs(math.log(t / (launch + x * 1e-3 / (efficiency * gbps)))) for x, t in pairs)
    factor = math.exp(errors[min(len(errors) - 1, math.ceil(0.9 * len(errors)))])
    return launch, efficiency, max(factor, 1.05), len(pairs)


def quoted(text):
    return json.dumps("".join(c for c in str(text) if c.isprintable()), ensure_ascii=False)


def known_device(name):
    return next((sheet for sheet in SETTINGS["datasheets"] if name in sheet["names"]), None)


def device_facts(header, rows, typed):
    """What [device] says: typed facts first, then a data sheet, then what was found or measured."""
    sheet, sources = known_device(header["device"]) or {}, []
    best = collections.defaultdict(float)
    for row in rows:
        point, seconds = row["point"], row["latency_us"] * 1e-6
        if flops(point):
            dtype = point[4] if point[0] == "gemm" else "bf16"
            best[dtype] = max(best[dtype], flops(point) / seconds / 1e12)
        elif point[0] == "all_reduce":
            best["link"] = max(best["link"], 2 * (row["world"] - 1) / row["world"] * point[1] / seconds / 1e9)
        elif point[0] == "copy":
            best["memory"] = max(best["memory"], moved(point) / seconds / 1e9)

    def fact(key, *others):
        for value, source in ((typed.get(key), "typed"), (sheet.get(key), "sheet"), *others):
            if value:
                sources.append((key, source))
                return value
        return None

    dtypes = sorted({row["point"][-1] for row in rows if row["point"][0] in TABLES[:3]} | {"bf16"}, key=list(BYTES).index)
    lowest = min((best[dtype] for dtype in BYTES if best[dtype]), default=1e-3)
    facts = {f"{d}_tflops": fact(f"{d}_tflops", (best[d], "measured"), (lowest, "assumed")) for d in dtypes}
    facts["hbm_gib"] = fact("hbm_gib", (header["memory_bytes"] / 2**30, "found"))
    facts["hbm_gbps"] = fact("hbm_gbps", (best["memory"], "measured"))
    facts["l2_mib"] = fact("l2_mib", (header["l2_bytes"] / 2**20, "found"))
    facts["cores"] = int(fact("cores", (header["cores"], "found"), (1, "assumed")))
    facts["interconnect_gbps"] = fact("interconnect_gbps", (best["link"], "measured"), (header["host_gbps"], "host"))
    tile = typed.get("tile") or sheet.get("tile") or SETTINGS["tile"]
    facts["tile"] = tile
    words = {"typed": typed.get("source") or "given by --datasheet", "sheet": sheet.get("source"),
             "measured": "MEASURED: the highest rate that was sustained, not a data sheet's peak",
             "found": "as the system reports it", "host": "rate of copies from the device to its host, for want of a better figure",
             "assumed": "ASSUMED: neither known nor measured"}
    by_source = collections.defaultdict(list)
    for key, source in sources:
        by_source[source].append(key)
    for source in ("measured", "assumed", "host"):
        if by_source.get(source):
            say(f"warning: {', '.join(by_source[source])}: {words[source]}; give what you know with --datasheet KEY=VALUE")
    for dtype in dtypes:
        if best[dtype] > 1.02 * facts[f"{dtype}_tflops"]:
            say(f"warning: {dtype} reached {best[dtype]:.4g} TFLOPS, more than the {facts[f'{dtype}_tflops']:.4g} of its data sheet")
    text = "; ".join(f"{', '.join(keys)}: {words[source]}" for source, keys in by_source.items())
    known = typed.get("tile") or sheet.get("tile")
    return facts, f"{text}; tile: {'as given' if known else 'assumed, a usual one for such devices'}", dtypes


def profile_text(name, header, rows, typed, licence, wanted):
    facts, source, dtypes = device_facts(header, rows, typed)
    number = lambda x: f"{float(x):.6g}" if float(x) < 1e6 else str(int(x))
    lines = [f"# Measured by archplan's collector {SETTINGS['version']}. Keys and units: hardware_profiles/README.md.",
             f"name = {quoted(name)}", "", "[device]", f"name = {quoted(header['device'])}", f"source = {quoted(source)}",
             "peak_tflops = { " + ", ".join(f"{d} = {number(facts[f'{d}_tflops'])}" for d in dtypes) + " }"]
    lines += [f"{key} = {number(facts[key])}" for key in ("hbm_gib", "hbm_gbps", "l2_mib") if facts[key]]
    lines += [f"cores = {facts['cores']}"] + [f"tile_{axis} = {int(x)}" for axis, x in zip("mnk", facts["tile"])]
    lines += [f"interconnect_gbps = {number(facts['interconnect_gbps'])}"]
    libraries = {"torch": header["torch"], **header["libraries"]}
    pairs = ", ".join(f"{quoted(k)} = {quoted(v)}" for k, v in libraries.items())
    lines += ["", "[stack]", 'engine = "torch"', f"engine_version = {quoted(header['torch'])}", f"libraries = {{ {pairs} }}"]
    about = f"measured on {header['device']}" + (f" ({header['clocks']})" if header["clocks"] else "")
    about += f" with {', '.join(f'{k} {v}' for k, v in libraries.items())}; {header['host']}; "
    about += f"medians of {header['repeats']} or more repeats"

    def section(family, provenance, text):
        return ["", f"[tables.{family}]", f'provenance = "{provenance}"', f"source = {quoted(text)}",
                f"licence = {quoted(licence)}", f"date = {header['date']}"]

    for family in TABLES:
        mine = [row for row in rows if row["point"][0] == family]
        if not mine:
            continue
        worlds = len({row["world"] for row in mine}) if family == "all_reduce" else 1
        lines += section(family, "measured", f"{about}; {len(mine)} of {max(len(mine), worlds * wanted[family])} points")
        if family != "all_reduce":
            types = [d for d in BYTES if any(row["point"][-1] == d for row in mine)]
            lines.append(f"dtypes = [{', '.join(map(quoted, types))}]")
        ways = collections.Counter(row["how"] for row in mine)
        lines.append(f"note = {quoted('; '.join(f'{way}: {count} rows' for way, count in sorted(ways.items())))}")
    launch, efficiency, factor, count = elementwise_rule(rows, facts["hbm_gbps"])
    lines += section("elementwise", "estimated", f"fitted to {count} copies and norms, {about}")
    lines += [f"launch_us = {launch:.4g}", f"efficiency = {efficiency:.4g}", f"interval_factor = {factor:.4g}",
              'note = "interval_factor holds 90 % of those copies and norms"']
    return "\n".join(lines) + "\n"


def write_profile(out, name, journal, typed, licence, points):
    rows = list(journal.rows.values())
    if not any(row["point"][0] == "copy" for row in rows):
        say(f"no profile was written: every profile needs the elementwise rule, and no copy has been measured yet; "
            f"start again with --out {out}")
        return False
    for family in TABLES:
        mine, path = [row for row in rows if row["point"][0] == family], os.path.join(out, f"{family}.csv")
        if mine:
            write_file(path, table_text(family, mine))
        elif family != "all_reduce":
            say(f"warning: no row of {family}: the profile is without it")
    wanted = collections.Counter(point[0] for point in points)
    write_file(os.path.join(out, "profile.toml"), profile_text(name, journal.header, rows, typed, licence, wanted))
    return True
