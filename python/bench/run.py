"""Compares asyncio's streams with the native ones, on each loop that is installed, in one interleaved run.

    python run.py --load target/release/millstream-bench [--rounds N] [--window-ms N] [--rows TEXT] [--json FILE] [--check]
    [--quick]

Every server is a process of its own, pinned to one core, up and idle during the whole run; the load is the Rust benchmark's,
pinned to the other. A round measures every server once for each row, and each round begins with another server; ratios are
formed within a round, and medians are taken over the rounds.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import pathlib
import statistics
import subprocess
import sys

LOOPS = ["asyncio", "uvloop", "rloop", "rsloop"]
HERE = pathlib.Path(__file__).parent


class Row:
    """One row of the table: what the servers do, and how they are loaded."""

    def __init__(self, name, work, mode, *arguments, bars=(), fresh=False):
        self.name = name
        self.work = work
        self.mode = mode
        #: Each measurement is of a server that has just started. asyncio's transports allocate 256 KiB for every receive,
        #: which the C library maps and unmaps each time until a connection has ended for the first time: from then on, it
        #: serves them from memory that it keeps, and the same server takes half as long.
        self.fresh = fresh
        self.arguments = [str(argument) for argument in arguments]
        #: (loop, least ratio of the rates, least ratio of the CPU time a unit): the bars of ours against stock.
        self.bars = dict((loop, least) for loop, least in bars)


ROWS = [
    Row("lines, 1 connection", "lines", "depth1", "--connections", 1, bars=[("asyncio", 1.0), ("uvloop", 1.0)]),
    Row(
        "lines, 100 connections, the first of their server",
        *("lines", "depth1", "--connections", 100),
        bars=[("asyncio", 2.0), ("uvloop", 1.5)],
        fresh=True,
    ),
    Row(
        "lines, 100 connections, others before them",
        *("lines", "depth1", "--connections", 100),
        bars=[("asyncio", 2.0), ("uvloop", 1.5)],
    ),
    Row(
        "lines, 50 x 100 outstanding",
        "lines",
        "pipelined",
        *("--connections", 50, "--depth", 100),
        bars=[("asyncio", 12.0), ("uvloop", 12.0)],
    ),
    *(
        Row(
            f"{size // 1024} KiB messages, 20 connections",
            str(size),
            "depth1",
            *("--connections", 20, "--line", size),
            bars=[("asyncio", 1.0), ("uvloop", 1.0)],
        )
        for size in (1024, 10 * 1024, 100 * 1024)
    ),
    Row("bulk", "bulk", "bulk", "--bytes", 256 * 2**20, bars=[("asyncio", 1.5), ("uvloop", 1.5)]),
    Row(
        "TLS: lines, 100 connections",
        *("tls-lines", "tls-depth1", "--connections", 100),
        bars=[("asyncio", 1.0), ("uvloop", 1.0)],
    ),
    Row(
        "TLS: lines, 50 x 100 outstanding",
        *("tls-lines", "tls-pipelined", "--connections", 50, "--depth", 100),
        bars=[("asyncio", 1.0), ("uvloop", 1.0)],
    ),
    Row("TLS: bulk", "tls-bulk", "tls-bulk", "--bytes", 64 * 2**20, bars=[("asyncio", 1.0), ("uvloop", 1.0)]),
]


class Server:
    def __init__(self, streams, loop, work):
        self.streams, self.loop, self.work = streams, loop, work
        self.start()

    def start(self):
        command = [sys.executable, str(HERE / "serve.py"), self.streams, self.loop, self.work, "0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())

    @property
    def name(self):
        return f"{self.streams} on {self.loop}"

    def measure(self, load, row, window_ms):
        """Units a second, and CPU nanoseconds a unit."""
        if row.fresh:
            self.end()
            self.start()
        command = [load, "load", row.mode, "--port", str(self.port), "--pid", str(self.process.pid), "--core", "1"]
        if not row.mode.endswith("bulk"):
            command += ["--window-ms", str(window_ms), "--warm-ms", "100"]
        output = subprocess.run(command + row.arguments, capture_output=True, text=True, check=True)
        # Over TLS there is more behind these.
        units, wall_ns, cpu_ns, waited_ns, p50_ns, p99_ns = map(int, output.stdout.split()[:6])
        return {
            "rate": units / wall_ns * 1e9,
            "cpu": cpu_ns / units,
            "p50": p50_ns,
            "p99": p99_ns,
            "disturbed": waited_ns / wall_ns > 0.05,
        }

    def end(self):
        self.process.terminate()
        self.process.wait()


def servers_of(row):
    for loop in LOOPS:
        if loop != "asyncio" and importlib.util.find_spec(loop) is None:
            continue
        for streams in ("stock", "millstream", "protocol"):
            # The bare protocol shows the floor: what the loop takes that does not even look at what it receives.
            if streams == "protocol" and (loop not in ("asyncio", "uvloop") or row.work not in ("lines", "bulk")):
                continue
            # On other native loops, only their own streams are of interest: which are asyncio's, on their transports.
            if loop in ("rloop", "rsloop") and streams != "stock":
                continue
            # rloop has no TLS.
            if loop == "rloop" and row.work.startswith("tls-"):
                continue
            yield Server(streams, loop, row.work)


def run_row(row, options):
    servers = list(servers_of(row))
    results = {server: [] for server in servers}
    try:
        for number in range(options.rounds):
            turn = number % len(servers)
            for server in servers[turn:] + servers[:turn]:
                results[server].append(server.measure(options.load, row, options.window_ms))
    finally:
        for server in servers:
            server.end()
    stock = {server.loop: results[server] for server in servers if server.streams == "stock"}
    table = []
    for server in servers:
        rounds = results[server]

        def ratio(key, server=server, rounds=rounds):
            return sorted(mine[key] / base[key] for mine, base in zip(rounds, stock[server.loop], strict=True))

        rates, cpus = ratio("rate"), sorted(1 / value for value in ratio("cpu"))
        table.append(
            {
                "server": server.name,
                "rate": statistics.median(one["rate"] for one in rounds),
                "cpu_ns": statistics.median(one["cpu"] for one in rounds),
                "p50_us": statistics.median(one["p50"] for one in rounds) / 1000,
                "p99_us": statistics.median(one["p99"] for one in rounds) / 1000,
                "rate_ratio": [statistics.median(rates), rates[0], rates[-1]],
                "cpu_ratio": [statistics.median(cpus), cpus[0], cpus[-1]],
                "bar": row.bars.get(server.loop) if server.streams == "millstream" else None,
                "disturbed": sum(one["disturbed"] for one in rounds),
            }
        )
    return table


def show(row, table):
    print(f"\n### {row.name}\n")
    print("| server | units/s | x stock | CPU ns a unit | x stock | p50 us | p99 us | bar |")
    print("|---|---|---|---|---|---|---|---|")
    for line in table:
        rate, cpu = ("{:.2f} [{:.2f}..{:.2f}]".format(*line[key]) for key in ("rate_ratio", "cpu_ratio"))
        bar = ""
        if line["bar"] is not None:
            reached = min(line["rate_ratio"][0], line["cpu_ratio"][0]) >= line["bar"]
            bar = f">= {line['bar']:g}: {'reached' if reached else 'NOT reached'}"
        print(
            f"| {line['server']} | {line['rate']:,.0f} | {rate} | {line['cpu_ns']:,.1f} | {cpu} "
            f"| {line['p50_us']:.0f} | {line['p99_us']:.0f} | {bar} |",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--load", required=True, help="the built millstream-bench")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--window-ms", type=int, default=600)
    parser.add_argument("--quick", action="store_true", help="three short rounds: is anything broken?")
    parser.add_argument("--rows", default="", help="only rows with this in their name")
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--check", action="store_true", help="status 1 if a bar is missed")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.window_ms = 3, 200
    print(f"CPython {sys.version.split()[0]}, {options.rounds} rounds of {options.window_ms} ms")
    report, missed = {}, False
    for row in (row for row in ROWS if options.rows in row.name):
        table = run_row(row, options)
        show(row, table)
        report[row.name] = table
        missed |= any(
            line["bar"] is not None and min(line["rate_ratio"][0], line["cpu_ratio"][0]) < line["bar"] for line in table
        )
    disturbed = sum(line["disturbed"] for table in report.values() for line in table)
    measured = options.rounds * sum(len(table) for table in report.values())
    print(f"\n{disturbed} of {measured} measurements were disturbed by something else on the machine.")
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))
    return int(missed and options.check)


if __name__ == "__main__":
    sys.exit(main())
