"""PyTorch, three ways: vmap, batched by hand, and a loop over tasks.

SPDX-FileCopyrightText: The fewstep authors
SPDX-License-Identifier: Apache-2.0
"""

import numpy as np
import torch
import torch.nn.functional as F

EPS = 1e-5


def variants(case, threads):
    """{peer: [variant, ...]}: the fastest variant of each peer is timed."""
    del threads  # The same for any number.
    conv = case.loss != "mean_squared_error"
    parts = ["all"] + ([8] if case.tasks > 8 else [])
    table = {
        "PyTorch vmap": [f"vmap:{p}" for p in parts],
        "PyTorch by hand": (
            [f"grouped:{p}" for p in parts] + ["bmm:all"] if conv else
            [f"bmm:{p}" for p in parts]),
        "PyTorch task loop": ["loop"],
    }
    if hasattr(torch, "compile"):
        table["PyTorch compile"] = ["compile:all"]
    return table


def notes():
    lines = []
    if not hasattr(torch, "compile"):
        lines.append(f"torch.compile: not in PyTorch {torch.__version__} "
                     "(from 2.0 on)")
    if not hasattr(torch, "func"):
        lines.append("PyTorch vmap: functorch of 1.13 differentiates "
                     "F.batch_norm twice wrongly; var_mean here instead")
    return lines


DEVICE = "cpu"


def use_device(device, tf32):
    """Where peers compute, and whether a GPU may take TF32."""
    global DEVICE
    DEVICE = device
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32


def composed_batch_norm(x, w, b):
    """F.batch_norm of the batch at hand, [n, c, h, w], from other operations:
    functorch 1.13 gives a wrong second derivative for a batched input."""
    var, mean = torch.var_mean(x, (0, 2, 3), unbiased=False, keepdim=True)
    scale = torch.rsqrt(var + EPS) * w[:, None, None]
    return (x - mean) * scale + b[:, None, None]


class Network:
    """The case's network on parameters given as a list of tensors."""

    def __init__(self, case, native_norm=True):
        self.case, self.native_norm = case, native_norm
        self.shapes = case.shapes()
        self.sizes = [int(np.prod(s)) for s in self.shapes]

    def unpack(self, flat):
        """[..., P] -> tensors [..., shape]."""
        lead = flat.shape[:-1]
        return [p.reshape(lead + s)
                for p, s in zip(flat.split(self.sizes, -1), self.shapes)]

    def loss_of(self, out, y):
        if self.case.loss == "mean_squared_error":
            return F.mse_loss(out, y)
        return F.cross_entropy(out, y)

    def loss(self, flat, x, y):
        """One task: x [n, c, h, w]."""
        params = iter(self.unpack(flat))
        for layer in self.case.layers:
            op = layer["op"]
            if op == "relu":
                x = F.relu(x)
                continue
            w, b = next(params), next(params)
            if op == "conv2d":
                x = F.conv2d(x, w, b, layer["stride"], layer["pad"])
            elif op == "batch_norm":
                if self.native_norm:
                    x = F.batch_norm(x, None, None, w, b, True, 0.0, EPS)
                else:
                    x = composed_batch_norm(x, w, b)
            else:
                x = F.linear(x.flatten(1), w, b)
        return self.loss_of(x, y)

    def batched_loss(self, flat, x, y, grouped):
        """T tasks at once, flat [T, P]: the sum of their losses.

        x: dense [T, n, in]; grouped convolutions [n, T c, h, w]; else
        [T, c, n, h, w], convolutions being sums over shifted inputs (im2col)
        and one batched matrix product.
        """
        n_tasks = flat.shape[0]
        params = iter(self.unpack(flat))
        for layer in self.case.layers:
            op = layer["op"]
            if op == "relu":
                x = F.relu(x)
                continue
            w, b = next(params), next(params)
            if op == "conv2d":
                s, p = layer["stride"], layer["pad"]
                if grouped:
                    x = F.conv2d(x, w.flatten(0, 1), b.flatten(), s, p, 1,
                                 n_tasks)
                else:
                    x = self.im2col_conv(x, w, b, s, p)
            elif op == "batch_norm":
                shape = x.shape
                if not grouped:
                    x = x.reshape(1, shape[0] * shape[1], -1)
                x = F.batch_norm(x, None, None, w.flatten(), b.flatten(), True,
                                 0.0, EPS).view(shape)
            else:
                if grouped:
                    x = x.reshape(x.shape[0], n_tasks, -1).transpose(0, 1)
                elif x.dim() == 5:
                    x = x.permute(0, 2, 1, 3, 4).flatten(2)
                x = torch.baddbmm(b[:, None], x, w.transpose(1, 2))
                grouped = False
        return self.loss_of(x.flatten(0, 1), y) * n_tasks

    @staticmethod
    def im2col_conv(x, w, b, stride, pad):
        k = w.shape[-1]
        h, v = x.shape[-2:]
        oh, ov = (h + 2 * pad - k) // stride + 1, (v + 2 * pad - k) // stride + 1
        x = F.pad(x, (pad, pad, pad, pad))
        columns = torch.stack(
            [x[..., i:i + stride * (oh - 1) + 1:stride,
               j:j + stride * (ov - 1) + 1:stride]
             for i in range(k) for j in range(k)], 2)  # [T, c, k k, n, oh, ov]
        n_tasks, _, _, n = columns.shape[:4]
        out = torch.baddbmm(b[:, :, None], w.flatten(2),
                            columns.view(n_tasks, w[0, 0].numel(), -1))
        return out.view(n_tasks, -1, n, oh, ov)


class Peer:
    def __init__(self, case, variant, theta, rate, episodes, threads):
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        kind, _, part = variant.partition(":")
        self.case = case
        self.network = Network(case, hasattr(torch, "func") or kind != "vmap")
        self.kind = kind
        self.part = case.tasks if part in ("", "all") else int(part)
        self.theta = torch.tensor(theta, device=DEVICE, requires_grad=True)
        self.rate = torch.tensor(rate if case.learn_rate else case.rate,
                                 device=DEVICE, requires_grad=case.learn_rate)
        self.learned = [p for p in (self.theta, self.rate) if p.requires_grad]
        self.adam = torch.optim.Adam(self.learned, lr=1e-3)
        self.batches = [self.parts(episodes, b) for b in range(case.n_batches)]
        self.at = 0
        self.step_of = {"vmap": self.vmap, "loop": self.loop, "bmm": self.hand,
                        "grouped": self.hand, "compile": self.compiled}[kind]

    def parts(self, episodes, batch):
        """Meta-batch `batch` as parts of `part` tasks, laid out as liked."""
        case = self.case
        result = []
        for begin in range(0, case.tasks, self.part):
            end = min(begin + self.part, case.tasks)
            rows = slice(batch * case.tasks + begin, batch * case.tasks + end)
            data = []
            for key in ("support", "query"):
                x = torch.from_numpy(episodes[key + "_x"][rows])
                y = torch.from_numpy(episodes[key + "_y"][rows])
                if case.loss != "mean_squared_error":
                    y = y.long()
                if self.kind in ("bmm", "grouped"):
                    y = y.flatten(0, 1)
                    if self.kind == "grouped":
                        x = x.transpose(0, 1).flatten(1, 2)
                    elif x.dim() == 5:
                        x = x.transpose(1, 2)
                data += [x.contiguous().to(DEVICE), y.to(DEVICE)]
            result.append(data)
        return result

    def loop(self, parts):
        """learn2learn's: clone, adapt with create_graph, backward, per task."""
        for sx, sy, qx, qy in parts:
            for t in range(sx.shape[0]):
                theta = self.theta.clone()
                for _ in range(self.case.steps):
                    loss = self.network.loss(theta, sx[t], sy[t])
                    grad, = torch.autograd.grad(loss, theta, create_graph=True)
                    theta = theta - self.rate * grad
                loss = self.network.loss(theta, qx[t], qy[t])
                (loss / self.case.tasks).backward()

    def hand(self, parts):
        grouped = self.kind == "grouped"
        for sx, sy, qx, qy in parts:
            n_tasks = qy.shape[0] // self.case.n_query
            theta = self.theta.expand(n_tasks, -1)
            for _ in range(self.case.steps):
                loss = self.network.batched_loss(theta, sx, sy, grouped)
                grad, = torch.autograd.grad(loss, theta, create_graph=True)
                theta = theta - self.rate * grad
            loss = self.network.batched_loss(theta, qx, qy, grouped)
            (loss / self.case.tasks).backward()

    def functional(self):
        """(theta, rate, support, query) -> gradients and loss, with vmap."""
        try:
            from torch.func import grad, grad_and_value, vmap
        except ImportError:
            from functorch import grad, grad_and_value, vmap

        def task_loss(theta, rate, sx, sy, qx, qy):
            for _ in range(self.case.steps):
                theta = theta - rate * grad(self.network.loss)(theta, sx, sy)
            return self.network.loss(theta, qx, qy)

        def total(theta, rate, sx, sy, qx, qy):
            losses = vmap(task_loss, (None, None, 0, 0, 0, 0))(
                theta, rate, sx, sy, qx, qy)
            return losses.sum() / self.case.tasks

        return grad_and_value(total, argnums=(0, 1)[:len(self.learned)])

    def vmap(self, parts):
        if not hasattr(self, "gradient_of"):
            self.gradient_of = self.functional()
        for part in parts:
            gradients, _ = self.gradient_of(self.theta.detach(),
                                            self.rate.detach(), *part)
            for leaf, d in zip(self.learned, gradients):
                leaf.grad = d if leaf.grad is None else leaf.grad + d

    def compiled(self, parts):
        if not hasattr(self, "gradient_of"):
            self.gradient_of = torch.compile(self.functional())
        self.vmap(parts)

    def gradient(self, batch):
        """The meta-gradient of a meta-batch; before any run()."""
        self.clear()
        self.step_of(self.batches[batch])
        result = [p.grad.detach().cpu().numpy().copy() for p in self.learned]
        self.clear()
        return result

    def clear(self):
        for p in self.learned:
            p.grad = None

    def run(self, n):
        for _ in range(n):
            self.clear()
            self.step_of(self.batches[self.at])
            self.at = (self.at + 1) % len(self.batches)
            self.adam.step()
        if DEVICE == "cuda":
            torch.cuda.synchronize()
