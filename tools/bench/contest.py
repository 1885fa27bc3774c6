"""Contestants in processes of their own, timed in turn.

SPDX-FileCopyrightText: The fewstep authors
SPDX-License-Identifier: Apache-2.0
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
TOLERANCE = 1e-4  # |a - b| <= TOLERANCE |a|, theta and rate each


TICKS = os.sysconf("SC_CLK_TCK")
DISTURBED = 0.1  # Share of the machine that others use.


def busy_seconds():
    """Processor time used by everybody since the machine started."""
    user, nice, system, _, _, irq, softirq, steal = map(
        int, open("/proc/stat").readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / TICKS


class Failure(Exception):
    pass


class Process:
    """A worker.py or engine_bench --serve, on `threads` processors."""

    def __init__(self, command, threads, log):
        env = dict(os.environ, OMP_NUM_THREADS=str(threads),
                   OPENBLAS_NUM_THREADS=str(threads))
        processors = sorted(os.sched_getaffinity(0))[:threads]
        self.log = log
        with open(log, "w") as err:
            self.process = subprocess.Popen(
                [str(c) for c in command], stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=err, text=True, env=env,
                preexec_fn=lambda: os.sched_setaffinity(0, processors))
        self.facts = self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            tail = pathlib.Path(self.log).read_text().strip().splitlines()
            why = tail[-1] if tail else f"status {self.process.returncode}"
            raise Failure(f"{why} (see {self.log})")
        answer = json.loads(line)
        self.peak_mb = answer.get("peak_mb", 0.0)
        return answer

    def ask(self, line):
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # answer() says why.
        return self.answer()

    def seconds(self, n):
        """Of one meta-step, from `n` of them."""
        return self.ask(f"time {n}")["seconds"] / n

    def processor_seconds(self):
        """That this process has used."""
        stat = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text()
        fields = stat.rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def measure(self, n, pause=0.05):
        """(seconds of a meta-step, share of the machine's processor time that
        others used meanwhile), after `pause` s in which idle threads go to
        sleep."""
        time.sleep(pause)
        busy, own, start = (busy_seconds(), self.processor_seconds(),
                            time.perf_counter())
        seconds = self.seconds(n)
        wall = time.perf_counter() - start
        others = busy_seconds() - busy - (self.processor_seconds() - own)
        return seconds, max(0.0, others) / (wall * os.cpu_count())

    def gradient(self, path, batch):
        self.ask(f"gradient {path} {batch}")
        with np.load(path) as arrays:
            return dict(arrays)

    def quit(self):
        try:
            self.process.stdin.write("quit\n")
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        self.process.wait()


def worker(kind, args, threads, log):
    return Process([sys.executable, HERE / "worker.py", kind, *args,
                    "--threads", threads], threads, log)


def difference(a, b):
    """Largest |a - b| / |a| of what both learn: theta, rate."""
    if a.keys() != b.keys():
        raise Failure(f"learned: {sorted(a)} against {sorted(b)}")
    worst = 0.0
    for key in a:
        x, y = a[key].astype(np.float64), b[key].astype(np.float64)
        if x.shape != y.shape:
            raise Failure(f"{key}: {x.shape} against {y.shape}")
        d = np.linalg.norm(x - y) / np.linalg.norm(x)
        worst = max(worst, d if np.isfinite(d) else np.inf)
    return worst


def check(ours, theirs, tolerance=TOLERANCE):
    """The difference on the first meta-batch where it is small enough.

    ours: list of meta-gradients, a meta-batch each; theirs(batch): one. A relu
    whose input is within rounding of 0 may fall on either side, and one of
    them near the end of the network moves the meta-gradient by more than the
    tolerance. That is luck, and another meta-batch has other luck; a mistake
    shows in all of them.
    """
    seen = []
    for batch, gradient in enumerate(ours):
        seen.append(difference(gradient, theirs(batch)))
        if seen[-1] <= tolerance:
            return seen
    raise Failure("the meta-gradient differs from fewstep's on every one of "
                  f"{len(seen)} meta-batches, by {min(seen):.1e} relative or "
                  f"more (allowed: {tolerance:g}); not timed")


def steps_for(process, seconds, give_up=float("inf"), most=100000):
    """Meta-steps that take about `seconds`, and the seconds of one, the least
    of a few (of one, where that is more than `give_up`); warms up."""
    process.seconds(1)
    once = process.seconds(1)
    if once > give_up:
        return 1, once
    n = min(most, max(1, round(seconds / once)))
    for _ in range(3 if once < 1.0 else 1):
        once = min(once, process.seconds(max(1, n // 3)))
    return min(most, max(1, round(seconds / once))), once


class Rounds:
    """Times of ours and of peers, in turn: ours runs between any two peers, so
    whatever else the machine does hits both."""

    def __init__(self, ours, peers):
        """ours: (process, steps); peers: {name: (process, steps)}."""
        self.ours, self.peers = ours, peers
        self.our_times = []  # (seconds, share of the machine others used)
        self.triples = {name: [] for name in peers}  # ours, peer, ours

    def run(self, n_rounds):
        for _ in range(n_rounds):
            before = self.ours[0].measure(self.ours[1])
            self.our_times.append(before)
            for name, (process, n) in self.peers.items():
                theirs = process.measure(n)
                after = self.ours[0].measure(self.ours[1])
                self.our_times.append(after)
                self.triples[name].append((before, theirs, after))
                before = after

    def quiet(self, name):
        """The peer's triples that others did not disturb; if there are fewer
        than three, all."""
        all_of_them = self.triples[name]
        good = [t for t in all_of_them
                if max(others for _, others in t) < DISTURBED]
        return good if len(good) >= 3 else all_of_them

    def ratio(self, name):
        """Of peer / mean of ours before and after: median, least, most."""
        quiet = self.quiet(name)
        values = [t[0] / ((a[0] + b[0]) / 2) for a, t, b in quiet]
        disturbed = any(others >= DISTURBED for t in quiet for _, others in t)
        return dict(median=statistics.median(values), least=min(values),
                    most=max(values), rounds=len(values),
                    disturbed=disturbed)

    def times_of(self, name=None):
        """Seconds of a meta-step: median, fastest, slowest."""
        pairs = (self.our_times if name is None else
                 [t for _, t, _ in self.quiet(name)])
        good = [s for s, others in pairs if others < DISTURBED]
        return summary(good if len(good) >= 3 else [s for s, _ in pairs])

    def others(self):
        """Median share of the machine that others used."""
        shares = [o for _, o in self.our_times]
        shares += [t[1][1] for ts in self.triples.values() for t in ts]
        return statistics.median(shares)


def summary(times):
    return dict(median=statistics.median(times), fastest=min(times),
                slowest=max(times))


def machine():
    """What a number is worth nothing without."""
    facts = {}
    for line in open("/proc/cpuinfo"):
        if line.startswith("model name"):
            facts["processor"] = line.split(":", 1)[1].strip()
            break
    facts["processors"] = len(os.sched_getaffinity(0))
    facts["kernel"] = os.uname().release
    facts["load_before"] = os.getloadavg()[0]
    flags = next((l for l in open("/proc/cpuinfo") if l.startswith("flags")),
                 "").split()
    facts["vector"] = [f for f in ("avx2", "fma", "avx512f") if f in flags]
    return facts
