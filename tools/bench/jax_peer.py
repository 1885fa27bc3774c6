"""JAX: jit of a meta-step with vmap over tasks, Adam inside.

SPDX-FileCopyrightText: The fewstep authors
SPDX-License-Identifier: Apache-2.0
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

EPS = 1e-5


def variants(case, threads):
    if case.loss == "mean_squared_error":
        return {"JAX jit + vmap": ["dense:all:1", "dense:all:10"]}
    # More tasks at a time are not offered: their convolutions, each task's own
    # weights, become grouped convolutions or batched matrix products, which
    # XLA runs 10 to 40 times slower on a CPU.
    if threads > 1 and case.tasks % threads == 0:
        return {"JAX jit + vmap": [f"im2col:1:1:{threads}", "im2col:1:1",
                                   f"conv:1:1:{threads}"]}
    return {"JAX jit + vmap": ["im2col:1:1", "conv:1:1"]}


def notes():
    return []


def use_device(device, tf32):
    """worker.py chose the platform; a GPU would take TF32 by itself."""
    if device == "cuda":
        jax.config.update("jax_default_matmul_precision",
                          "tensorfloat32" if tf32 else "float32")


class Network:
    def __init__(self, case, im2col):
        self.case, self.im2col = case, im2col
        self.shapes = case.shapes()
        self.ends = np.cumsum([int(np.prod(s)) for s in self.shapes])

    def unpack(self, flat):
        return [p.reshape(s) for p, s in
                zip(jnp.split(flat, self.ends[:-1]), self.shapes)]

    def conv(self, x, w, b, stride, pad):
        """x: im2col [c, n, h, w], else [n, c, h, w]."""
        if not self.im2col:
            y = lax.conv_general_dilated(
                x, w, (stride, stride), ((pad, pad), (pad, pad)),
                dimension_numbers=("NCHW", "OIHW", "NCHW"))
            return y + b[:, None, None]
        k = w.shape[-1]
        c, n, h, v = x.shape
        oh, ov = (h + 2 * pad - k) // stride + 1, (v + 2 * pad - k) // stride + 1
        x = jnp.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        columns = jnp.stack(
            [x[..., i:i + stride * (oh - 1) + 1:stride,
               j:j + stride * (ov - 1) + 1:stride]
             for i in range(k) for j in range(k)], 1)  # [c, k k, n, oh, ov]
        y = w.reshape(w.shape[0], -1) @ columns.reshape(c * k * k, -1)
        return (y + b[:, None]).reshape(-1, n, oh, ov)

    def loss(self, flat, x, y):
        params = iter(self.unpack(flat))
        channel = 0 if self.im2col else 1
        for layer in self.case.layers:
            op = layer["op"]
            if op == "relu":
                x = jax.nn.relu(x)
                continue
            w, b = next(params), next(params)
            if op == "conv2d":
                x = self.conv(x, w, b, layer["stride"], layer["pad"])
            elif op == "batch_norm":
                axes = tuple(a for a in range(4) if a != channel)
                shape = tuple(-1 if a == channel else 1 for a in range(4))
                mean = x.mean(axes, keepdims=True)
                d = x - mean
                var = (d * d).mean(axes, keepdims=True)
                x = d * (w.reshape(shape) * lax.rsqrt(var + EPS)) + \
                    b.reshape(shape)
            else:
                if x.ndim == 4:
                    if self.im2col:
                        x = x.transpose(1, 0, 2, 3)
                    x = x.reshape(x.shape[0], -1)
                x = x @ w.T + b
        if self.case.loss == "mean_squared_error":
            return jnp.mean((x - y) ** 2)
        log_p = jax.nn.log_softmax(x)
        return -jnp.take_along_axis(log_p, y[:, None], 1).mean()


class Peer:
    """variant: kind:tasks at a time:meta-steps a call[:devices]

    With devices, each takes a share of the tasks (pmap): one a thread.
    """

    def __init__(self, case, variant, theta, rate, episodes, threads):
        del threads  # The process may use as many processors; see worker.py.
        kind, part, per_call, *devices = variant.split(":")
        self.devices = int(devices[0]) if devices else 1
        self.case = case
        self.part = case.tasks if part == "all" else int(part)
        self.per_call = int(per_call)
        self.network = Network(case, kind == "im2col")

        params = (jnp.array(theta),)
        if case.learn_rate:
            params += (jnp.array(rate),)

        def zeros():  # Buffers of their own: step() donates them.
            return tuple(jnp.zeros(p.size) for p in params)

        self.state = (params, zeros(), zeros(), jnp.float32(0))
        n = case.n_batches
        data = []
        for key in ("support_x", "support_y", "query_x", "query_y"):
            a = episodes[key]
            a = a.reshape((n, case.tasks) + a.shape[1:])
            if kind == "im2col" and key.endswith("_x"):
                a = a.swapaxes(2, 3)  # [.., c, n, h, w]
            data.append(a)
        assert n % self.per_call == 0
        self.batches = [tuple(jnp.asarray(a[b:b + self.per_call])
                              for a in data)
                        for b in range(0, n, self.per_call)]
        self.at = 0

        def steps(state, batches):
            if self.per_call == 1:
                return self.step(state, [a[0] for a in batches])
            return lax.scan(lambda s, b: (self.step(s, b), None), state,
                            batches)[0]

        if self.devices == 1:
            self.steps = jax.jit(steps, donate_argnums=0)
            self.gradients_of = jax.jit(self.gradients)
            return
        assert self.per_call == 1
        count = self.devices
        self.batches = [
            tuple(jax.device_put_sharded(list(
                a.reshape((1, count, -1) + a.shape[2:]).swapaxes(0, 1)),
                jax.devices()) for a in batch) for batch in self.batches]
        self.state = jax.device_put_replicated(self.state, jax.devices())
        self.steps = jax.pmap(steps, "devices", donate_argnums=0)
        self.gradients_of = jax.pmap(self.gradients, "devices")

    def task_loss(self, params, sx, sy, qx, qy):
        theta, rate = (params if self.case.learn_rate else
                       (*params, self.case.rate))
        for _ in range(self.case.steps):
            grad = jax.grad(self.network.loss)(theta, sx, sy)
            theta = theta - rate * grad
        return self.network.loss(theta, qx, qy)

    def gradients(self, params, batch):
        def total(params, batch):
            losses = jax.vmap(functools.partial(self.task_loss, params))(
                *batch)
            return losses.sum() / self.case.tasks

        if self.part == self.case.tasks:
            return jax.grad(total)(params, batch)
        parts = [a.reshape((-1, self.part) + a.shape[1:]) for a in batch]
        zero = jax.tree_util.tree_map(jnp.zeros_like, params)
        add = functools.partial(jax.tree_util.tree_map, jnp.add)
        result = lax.scan(
            lambda s, part: (add(s, jax.grad(total)(params, part)), None),
            zero, parts)[0]
        return result if self.devices == 1 else lax.psum(result, "devices")

    def step(self, state, batch):
        params, m, v, t = state
        g = self.gradients(params, batch)
        t = t + 1
        tree = jax.tree_util.tree_map
        m = tree(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = tree(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
        params = tree(
            lambda p, m, v: p - 1e-3 * (m / (1 - 0.9 ** t)) /
            (jnp.sqrt(v / (1 - 0.999 ** t)) + 1e-8), params, m, v)
        return params, m, v, t

    def gradient(self, batch):
        """The meta-gradient of a meta-batch; before any run()."""
        call, at = divmod(batch, self.per_call)
        if self.devices == 1:
            data = [a[at] for a in self.batches[call]]
            gradients = self.gradients_of(self.state[0], data)
        else:
            data = [a[:, 0] for a in self.batches[call]]
            gradients = [
                d[0] for d in self.gradients_of(self.state[0], data)]
        return [np.asarray(d) for d in gradients]

    def run(self, n):
        for _ in range(max(1, n // self.per_call)):
            self.state = self.steps(self.state, self.batches[self.at])
            self.at = (self.at + 1) % len(self.batches)
        jax.block_until_ready(self.state)
        return max(1, n // self.per_call) * self.per_call
