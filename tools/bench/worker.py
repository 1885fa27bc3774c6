"""One contestant in a process of its own, spoken to as engine_bench --serve.

    worker.py torch|jax FOLDER VARIANT --threads N     FOLDER: case.json, *.npz
        [--device cpu|cuda] [--tf32]    cuda: GPU 0, in float32 or in TF32
    worker.py sgemm --threads N
    worker.py list FOLDER                              the variants there are

SPDX-FileCopyrightText: The fewstep authors
SPDX-License-Identifier: Apache-2.0
"""

import argparse
import json
import os
import pathlib
import resource
import sys
import time


def say(**answer):
    usage = resource.getrusage(resource.RUSAGE_SELF)
    answer["peak_mb"] = usage.ru_maxrss * 1024 / 1e6
    print(json.dumps(answer), flush=True)


class Sgemm:
    """Seconds of a call are those of `n` products; the best size is kept."""

    SIZES = (512, 1024, 1536)

    def __init__(self, threads):
        import numpy as np
        import torch
        torch.set_num_threads(threads)
        self.choices = []
        rng = np.random.default_rng(0)
        for size in self.SIZES:
            a, b = rng.random((2, size, size), dtype=np.float32)
            c = np.empty_like(a)
            ta, tb, tc = (torch.from_numpy(x) for x in (a, b, c))
            # NumPy's own OpenBLAS, and Debian's, which PyTorch calls.
            self.choices += [
                (size, "NumPy's OpenBLAS",
                 lambda a=a, b=b, c=c: np.matmul(a, b, out=c)),
                (size, "Debian's OpenBLAS",
                 lambda a=ta, b=tb, c=tc: torch.matmul(a, b, out=c))]

    def run(self, choice, n):
        size, _, product = self.choices[choice]
        start = time.perf_counter()
        for _ in range(n):
            product()
        seconds = time.perf_counter() - start
        return 2e-9 * size ** 3 * n / seconds

    def serve(self):
        for choice in range(len(self.choices)):
            self.run(choice, 2)
        say(name="sgemm", sizes=self.SIZES)
        for line in sys.stdin:
            if line.split()[0] == "quit":
                return
            rates = [self.run(c, 3) for c in range(len(self.choices))]
            best = max(range(len(rates)), key=lambda c: rates[c])
            rates[best] = max(rates[best], self.run(best, 5))
            size, library, _ = self.choices[best]
            say(gflops=rates[best], size=size, library=library)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=("torch", "jax", "sgemm", "list"))
    parser.add_argument("folder", nargs="?", type=pathlib.Path)
    parser.add_argument("variant", nargs="?")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--tf32", action="store_true")
    args = parser.parse_args()
    # Of everybody's thread pools: set before the libraries are loaded.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(args.threads)
    os.environ["JAX_PLATFORMS"] = args.device
    os.environ["JAX_TRACEBACK_FILTERING"] = "off"
    # XLA has as many threads as the process may use processors: contest.py.
    os.environ["XLA_FLAGS"] = ("--xla_cpu_multi_thread_eigen=" +
                               ("true" if args.threads > 1 else "false"))

    if args.kind == "sgemm":
        Sgemm(args.threads).serve()
        return

    import numpy as np

    from cases import Case
    devices = args.variant.split(":")[3:] if args.kind == "jax" else []
    if devices:
        os.environ["XLA_FLAGS"] += (
            f" --xla_force_host_platform_device_count={devices[0]}")
    case = Case.from_json((args.folder / "case.json").read_text())
    if args.kind == "list":
        import jax_peer
        import torch_peer
        table = {}
        for kind, module in (("torch", torch_peer), ("jax", jax_peer)):
            for peer, variants in module.variants(case, args.threads).items():
                table[peer] = [[kind, v] for v in variants]
        say(peers=table, notes=torch_peer.notes() + jax_peer.notes())
        return
    if args.kind == "torch":
        from torch_peer import Peer, use_device
    else:
        from jax_peer import Peer, use_device
    use_device(args.device, args.tf32)
    initial = np.load(args.folder / "initial.npz")
    episodes = dict(np.load(args.folder / "episodes.npz"))
    peer = Peer(case, args.variant, initial["theta"], initial["rate"],
                episodes, args.threads)
    say(name=args.variant)
    for line in sys.stdin:
        words = line.split()
        if words[0] == "quit":
            return
        if words[0] == "gradient":
            np.savez(words[1], **dict(zip(("theta", "rate"),
                                          peer.gradient(int(words[2])))))
            say()
        elif words[0] == "time":
            n = int(words[1])
            start = time.perf_counter()
            done = peer.run(n) or n
            seconds = time.perf_counter() - start
            say(seconds=seconds * n / done)
        else:
            raise ValueError(line)


if __name__ == "__main__":
    main()
