"""fewstep's CUDA engine beside PyTorch and JAX on the same GPU.

    gpu_bench.py GPU_BENCH OUT.json [CASE...] [--seconds S]
                 [--engine cuda|cpu] [--device cuda|cpu]

Who is compared is what this Python has of torch and jax; each with TF32 off,
which is the comparison, and on beside it. A peer's meta-gradient has to be
fewstep's first (within tools/bench/contest.py's tolerance, a hundred times that
with TF32). Prints a table, writes JSON. --engine and --device cpu try the script
itself where there is no GPU. Exit status: 0; 1 when a comparison failed; 5 when
there is nothing to compare with.

SPDX-FileCopyrightText: The fewstep authors
SPDX-License-Identifier: Apache-2.0
"""

import argparse
import importlib.util
import json
import pathlib
import shutil
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "bench"))

MODULES = {"PyTorch": "torch", "JAX": "jax"}


def peers_here(case, device):
    """[(name, kind, variant)] of what is installed."""
    found = []
    if importlib.util.find_spec("torch"):
        conv = case.loss != "mean_squared_error"
        found += [("PyTorch vmap", "torch", "vmap:all"),
                  ("PyTorch by hand", "torch",
                   "grouped:all" if conv else "bmm:all")]
    if importlib.util.find_spec("jax"):
        conv = case.loss != "mean_squared_error"
        # On a GPU all tasks at a time; on a CPU see jax_peer.py.
        part = "all" if device == "cuda" or not conv else "1"
        kind = "conv" if conv else "dense"
        found.append(("JAX jit + vmap", "jax", f"{kind}:{part}:1"))
    return found


def save_raw(folder, case, np):
    theta, rate = case.initial()
    episodes = case.episodes()
    np.savez(folder / "initial.npz", theta=theta, rate=rate)
    np.savez(folder / "episodes.npz", **episodes)
    (folder / "case.json").write_text(case.to_json())
    theta.tofile(folder / "theta.f32")
    rate.tofile(folder / "rate.f32")
    for key in ("support", "query"):
        episodes[key + "_x"].astype("<f4").tofile(folder / f"{key}_x.f32")
        y = episodes[key + "_y"]
        if case.loss == "mean_squared_error":
            y.astype("<f4").tofile(folder / f"{key}_y.f32")
        else:
            y.astype("<u2").tofile(folder / f"{key}_y.u16")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("cases", nargs="*")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--engine", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    args = parser.parse_args()
    if not importlib.util.find_spec("numpy"):
        print("benchmarks: this Python has no NumPy, which the peers need")
        return 5
    import os

    import numpy as np

    import cases
    import contest

    class Ours(contest.Process):
        def gradient(self, path, batch):
            self.ask(f"gradient {path} {batch}")
            return {key: np.fromfile(f"{path}.{key}.f32", np.float32)
                    for key in ("theta", "rate")}

    threads = len(os.sched_getaffinity(0))
    stop = time.time() + args.seconds
    result, failures, compared = {}, [], 0
    for name in args.cases or list(cases.CASES):
        case = cases.CASES[name]()
        folder = pathlib.Path(tempfile.mkdtemp(prefix="gpu_bench-"))
        row = result.setdefault(name, {"peers": {}})
        try:
            save_raw(folder, case, np)
            ours = Ours([args.program, name, "--engine", args.engine,
                         "--data", folder, "--serve"], threads,
                        folder / "fewstep.log")
            gradients = [ours.gradient(folder / "fewstep", batch)
                         for batch in range(min(case.n_batches, 8))]
            n, once = contest.steps_for(ours, 0.2)
            row["ms_per_step"] = once * 1e3
            row["tasks_per_s"] = case.tasks / once
            print(f"\n{case.title}\n  {'fewstep ' + args.engine:<28}"
                  f"{once * 1e3:10.3f} ms", flush=True)
        except contest.Failure as failure:
            failures.append(f"{name}: fewstep: {failure}")
            print(f"  FAILED {failures[-1]}")
            continue
        for peer, kind, variant in peers_here(case, args.device):
            for tf32 in (False, True):
                label = peer + (" (TF32)" if tf32 else "")
                fact = row["peers"].setdefault(label, {"variant": variant})
                if tf32 and args.device != "cuda":
                    fact["skipped"] = "no TF32 on a CPU"
                    continue
                if time.time() > stop:
                    fact["skipped"] = "no time left"
                    print(f"  {label:<28}  skipped: no time left")
                    continue
                try:
                    process = contest.Process(
                        [sys.executable, HERE.parent / "bench" / "worker.py",
                         kind, folder, variant, "--threads", threads,
                         "--device", args.device] +
                        (["--tf32"] if tf32 else []), threads,
                        folder / f"{kind}.log")
                    fact["differences"] = contest.check(
                        gradients, lambda batch: process.gradient(
                            folder / f"{kind}.npz", batch),
                        contest.TOLERANCE * (100 if tf32 else 1))
                    _, peer_once = contest.steps_for(process, 0.2)
                    again = min(ours.seconds(n) for _ in range(2))
                    process.quit()
                except contest.Failure as failure:
                    fact["error"] = str(failure)
                    failures.append(f"{name}: {label}: {failure}")
                    print(f"  FAILED {failures[-1]}", flush=True)
                    continue
                compared += 1
                fact["ms_per_step"] = peer_once * 1e3
                fact["slower"] = peer_once / min(once, again)
                print(f"  {label:<28}{peer_once * 1e3:10.3f} ms"
                      f"{fact['slower']:9.2f} x", flush=True)
        ours.quit()
        shutil.rmtree(folder, ignore_errors=True)
    args.out.write_text(json.dumps(
        {"engine": args.engine, "device": args.device, "cases": result,
         "failures": failures}, indent=1) + "\n")
    if failures:
        return 1
    if compared == 0:
        print("benchmarks: this Python has neither PyTorch nor JAX")
        return 5
    return 0


if __name__ == "__main__":
    sys.exit(main())
