"""The comparison: run by bench.sh, which builds what this runs.

SPDX-FileCopyrightText: The fewstep authors
SPDX-License-Identifier: Apache-2.0
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

import numpy as np

import cases
import contest
from contest import Failure, Process


class Bench:
    def __init__(self, args):
        self.build = args.build.resolve()
        self.threads = args.threads
        self.quick = args.quick
        self.work = args.build.resolve() / "work"
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)
        self.failures = []
        self.result = {"machine": contest.machine(), "threads": self.threads,
                       "quick": self.quick, "cases": {}}

    def fail(self, text):
        self.failures.append(text)
        print(f"  FAILED {text}")

    def engine(self, recipe, threads, log):
        return Process([self.build / "tools/bench/engine_bench", recipe,
                        "--serve"], threads, log)

    def prepare(self, case):
        """The case's folder: arrays, and recipes for each use."""
        folder = self.work / case.name
        folder.mkdir()
        theta, rate = case.initial()
        np.savez(folder / "initial.npz", theta=theta, rate=rate)
        np.savez(folder / "episodes.npz", **case.episodes())
        (folder / "case.json").write_text(case.to_json())

        def write(name, **changes):
            options = dict(source=folder / "episodes.npz",
                           init=folder / "initial.npz", threads=self.threads)
            options.update(changes)
            (folder / name).write_text(case.recipe(**options))

        write("timed.toml")
        write("one_thread.toml", threads=1)
        write("sgd.toml", optimizer="sgd", rate=1.0, iterations=1)
        return folder

    def our_gradients(self, case, folder):
        """Of some meta-batches, from what is timed; the command line has to
        say the same."""
        process = self.engine(folder / "timed.toml", self.threads,
                              folder / "fewstep-gradient.log")
        ours = [process.gradient(folder / "fewstep.npz", batch)
                for batch in range(min(case.n_batches, 8))]
        process.quit()
        run = folder / "run"
        done = subprocess.run(
            [self.build / "tools/fewstep", "train", folder / "sgd.toml",
             "--out", run, "--quiet"], capture_output=True, text=True)
        if done.returncode != 0:
            raise Failure(f"fewstep train: {done.stderr.strip()}")
        with np.load(folder / "initial.npz") as a, \
                np.load(run / "checkpoint.npz") as b:
            stepped = {k: a[k].astype(np.float64) - b[k]
                       for k in ours[0]}
        try:
            contest.check(ours[:1], lambda _: stepped)
        except Failure as failure:
            raise Failure(f"fewstep train: {failure}")
        return ours

    def choose(self, case, folder, ours):
        """{peer: (process, steps)}: each peer's fastest variant whose
        meta-gradient is right; facts about all of them."""
        lister = contest.worker("list", [folder], self.threads,
                                folder / "list.log")
        chosen, facts = {}, {}
        for peer, variants in lister.facts["peers"].items():
            best = None
            facts[peer] = {"variants": {}}
            for kind, variant in variants:
                log = folder / f"{kind}-{variant.replace(':', '-')}.log"
                row = facts[peer]["variants"].setdefault(variant, {})
                try:
                    process = contest.worker(kind, [folder, variant],
                                             self.threads, log)
                    row["differences"] = contest.check(
                        ours, lambda batch: process.gradient(
                            folder / f"{kind}.npz", batch))
                    n, once = contest.steps_for(
                        process, self.seconds,
                        2.0 * best[2] if best else float("inf"))
                except Failure as failure:
                    row["error"] = str(failure)
                    self.fail(f"{case.name}: {peer} ({variant}): {failure}")
                    continue
                row["ms_alone"] = once * 1e3
                if best is None or once < best[2]:
                    if best is not None:
                        best[0].quit()
                    best = (process, n, once, variant)
                else:
                    process.quit()
            if best is not None:
                chosen[peer] = best[:2]
                facts[peer]["variant"] = best[3]
        lister.quit()
        return chosen, facts, lister.facts["notes"]

    def compare(self, case):
        self.seconds = 0.15 if self.quick else 0.4
        n_rounds = 3 if self.quick else 7
        start = time.time()
        print(f"\n{case.title}; {self.threads} thread(s)", flush=True)
        folder = self.prepare(case)
        gradients = self.our_gradients(case, folder)
        chosen, facts, notes = self.choose(case, folder, gradients)
        engine = self.engine(folder / "timed.toml", self.threads,
                             folder / "fewstep.log")
        n, _ = contest.steps_for(engine, self.seconds)
        sgemm = contest.worker("sgemm", [], self.threads,
                               folder / "sgemm.log")
        rates = []
        rounds = contest.Rounds((engine, n), chosen)
        for _ in range(n_rounds):
            rates.append(sgemm.ask("time"))
            rounds.run(1)
        best_rate = statistics.median(r["gflops"] for r in rates)
        ceiling = max(rates, key=lambda r: r["gflops"])

        row = dict(engine.facts)
        ours = rounds.times_of()
        row.update(
            ms_per_step={k: v * 1e3 for k, v in ours.items()},
            tasks_per_s=case.tasks / ours["median"],
            gflops=2e-9 * row["multiply_adds"] / ours["median"],
            sgemm_gflops=best_rate, sgemm=ceiling,
            others_used=rounds.others(),
            peak_mb=engine.peak_mb, notes=notes, peers={})
        row["share_of_sgemm"] = row["gflops"] / best_rate
        for name in chosen:
            theirs = rounds.times_of(name)
            facts[name].update(
                ms_per_step={k: v * 1e3 for k, v in theirs.items()},
                tasks_per_s=case.tasks / theirs["median"],
                times_slower=rounds.ratio(name),
                peak_mb=chosen[name][0].peak_mb)
        row["peers"] = facts
        for process in [engine, sgemm] + [p for p, _ in chosen.values()]:
            process.quit()
        row["seconds"] = time.time() - start
        self.result["cases"][case.name] = row
        self.print_case(row)

    @staticmethod
    def print_case(row):
        def line(name, ms, tasks, ratio, gflops, peak, variant=""):
            print(f"  {name:<20}{ms:>12.3f}{tasks:>12,.0f}{ratio:>20}"
                  f"{gflops:>9.1f}{peak:>9.0f}  {variant}")

        print(f"  {'':<20}{'ms/meta-step':>12}{'tasks/s':>12}"
              f"{'fewstep faster by':>20}{'GFLOP/s':>9}{'peak MB':>9}"
              "  fastest variant")
        line("fewstep", row["ms_per_step"]["median"], row["tasks_per_s"], "",
             row["gflops"], row["peak_mb"])
        for name, peer in row["peers"].items():
            if "ms_per_step" not in peer:
                print(f"  {name:<20}no timing: see above")
                continue
            r = peer["times_slower"]
            ms = peer["ms_per_step"]["median"]
            line(name, ms, peer["tasks_per_s"],
                 f"{r['median']:.1f} ({r['least']:.1f}-{r['most']:.1f})" +
                 ("?" if r["disturbed"] else ""),
                 2e-6 * row["multiply_adds"] / ms, peer["peak_mb"],
                 peer["variant"])
        differences = [v["differences"][-1] for p in row["peers"].values()
                       for v in p["variants"].values() if "differences" in v]
        print(f"  sgemm: {row['sgemm_gflops']:.1f} GFLOP/s "
              f"({row['sgemm']['library']}, n = {row['sgemm']['size']}); "
              f"fewstep at {100 * row['share_of_sgemm']:.0f} % of it; "
              f"meta-gradients differ by <= {max(differences or [0]):.1e}")
        if row["others_used"] >= contest.DISTURBED:
            print(f"  other programs used {100 * row['others_used']:.0f} % of "
                  "the machine meanwhile; a ? marks what they disturbed")
        for note in row["notes"]:
            print(f"  {note}")
        sys.stdout.flush()

    def scaling(self):
        """Conv4-64 with one and with two threads; memory of `train`."""
        case = cases.conv4(64)
        if not (self.work / case.name).exists():
            self.prepare(case)
        folder = self.work / case.name
        print(f"\n{case.title}; 1 and 2 threads", flush=True)
        row = {}
        if len(os.sched_getaffinity(0)) < 2:
            print("  not run: this machine has one processor")
        else:
            (folder / "two_threads.toml").write_text(
                (folder / "one_thread.toml").read_text().replace(
                    "threads = 1\n", "threads = 2\n"))
            one = self.engine(folder / "one_thread.toml", 1,
                              folder / "one.log")
            two = self.engine(folder / "two_threads.toml", 2,
                              folder / "two.log")
            n1, _ = contest.steps_for(one, 0.3)
            n2, _ = contest.steps_for(two, 0.3)
            rounds = contest.Rounds((two, n2), {"one": (one, n1)})
            rounds.run(3 if self.quick else 7)
            row["two_threads_faster"] = rounds.ratio("one")
            row["ms_two"] = 1e3 * rounds.times_of()["median"]
            row["ms_one"] = 1e3 * rounds.times_of("one")["median"]
            row["others_used"] = rounds.others()
            one.quit()
            two.quit()
            r = row["two_threads_faster"]
            print(f"  1 thread {row['ms_one']:.1f} ms, 2 threads "
                  f"{row['ms_two']:.1f} ms: {r['median']:.2f} x "
                  f"({r['least']:.2f}-{r['most']:.2f})")
        row["train_peak_mb"] = self.train_memory(folder)
        print(f"  peak memory of `fewstep train`, 2 iterations: "
              f"{row['train_peak_mb']:.0f} MB", flush=True)
        self.result["scaling"] = row

    def train_memory(self, folder):
        """Peak resident memory of a `fewstep train` process, in MB."""
        log = folder / "memory.log"
        with open(log, "w") as out:
            process = subprocess.Popen(
                [self.build / "tools/fewstep", "train",
                 folder / "timed.toml", "--out", folder / "memory",
                 "--set", "outer.iterations=2", "--quiet"],
                stdout=out, stderr=out)
            _, status, usage = os.wait4(process.pid, 0)
        if status != 0:
            raise Failure(f"fewstep train: see {log}")
        return usage.ru_maxrss * 1024 / 1e6


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", action="append")
    parser.add_argument("--commit", default="unknown")
    args = parser.parse_args()
    bench = Bench(args)
    bench.result["commit"] = args.commit
    facts = bench.result["machine"]
    print(f"{facts['processor']}, {facts['processors']} processors, "
          f"{' '.join(facts['vector'])}; load {facts['load_before']:.1f}; "
          f"fewstep at {args.commit}")
    if facts["load_before"] > 0.5:
        print("note: something else runs here; ratios of runs in turn stand "
              "this better than times do")
    for name in args.only:
        try:
            if name == "scaling":
                bench.scaling()
            else:
                bench.compare(cases.CASES[name]())
        except Failure as failure:
            bench.fail(f"{name}: {failure}")
    bench.result["machine"]["load_after"] = os.getloadavg()[0]
    bench.result["failures"] = bench.failures
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(bench.result, indent=1) + "\n")
    print(f"\nwritten: {args.out}")
    if bench.failures:
        print(f"{len(bench.failures)} failed:")
        for text in bench.failures:
            print(f"  {text}")
        sys.exit(1)


if __name__ == "__main__":
    main()
