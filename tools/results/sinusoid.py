#!/usr/bin/env python3
"""Meta-trains every preset on the sinusoids, evaluates it on test tasks and
prints one table: error, capsule, memory and work of an adaptation.

    tools/results/sinusoid.py --fewstep build/tools/fewstep --out runs/sinusoid

Resumable: what is in --out is not done again, so it may be interrupted, and
run again with more seeds. A run of other settings has another name. Options:

    --benchmarks  freq-5s 5s 10s (see BENCHMARKS)
    --only TEXT   methods whose name holds TEXT
    --steps       numbers of steps; default all
    --seeds       of meta-training; default 1 2 3
    --iterations  of meta-training; default 60000
    --tasks       test tasks; default 10000, the same ones for every method
    --table       only print what is done, train nothing
    --jobs        runs at a time, a thread each; default: the cores

SPDX-FileCopyrightText: The fewstep authors
SPDX-License-Identifier: Apache-2.0
"""
import argparse
import concurrent.futures
import hashlib
import json
import os
import pathlib
import statistics
import subprocess
import sys

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]

# What is measured: recipe, title, published figures.
BENCHMARKS = {
    "freq-5s": (
        "sinusoid_freq-maml-5s",
        "Amplitude, frequency and phase drawn (family `meta_sgd`), 5 examples",
        "published, 1 step: MAML 1.13 +- 0.18, Meta-SGD 0.90 +- 0.16; 3 steps: "
        "MAML++ 0.34 +- 0.01",
    ),
    "5s": (
        "sinusoid-maml-5s",
        "Amplitude and phase drawn (family `maml`), 5 examples",
        "published, 1 step: MAML 0.69 +- 0.07, Meta-SGD 0.48 +- 0.06, "
        "Meta-Curvature 0.41 +- 0.05",
    ),
    "10s": (
        "sinusoid-maml-10s",
        "Amplitude and phase drawn (family `maml`), 10 examples",
        "published, 1 step: MAML 0.44 +- 0.04, Meta-SGD 0.26 +- 0.03, "
        "Meta-Curvature 0.20 +- 0.02",
    ),
}

# Inner rates: fixed ones are tuned (on validation tasks, 10,000 iterations of
# the family `maml`, 10 examples), learned ones start there. Learned rates of
# several steps have an outer rate of their own: one outer step of 3e-3 is larger
# than they are, and the inner loop explodes.
OUTER = {"outer.rate": 3e-3}


def learned(rule_rate):
    return {**OUTER, "outer.rule_rate": rule_rate}


METHODS = [
    # preset, steps, settings
    ("maml", 1, {"inner.rate": 0.01, **OUTER}),
    ("maml", 5, {"inner.rate": 0.003, **OUTER}),
    ("fomaml", 1, {"inner.rate": 0.01, **OUTER}),
    ("fomaml", 5, {"inner.rate": 0.003, **OUTER}),
    ("reptile", 5, {"inner.rate": 0.001, "outer.rate": 1e-2}),
    ("meta_sgd", 1, {"inner.rate": 0.01, **OUTER}),
    ("meta_sgd", 5, {"inner.rate": 0.002, **learned(1e-4)}),
    ("maml_lslr", 1, {"inner.rate": 0.01, **OUTER}),
    ("maml_lslr", 5, {"inner.rate": 0.002, **learned(1e-4)}),
    ("maml_plus_plus", 3, {"inner.rate": 0.003, **learned(3e-4)}),
    ("maml_plus_plus", 5, {"inner.rate": 0.002, **learned(1e-4)}),
]

# Rates among which training from scratch chooses, on tasks of another seed.
SCRATCH_RATES = [0.0003, 0.001, 0.003, 0.01, 0.03]
SCRATCH_STEPS = [1, 5, 100]


class Runner:
    def __init__(self, options):
        self.fewstep = str(pathlib.Path(options.fewstep).resolve())
        self.out = pathlib.Path(options.out)
        self.tasks = options.tasks
        self.table_only = options.table
        self.out.mkdir(parents=True, exist_ok=True)

    def call(self, *arguments):
        done = subprocess.run([self.fewstep, *map(str, arguments)],
                              capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(done.stderr.strip())
        return done.stdout

    def cached(self, key, make):
        """make() once; its JSON in a file whose name says all it depends on."""
        digest = hashlib.sha256(key.encode()).hexdigest()[:12]
        path = self.out / f"{key.split()[0]}-{digest}.json"
        if not path.exists() and self.table_only:
            raise RuntimeError("not done")
        if not path.exists():
            result = make(self.out / f"{key.split()[0]}-{digest}")
            result["key"] = key
            scratch = path.with_suffix(".tmp")
            scratch.write_text(json.dumps(result, indent=1))
            scratch.rename(path)
        return json.loads(path.read_text())

    def train_and_judge(self, benchmark, name, settings, seed, test_seed=1):
        """Trains, evaluates, inspects."""
        recipe = (REPOSITORY / "tools/recipes" /
                  f"{BENCHMARKS[benchmark][0]}.toml")
        sets = []
        for k, v in settings.items():
            sets += ["--set", f"{k}={v}"]
        text = " ".join(sets[1::2])
        key = (f"{benchmark}-{name}-s{seed} {text} tasks={self.tasks} "
               f"test_seed={test_seed}")

        def make(folder):
            resume = ["--resume"] if (folder / "checkpoint.npz").exists() else []
            capsule = self.call(
                "train", recipe, "--quiet", "--out", folder, *resume, *sets,
                "--set", f"seed={seed}", "--set", "run.threads=1").strip()
            scores = json.loads(self.call(
                "eval", capsule, "--recipe", recipe, *sets, "--set",
                "run.threads=1", "--tasks", self.tasks, "--seed", test_seed,
                "--json"))
            facts = json.loads(self.call("inspect", capsule, "--json"))
            steps = facts["limits"]["steps"]
            arenas = [a["bytes"] for a in facts["arena"]]
            return {
                "mse": scores["loss"]["mean"],
                "ci95": scores["loss"]["ci95"],
                "before": scores["loss_before"]["mean"],
                "diverged": scores["diverged"],
                "steps": steps,
                "capsule": pathlib.Path(capsule).stat().st_size,
                "ram_small": min(arenas),
                "ram_fast": max(arenas),
                "multiply_adds": facts["multiply_adds"]["per_step"] * steps,
            }

        return self.cached(key, make)


def rows(options):
    """(benchmark, label, steps, settings)."""
    for benchmark in options.benchmarks:
        for preset, steps, settings in METHODS:
            yield benchmark, preset, steps, {
                "preset": preset, "inner.steps": steps,
                "outer.iterations": options.iterations, **settings}
        # A network trained on all tasks at once, which a step of rate 0 leaves
        # as it is.
        yield benchmark, "control: one network for all tasks", 0, {
            "preset": "maml", "inner.steps": 1, "inner.rate": 0.0,
            "outer.iterations": options.iterations, **OUTER}


def scratch_settings(steps, rate):
    # One iteration of rate 0 leaves the random initialization.
    return {"preset": "maml", "inner.steps": steps, "inner.rate": rate,
            "outer.iterations": 1, "outer.rate": 0.0,
            "run.validate_every": 0, "inner.order": 1}


def from_scratch(runner, benchmark, steps, seeds):
    """Training a random network on the support set at its best rate, which is
    chosen on test tasks of another seed."""
    def name(rate):
        return f"scratch-k{steps}-{rate}"

    def score(rate):
        try:
            r = runner.train_and_judge(benchmark, name(rate),
                                       scratch_settings(steps, rate), 100, 2)
        except RuntimeError:  # Diverged.
            return float("inf")
        return r["mse"] if r["diverged"] == 0 else float("inf")

    scores = {rate: score(rate) for rate in SCRATCH_RATES}
    best = min(scores, key=scores.get)
    if scores[best] == float("inf"):
        return None
    return best, [runner.train_and_judge(
        benchmark, name(best), scratch_settings(steps, best), s) for s in seeds]


def line(label, steps, results):
    mse = [r["mse"] for r in results]
    mean = statistics.mean(mse)
    # A few tasks on which the steps explode are all of a mean.
    error = f"{mean:.3f}" if mean < 100 else f"{mean:.0e}"
    if len(mse) > 1 and mean < 100:
        error += f" +- {statistics.stdev(mse):.3f}"
    r = results[0]
    diverged = sum(x["diverged"] for x in results)
    note = f", {diverged} diverged" if diverged else ""
    adapts = steps > 0
    return (f"| {label} | {steps} | {error}{note} ({len(mse)}) "
            f"| {statistics.mean([x['before'] for x in results]):.2f} "
            f"| {r['capsule']:,} | "
            + (f"{r['ram_small']:,} | {r['multiply_adds']:,} |"
               if adapts else "0 | 0 |"))


def main():
    parser = argparse.ArgumentParser(
        description="Train, evaluate and tabulate every preset.")
    parser.add_argument("--fewstep", default="build/tools/fewstep")
    parser.add_argument("--out", default="runs/sinusoid")
    parser.add_argument("--benchmarks", nargs="+", default=list(BENCHMARKS),
                        choices=list(BENCHMARKS))
    parser.add_argument("--only", default="")
    parser.add_argument("--steps", nargs="+", type=int)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--iterations", type=int, default=60000)
    parser.add_argument("--tasks", type=int, default=10000)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    options = parser.parse_args()
    runner = Runner(options)

    wanted = [r for r in rows(options) if options.only in r[1]
              and (options.steps is None or r[2] in options.steps)]
    failed = []
    results = {}
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        # Seed by seed, so that an interrupted table has all methods.
        futures = {}
        for seed in options.seeds:
            for i, (benchmark, label, steps, settings) in enumerate(wanted):
                name = label.split(":")[0] + f"-k{steps}"
                futures[pool.submit(runner.train_and_judge, benchmark, name,
                                    settings, seed)] = (i, seed)
        for future in concurrent.futures.as_completed(futures):
            i, seed = futures[future]
            what = f"{wanted[i][0]} {wanted[i][1]} K={wanted[i][2]} seed {seed}"
            try:
                results.setdefault(i, {})[seed] = future.result()
                if not options.table:
                    print(f"{what}: {future.result()['mse']:.4f}",
                          file=sys.stderr)
            except RuntimeError as error:
                failed.append(f"{what}: {error}")
                if not options.table:
                    print(failed[-1], file=sys.stderr)

    for benchmark in options.benchmarks:
        _, title, published = BENCHMARKS[benchmark]
        print(f"\n### {title}\n\n{options.iterations:,} iterations of 25 tasks; "
              f"mean squared error over {options.tasks:,} test tasks, mean +- "
              f"sd over the meta-training\nseeds (their number); "
              f"{published}\n")
        print("| method | steps | error | error before | capsule, B | RAM, B | "
              "multiply-adds |")
        print("|---|---|---|---|---|---|---|")
        for i, (b, label, steps, _) in enumerate(wanted):
            if b == benchmark and i in results:
                print(line(label, steps, [results[i][s]
                                          for s in sorted(results[i])]))
        if options.only in "control: from scratch":
            for steps in SCRATCH_STEPS:
                if options.steps is not None and steps not in options.steps:
                    continue
                try:
                    found = from_scratch(runner, benchmark, steps, options.seeds)
                except RuntimeError as error:
                    failed.append(f"{benchmark} from scratch: {error}")
                    continue
                if found is not None:
                    print(line(f"control: from scratch, rate {found[0]}", steps,
                               found[1]))
    if failed and not options.table:
        sys.exit("failed:\n" + "\n".join(failed))


if __name__ == "__main__":
    main()
