"""What a call costs: this service beside others on the same work, in one run. `make bench`.

    python bench/bench_run.py                      all peers at 1, 20, 60, 120 and 240 calls
    python bench/bench_run.py --calls 60,120 --peers ours,node-batched --seconds 5
    python bench/bench_run.py --quick              20 and 60 calls, 4 s each
    python bench/bench_run.py --publish            a full run, for the README
    python bench/bench_run.py --ramp               where the service's end is
    python bench/bench_run.py --profile --calls 60 where its time goes, by function

Each case starts the peer anew, with one worker, plays so many calls to it at the pace of real ones
and takes its CPU time, user and system. Machines differ and are shared: trust the ratios, which
are of one run, in which the peers take turns at each number of calls. Loopback only; it ends by
itself, by default in under a quarter of an hour.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

BENCH = Path(__file__).resolve().parent
sys.path.insert(0, str(BENCH.parent))  # so that it is started from anywhere

import bench_plot  # noqa: E402  # after the line above, as all below
import bench_profile  # noqa: E402
import bench_ramp  # noqa: E402
import bench_report  # noqa: E402
from bench_case import Case, CaseFailed, Google, Timing, measure  # noqa: E402
from bench_peers import OURS, PEERS, PeerFailed  # noqa: E402
from bench_report import Results  # noqa: E402

CALLS = (1, 20, 60, 120, 240)
QUICK_CALLS = (20, 60)
QUICK_SECONDS, RAMP_SECONDS = 4.0, 5.0
PROFILED_CALLS = 60


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="What a call costs, beside other servers on the same work.",
        epilog="example: python bench/bench_run.py --calls 60,120 --peers ours,node-batched",
    )
    add = parser.add_argument
    add("--calls", type=_counts, help=f"numbers of calls ({','.join(map(str, CALLS))})")
    add("--peers", type=_peers, help=f"of {', '.join(PEERS)} (all; with --ramp: ours)")
    add("--seconds", type=float, help="measured of each case (10; at least 1)")
    add("--out", type=Path, help="folder of the results (bench/out)")
    add("--quick", action="store_true", help="20 and 60 calls, 4 s each")
    add("--setting", type=_setting, action="append", default=[], metavar="NAME=VALUE",
        help="of the service's environment, for example STT_BATCH_MS=20")  # fmt: skip
    add("--publish", action="store_true", help="show it: out is bench/measured, and README's table")
    add("--native", action="store_true", help="with --profile: C functions too, and waiting")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--ramp", action="store_true", help="find how many calls are too many")
    what.add_argument("--profile", action="store_true", help="by function; the service only")
    options = parser.parse_args(arguments)
    if options.seconds is not None and options.seconds < 1:
        parser.error("--seconds: at least 1")
    if options.publish and (options.out or options.ramp or options.profile):
        parser.error("--publish: goes with none of --out, --ramp and --profile")
    options.out = options.out or BENCH / ("measured" if options.publish else "out")
    return options


def compare(options: argparse.Namespace, google: Google) -> int:
    """All cases, saved after each; exit code 1 if one of ours could not be measured."""
    timing = _timing(options, QUICK_SECONDS if options.quick else 10.0)
    names = options.peers or list(PEERS)
    results = Results(machine(), asdict(timing), OURS, {n: PEERS[n].title for n in names})
    over: set[str] = set()
    for calls in options.calls or (QUICK_CALLS if options.quick else CALLS):
        for name in names:
            key = f"{name}, {calls}"
            reason = "fewer were too many already" if name in over else PEERS[name].missing
            if reason is None:
                reason = _add(options, google, results, name, calls, timing)
                case = results.case(name, calls)
                # Of a case in doubt nobody knows whose fault it was
                if case and not case.carried and not case.doubts and name != OURS:
                    over.add(name)
            if reason is not None:
                results.left_out[key] = reason
                print(f"{calls:4} calls  {PEERS[name].title:38} left out: {reason}", flush=True)
            save(results, options.out)
    if options.publish:
        publish(results)
    print(f"\n{bench_report.page(results)}\nin {options.out}: results.json, results.md, cpu.png")
    return int(any(key.startswith(f"{OURS},") for key in results.left_out))


def _add(
    options: argparse.Namespace,
    google: Google,
    results: Results,
    name: str,
    calls: int,
    timing: Timing,
) -> str | None:
    """Measure a case; why it could not be."""
    try:
        case = _measure(options, google, name, calls, timing)
    except (CaseFailed, PeerFailed) as fault:
        return str(fault)
    results.cases.append(case)
    print(bench_report.line(case, PEERS[name].title), flush=True)
    return None


def save(results: Results, folder: Path) -> None:
    """Write the three files."""
    record = json.dumps(results.to_json(), indent=1, ensure_ascii=False)
    (folder / "results.json").write_text(record + "\n")
    (folder / "results.md").write_text(bench_report.page(results))
    bench_plot.draw(results, folder / "cpu.png")


def ramp(options: argparse.Namespace, google: Google) -> int:
    """The knee of each peer."""
    timing = _timing(options, RAMP_SECONDS)
    knees: dict[str, str] = {}
    for name in options.peers or [OURS]:
        title = PEERS[name].title

        def tell(case: Case, title: str = title) -> None:
            print(bench_report.line(case, title), flush=True)

        def at(calls: int, name: str = name) -> Case:
            return _measure(options, google, name, calls, timing)

        knee = bench_ramp.find_knee(at, tell)
        knees[name] = str(knee)
        print(f"{title}: the end is {knee}", flush=True)
    record = {"machine": machine(), "knees": knees}
    (options.out / "ramp.json").write_text(json.dumps(record, indent=1) + "\n")
    return 0


def profile(options: argparse.Namespace, google: Google) -> int:
    """The service's profile at the first of --calls."""
    [calls, *_] = options.calls or (PROFILED_CALLS,)
    file = options.out / f"profile-{calls}.raw"
    timing = _timing(options, 10.0)
    seen = bench_profile.record(
        PEERS[OURS],
        calls,
        google,
        options.out / "ours.log",
        timing,
        file,
        dict(options.setting),
        native=options.native,
    )
    print(f"{bench_profile.tables(seen)}\n\nthe stacks are in {file}")
    return 0


def publish(results: Results) -> None:
    """Show the results in the README."""
    readme = BENCH.parent / "README.md"
    readme.write_text(bench_report.shown_in(readme.read_text(), results))


def machine() -> dict[str, str]:
    """What it was measured on."""
    cpu = Path("/proc/cpuinfo").read_text()
    models = [row.partition(":")[2].strip() for row in cpu.splitlines() if "model name" in row]
    node = shutil.which("node")
    found = {"CPU": f"{len(models)} × {models[0]}" if models else platform.machine()}
    found["Python"] = platform.python_version()
    if node is not None:
        version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True)
        found["Node"] = version.stdout.strip().lstrip("v")
    return found


def _measure(
    options: argparse.Namespace, google: Google, name: str, calls: int, timing: Timing
) -> Case:
    settings = dict(options.setting) if name == OURS else None
    return measure(PEERS[name], calls, google, options.out / f"{name}.log", timing, settings)


def _timing(options: argparse.Namespace, seconds: float) -> Timing:
    window = options.seconds or seconds
    return Timing(warm=min(2.0, window), window=window, probe=max(2.0, min(4.0, window)))


def _counts(text: str) -> list[int]:
    counts = [int(one) for one in text.split(",")]
    if not all(0 < one <= bench_ramp.MOST_CALLS for one in counts):
        raise argparse.ArgumentTypeError(f"calls are from 1 to {bench_ramp.MOST_CALLS}")
    return counts


def _peers(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in PEERS]:
        raise argparse.ArgumentTypeError(f"no peer {unknown[0]}: there are {', '.join(PEERS)}")
    return names


def _setting(text: str) -> tuple[str, str]:
    name, given, value = text.partition("=")
    if not given:
        raise argparse.ArgumentTypeError("write NAME=VALUE")
    return name, value


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    for old in options.out.glob("*.log"):
        old.unlink()
    do: Callable[[argparse.Namespace, Google], int] = compare
    if options.ramp or options.profile:
        do = ramp if options.ramp else profile
    try:
        with Google() as google:
            return do(options, google)
    except (CaseFailed, PeerFailed) as fault:
        print(f"bench: {fault}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
