"""Makes a table in Markdown of the runs that benches/http.sh has written down.

table.py FILE.csv

Rates count whole answers only. MiB/s and processor time per request count bytes, those of answers that the end cut
off as well: with large bodies and many connections that is a good part of them.
"""

import csv
import sys
from collections import defaultdict
from collections.abc import Callable
from math import isfinite
from pathlib import Path
from statistics import median
from typing import TypeAlias

OURS = "http_raw"
ERRORS = ("connect", "read", "write", "timeout", "status")

Run: TypeAlias = dict[str, str]
Cell: TypeAlias = tuple[int, int]


def rate(run: Run) -> float:
    return int(run["requests"]) / int(run["window_us"]) * 1e6


def throughput(run: Run) -> float:
    return int(run["bytes"]) / int(run["window_us"]) * 1e6 / (1 << 20)


def cpu(run: Run) -> float:
    """Microseconds per request."""
    answers = int(run["bytes"]) / int(run["length"])
    return int(run["cpu_us"]) / answers if answers else float("inf")


def latency(name: str) -> Callable[[Run], float]:
    """Milliseconds; wrk writes 0 where it has seen no whole answer."""
    return lambda run: float(run[name]) / 1e3 if int(run["requests"]) else float("nan")


def peak(run: Run) -> float:
    """MiB."""
    return int(run["peak_kib"]) / (1 << 10)


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def spread(runs: list[Run], of: Callable[[Run], float]) -> str:
    values = [value for run in runs if isfinite(value := of(run))]
    if not values:
        return "none"
    return f"{number(median(values))} ({number(min(values))} to {number(max(values))})"


def errors(runs: list[Run]) -> str:
    sums = {name: sum(int(run[name]) for run in runs) for name in ERRORS}
    return ", ".join(f"{count} {name}" for name, count in sums.items() if count) or "none"


def row(cell: Cell, server: str, runs: list[Run]) -> str:
    measures = [rate, throughput, latency("p50_us"), latency("p99_us"), cpu, peak]
    values = [f"{cell[0]:,}", f"{cell[1]:,}", server, *(spread(runs, of) for of in measures), errors(runs)]
    return f"| {' | '.join(values)} |"


def ratios(servers: dict[str, list[Run]], of: Callable[[Run], float], best: Callable[..., float]) -> str:
    """Ours to the best of the others, round by round: machines drift."""
    others = defaultdict(list)
    for run in (run for server, runs in servers.items() if server != OURS for run in runs):
        others[run["round"]].append(of(run))
    pairs = [(of(run), best(others[run["round"]])) for run in servers[OURS] if others[run["round"]]]
    values = [ours / other for ours, other in pairs if isfinite(ours) and isfinite(other) and other]
    return f"{median(values):.3g} ({min(values):.3g} to {max(values):.3g})" if values else "none"


def main() -> None:
    cells: dict[Cell, dict[str, list[Run]]] = defaultdict(lambda: defaultdict(list))
    with Path(sys.argv[1]).open(encoding="utf-8", newline="") as file:
        for run in csv.DictReader(file):
            cells[int(run["body"]), int(run["connections"])][run["server"]].append(run)
    print(
        "| body B | connections | server | requests/s | MiB/s | p50 ms | p99 ms | CPU µs/request | peak MiB | errors |"
    )
    print("|--:|--:|---|--:|--:|--:|--:|--:|--:|---|")
    for cell, servers in cells.items():
        for server, runs in servers.items():
            print(row(cell, server, runs))
    if all(OURS in servers and len(servers) > 1 for servers in cells.values()):
        print(f"\n| body B | connections | rate, {OURS} to the best other | CPU, {OURS} to the best other |")
        print("|--:|--:|--:|--:|")
        for (body, connections), servers in cells.items():
            print(
                f"| {body:,} | {connections:,} | {ratios(servers, rate, max)} | {ratios(servers, cpu, min)} |"
            )


if __name__ == "__main__":
    main()
