#!/usr/bin/env python3
"""Meta-trains every method on the sinusoids and on Omniglot, evaluates it on
test tasks and prints a table for each: score, capsule, memory and work of an
adaptation.

    tools/results/results.py --fewstep build/tools/fewstep --out runs/results

Resumable: what is in --out is not done again, so it may be interrupted, and
run again with more seeds. A run of other settings has another name. Options:

    --benchmarks  freq-5s 5s 10s omniglot (see BENCHMARKS; omniglot needs
                  $FEWSTEP_DATA)
    --only TEXT   methods whose name holds TEXT
    --steps       numbers of steps; default all
    --seeds       of meta-training; default 1 2 3
    --iterations  of meta-training; default the benchmark's
    --tasks       test tasks; default the benchmark's
    --table       only print what is done, train nothing
    --jobs        runs at a time, a thread each; default: the cores

SPDX-FileCopyrightText: The fewstep authors
SPDX-License-Identifier: Apache-2.0
"""
import argparse
import concurrent.futures
import dataclasses
import hashlib
import json
import os
import pathlib
import statistics
import subprocess
import sys

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


@dataclasses.dataclass
class Benchmark:
    recipe: str
    title: str
    published: str
    iterations: int
    tasks: int  # of a test; the same ones for every method
    batch: int  # tasks an iteration
    metric: str = "loss"


BENCHMARKS = {
    "freq-5s": Benchmark(
        "sinusoid_freq-maml-5s",
        "Amplitude, frequency and phase drawn (family `meta_sgd`), 5 examples",
        "published, 1 step: MAML 1.13 +- 0.18, Meta-SGD 0.90 +- 0.16; 3 steps: "
        "MAML++ 0.34 +- 0.01", 60000, 10000, 25),
    "5s": Benchmark(
        "sinusoid-maml-5s",
        "Amplitude and phase drawn (family `maml`), 5 examples",
        "published, 1 step: MAML 0.69 +- 0.07, Meta-SGD 0.48 +- 0.06, "
        "Meta-Curvature 0.41 +- 0.05", 60000, 10000, 25),
    "10s": Benchmark(
        "sinusoid-maml-10s",
        "Amplitude and phase drawn (family `maml`), 10 examples",
        "published, 1 step: MAML 0.44 +- 0.04, Meta-SGD 0.26 +- 0.03, "
        "Meta-Curvature 0.20 +- 0.02", 60000, 10000, 25),
    "omniglot": Benchmark(
        "omniglot_mcu-meta_sgd-5w1s",
        "Omniglot, 5-way 1-shot, the microcontroller's network",
        "queries one at a time; f16 initialization, log8 rates",
        4000, 1000, 16, "accuracy"),
}

# Settings of a method, by kind of benchmark. Inner rates: fixed ones are tuned
# (sinusoid: on validation tasks, 10,000 iterations of the family `maml`, 10
# examples), learned ones start there. Learned rates of several steps have an
# outer rate of their own: one outer step of 3e-3 is larger than they are, and
# the inner loop explodes.


def sine(rate, rule_rate=None, **more):
    settings = {"inner.rate": rate, "outer.rate": 3e-3}
    if rule_rate is not None:
        settings["outer.rule_rate"] = rule_rate
    return {**settings, **more}


def images(rate, **more):
    # The recipe's outer rate, 1e-3, is that of 20,000 iterations.
    return {"inner.rate": rate, "outer.rate": 3e-3, **more}


# Where means of gradients start, and Adam's: at first about sgd at
# (1 - beta1) rate / rms, as rms is 1.
MOMENTUM = {"inner.beta": 0.5}
ADAM = {"inner.betas": "[0.5, 0.9]", "inner.eps": 1e-3}
MASK = {"outer.mask_rate": 1e-3}
# A rule that is a network: log8 is for rates.
WEIGHTS = {"capsule.rates": "f16"}
CLIP = {"inner.clip_norm": 10}
# CAVIA's network: four more inputs.
CONTEXT = {"network.layers": '[{op = "context", units = 4}, '
           '{op = "dense", units = 40}, {op = "relu"}, '
           '{op = "dense", units = 40}, {op = "relu"}, '
           '{op = "dense", units = 1}]'}

# Reptile looks at no query set, but at minibatches of more examples than it is
# judged on: as many as the other methods see, or fewer.
HALVES = {"task.shots": 10, "inner.batch": 5}
# Two images of each class in each of five steps. (The inner Adam of Nichol et al.
# 2018 at 1e-3, and an outer rate of 1, want many more iterations.)
PAIRS = {"task.shots": 10, "inner.batch": 10}
# Settings of training alone: test tasks are the recipe's.
TRAINING = ("task.shots",)

SINE = [
    # preset, steps, settings
    ("maml", 1, sine(0.01)),
    ("maml", 5, sine(0.003)),
    ("fomaml", 1, sine(0.01)),
    ("fomaml", 5, sine(0.003)),
    ("anil", 1, sine(0.01)),
    ("anil", 5, sine(0.003)),
    ("boil", 1, sine(0.01)),
    ("boil", 5, sine(0.003)),
    ("reptile", 5, {"inner.rate": 0.003, "outer.rate": 1e-2, **HALVES}),
    ("meta_sgd", 1, sine(0.01)),
    ("meta_sgd", 5, sine(0.002, 1e-4)),
    ("maml_lslr", 1, sine(0.01)),
    ("maml_lslr", 5, sine(0.002, 1e-4)),
    ("maml_plus_plus", 3, sine(0.003, 3e-4)),
    ("maml_plus_plus", 5, sine(0.002, 1e-4)),
    ("meta_sgd_online", 5, sine(0.002, 1e-4, **CLIP)),
    ("meta_momentum", 5, sine(0.006, 3e-4, **MOMENTUM, **CLIP)),
    ("meta_adam", 5, sine(0.01, 3e-4, **ADAM)),
    ("alfa", 1, sine(0.01, 1e-3)),
    ("alfa", 5, sine(0.003, 1e-4)),
    ("meta_lstm", 1, sine(0.03, 1e-3)),
    ("meta_lstm", 5, sine(0.01, 1e-3)),
    ("sparse_maml", 1, sine(0.01, **MASK)),
    ("sparse_maml", 5, sine(0.003, **MASK)),
    ("cavia", 1, sine(0.1, **CONTEXT)),
    ("cavia", 5, sine(0.03, **CONTEXT)),
]

IMAGES = [
    ("maml", 1, images(0.4)),
    ("maml", 5, images(0.1)),
    ("fomaml", 1, images(0.4)),
    ("fomaml", 5, images(0.1)),
    ("anil", 1, images(0.4)),
    ("anil", 5, images(0.1)),
    ("boil", 1, images(0.4)),
    ("boil", 5, images(0.1)),
    ("reptile", 5, images(0.1, **PAIRS)),
    ("meta_sgd", 1, images(0.4)),
    ("meta_sgd", 5, images(0.1)),
    ("maml_lslr", 1, images(0.4)),
    ("maml_lslr", 5, images(0.1)),
    ("maml_plus_plus", 3, images(0.1)),
    ("maml_plus_plus", 5, images(0.1)),
    ("meta_sgd_online", 5, images(0.1, **CLIP)),
    ("meta_momentum", 5, images(0.1, **MOMENTUM)),
    ("meta_adam", 1, images(0.1, **ADAM)),
    ("meta_adam", 5, images(0.05, **ADAM)),
    ("alfa", 1, images(0.4, **WEIGHTS)),
    ("alfa", 5, images(0.1, **WEIGHTS)),
    ("meta_lstm", 1, images(0.02, **WEIGHTS)),
    ("sparse_maml", 1, images(0.4)),
    ("sparse_maml", 5, images(0.1)),
]

# Where a benchmark needs other settings: some tasks explode.
OTHERWISE = {("freq-5s", "meta_sgd", 5): CLIP,
             ("10s", "maml_lslr", 5): CLIP}

METHODS = {"loss": SINE, "accuracy": IMAGES}

# Rates among which training from scratch chooses, on tasks of another seed.
SCRATCH_RATES = {"loss": [0.0003, 0.001, 0.003, 0.01, 0.03],
                 "accuracy": [0.01, 0.03, 0.1, 0.3]}
SCRATCH_STEPS = {"loss": [1, 5, 100], "accuracy": [1, 5, 100]}


class Runner:
    def __init__(self, options):
        self.fewstep = str(pathlib.Path(options.fewstep).resolve())
        self.out = pathlib.Path(options.out)
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
        b = BENCHMARKS[benchmark]
        recipe = REPOSITORY / "tools/recipes" / f"{b.recipe}.toml"
        sets = []
        of_test = []
        for k, v in settings.items():
            sets += ["--set", f"{k}={v}"]
            of_test += ["--set", f"{k}={v}"] if k not in TRAINING else []
        text = " ".join(sets[1::2])
        key = (f"{benchmark}-{name}-s{seed} {text} tasks={b.tasks} "
               f"test_seed={test_seed}")

        def make(folder):
            started = (folder / "checkpoint.npz").exists()
            resume = ["--resume"] if started else []
            capsule = self.call(
                "train", recipe, "--quiet", "--out", folder, *resume, *sets,
                "--set", f"seed={seed}", "--set", "run.threads=1").strip()
            scores = json.loads(self.call(
                "eval", capsule, "--recipe", recipe, *of_test, "--set",
                "run.threads=1", "--tasks", b.tasks, "--seed", test_seed,
                "--json"))
            facts = json.loads(self.call("inspect", capsule, "--json"))
            steps = facts["limits"]["steps"]
            arenas = [a["bytes"] for a in facts["arena"]]
            return {
                "score": scores[b.metric]["mean"],
                "ci95": scores[b.metric]["ci95"],
                "before": scores[f"{b.metric}_before"]["mean"],
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
    for name in options.benchmarks:
        b = BENCHMARKS[name]
        n = {"outer.iterations": b.iterations}
        for method, steps, settings in METHODS[b.metric]:
            yield name, method, steps, {
                "preset": method, "inner.steps": steps, **n, **settings,
                **OTHERWISE.get((name, method, steps), {})}
        # A network trained on all tasks at once, which a step of rate 0 leaves
        # as it is. (Labels of an episode's classes mean nothing to it.)
        if b.metric == "loss":
            yield name, "control: one network for all tasks", 0, {
                "preset": "maml", "inner.steps": 1, "inner.rate": 0.0, **n,
                "outer.rate": 3e-3}


def scratch_settings(steps, rate):
    # One iteration of rate 0 leaves the random initialization.
    return {"preset": "maml", "inner.steps": steps, "inner.rate": rate,
            "outer.iterations": 1, "outer.rate": 0.0,
            "run.validate_every": 0, "inner.order": 1}


def from_scratch(runner, benchmark, steps, seeds):
    """Training a random network on the support set at its best rate, which is
    chosen on test tasks of another seed."""
    worst = float("inf") if BENCHMARKS[benchmark].metric == "loss" else 0.0
    choose = min if worst else max

    def name(rate):
        return f"scratch-k{steps}-{rate}"

    def score(rate):
        try:
            r = runner.train_and_judge(benchmark, name(rate),
                                       scratch_settings(steps, rate), 100, 2)
        except RuntimeError:  # Diverged.
            return worst
        return r["score"] if r["diverged"] == 0 else worst

    scores = {rate: score(rate) for rate in
              SCRATCH_RATES[BENCHMARKS[benchmark].metric]}
    best = choose(scores, key=scores.get)
    if scores[best] == worst:
        return None
    return best, [runner.train_and_judge(
        benchmark, name(best), scratch_settings(steps, best), s) for s in seeds]


def line(metric, label, steps, results):
    scores = [r["score"] for r in results]
    mean = statistics.mean(scores)
    spread = statistics.stdev(scores) if len(scores) > 1 else None
    before = statistics.mean([x["before"] for x in results])
    if metric == "accuracy":
        score = f"{100 * mean:.1f} %"
        score += f" +- {100 * spread:.1f}" if spread is not None else ""
        before = f"{100 * before:.1f} %"
    else:
        # A few tasks on which the steps explode are all of a mean.
        score = f"{mean:.3f}" if mean < 100 else f"{mean:.0e}"
        if spread is not None and mean < 100:
            score += f" +- {spread:.3f}"
        before = f"{before:.2f}"
    r = results[0]
    diverged = sum(x["diverged"] for x in results)
    note = f", {diverged} diverged" if diverged else ""
    return (f"| {label} | {steps} | {score}{note} ({len(scores)}) | {before} "
            f"| {r['capsule']:,} | "
            + (f"{r['ram_small']:,} | {r['multiply_adds']:,} |"
               if steps > 0 else "0 | 0 |"))


def main():
    parser = argparse.ArgumentParser(
        description="Train, evaluate and tabulate every preset.")
    parser.add_argument("--fewstep", default="build/tools/fewstep")
    parser.add_argument("--out", default="runs/results")
    parser.add_argument("--benchmarks", nargs="+", default=list(BENCHMARKS),
                        choices=list(BENCHMARKS))
    parser.add_argument("--only", default="")
    parser.add_argument("--steps", nargs="+", type=int)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--iterations", type=int)
    parser.add_argument("--tasks", type=int)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    options = parser.parse_args()
    for name in options.benchmarks:
        b = BENCHMARKS[name]
        b.iterations = options.iterations or b.iterations
        b.tasks = options.tasks or b.tasks
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
                    print(f"{what}: {future.result()['score']:.4f}",
                          file=sys.stderr)
            except RuntimeError as error:
                failed.append(f"{what}: {error}")
                if not options.table:
                    print(failed[-1], file=sys.stderr)

    for benchmark in options.benchmarks:
        b = BENCHMARKS[benchmark]
        what = {"loss": "mean squared error", "accuracy": "accuracy"}[b.metric]
        print(f"\n### {b.title}\n\n"
              f"{b.iterations:,} iterations of {b.batch} "
              f"tasks; {what} over {b.tasks:,} test tasks, mean +- sd over the "
              f"meta-training\nseeds (their number); {b.published}\n")
        print(f"| method | steps | {b.metric} | before | capsule, B | RAM, B | "
              "multiply-adds |")
        print("|---|---|---|---|---|---|---|")
        for i, (name, label, steps, _) in enumerate(wanted):
            if name == benchmark and i in results:
                print(line(b.metric, label, steps,
                           [results[i][s] for s in sorted(results[i])]))
        if options.only in "control: from scratch":
            for steps in SCRATCH_STEPS[b.metric]:
                if options.steps is not None and steps not in options.steps:
                    continue
                try:
                    found = from_scratch(runner, benchmark, steps,
                                         options.seeds)
                except RuntimeError as error:
                    failed.append(f"{benchmark} from scratch: {error}")
                    continue
                if found is not None:
                    print(line(b.metric,
                               f"control: from scratch, rate {found[0]}",
                               steps, found[1]))
    if failed and not options.table:
        sys.exit("failed:\n" + "\n".join(failed))


if __name__ == "__main__":
    main()
