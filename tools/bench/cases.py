"""What is compared: networks, episodes and recipes, the same for everybody.

Parameters are one flat vector in fewstep's order (layer by layer, weights then
bias, gamma then beta; dense [out][in], convolution [out][in][kh][kw]).

SPDX-FileCopyrightText: The fewstep authors
SPDX-License-Identifier: Apache-2.0
"""

import dataclasses
import json

import numpy as np


@dataclasses.dataclass
class Case:
    name: str
    title: str
    input: list  # channels, height, width
    layers: list  # as in a recipe
    loss: str
    n_support: int
    n_query: int
    tasks: int
    steps: int = 1
    rate: float = 0.4
    learn_rate: bool = True  # Meta-SGD; else MAML, one fixed rate
    n_batches: int = 8  # pre-sampled meta-batches, taken in turn

    def to_json(self):
        return json.dumps(dataclasses.asdict(self))

    @staticmethod
    def from_json(text):
        return Case(**json.loads(text))

    def tensors(self):
        """[(layer index, shape)] of theta's tensors, in order."""
        c, h, w = self.input
        out = []
        for i, layer in enumerate(self.layers):
            op = layer["op"]
            if op == "conv2d":
                f, k = layer["filters"], layer["kernel"]
                s, p = layer.get("stride", 1), layer.get("pad", 0)
                out += [(i, (f, c, k, k)), (i, (f,))]
                c = f
                h, w = (h + 2 * p - k) // s + 1, (w + 2 * p - k) // s + 1
            elif op == "batch_norm":
                out += [(i, (c,)), (i, (c,))]
            elif op == "dense":
                n = layer["units"]
                out += [(i, (n, c * h * w)), (i, (n,))]
                c, h, w = n, 1, 1
            elif op != "relu":
                raise ValueError(f"no {op} in the peers' networks")
        return out

    def shapes(self):
        return [shape for _, shape in self.tensors()]

    def recipe(self, source, init, threads, optimizer="adam", rate=1e-3,
               iterations=1000000):
        """TOML; source: an .npz of episodes."""
        task = f'source = "episodes"\npath = "{source}"'
        layers = ",\n  ".join(
            "{" + ", ".join(f"{k} = {json.dumps(v)}" for k, v in l.items()) +
            "}" for l in self.layers)
        rule = ('rule = "meta_sgd"\nrate = 0.1' if self.learn_rate else
                f'rule = "sgd"\nrate = {self.rate}\nlearn_rate = false')
        return f"""name = "{self.name}"
seed = 1
[task]
{task}
[network]
input = {self.input}
layers = [
  {layers},
]
loss = "{self.loss}"
[inner]
{rule}
steps = {self.steps}
order = 2
[outer]
optimizer = "{optimizer}"
rate = {rate}
tasks = {self.tasks}
iterations = {iterations}
[capsule]
golden = false
[run]
validate_every = 0
checkpoint_every = 0
threads = {threads}
init_from = "{init}"
"""

    def initial(self):
        """theta [P]: He-normal weights; rate [P]: rates that differ, or [1]."""
        rng = np.random.default_rng(1)
        theta = []
        pairs = self.tensors()
        for i, shape in pairs:
            norm = self.layers[i]["op"] == "batch_norm"
            first = len(theta) == 0 or pairs[len(theta) - 1][0] != i
            if norm:  # Not quite the identity: gamma and beta are tested too.
                theta.append((1.0 if first else 0.0) +
                             0.1 * rng.standard_normal(shape))
            elif first:
                fan_in = np.prod(shape[1:])
                theta.append(np.sqrt(2.0 / fan_in) *
                             rng.standard_normal(shape))
            else:
                theta.append(0.01 * rng.standard_normal(shape))
        theta = np.concatenate([t.ravel() for t in theta])
        rate = self.rate * rng.uniform(0.5, 1.5, theta.shape)
        if not self.learn_rate:
            rate = np.array([self.rate])
        return theta.astype(np.float32), rate.astype(np.float32)

    def episodes(self):
        """support_x [batches * tasks, n, ...] etc., as fewstep reads them."""
        rng = np.random.default_rng(2)
        n = self.n_batches * self.tasks
        if self.loss == "mean_squared_error":
            amplitude = rng.uniform(0.1, 5.0, (n, 1, 1))
            phase = rng.uniform(0.0, np.pi, (n, 1, 1))

            def some(m):
                x = rng.uniform(-5.0, 5.0, (n, m, 1)).astype(np.float32)
                return x, (amplitude * np.sin(x - phase)).astype(np.float32)

            sx, sy = some(self.n_support)
            qx, qy = some(self.n_query)
        else:
            # Strokes: a class is a pattern of blocks, an image a noisy one.
            ways = self.layers[-1]["units"]
            c, h, w = self.input
            pattern = rng.random((n, ways, c, (h + 3) // 4, (w + 3) // 4)) < 0.4
            pattern = pattern.repeat(4, 3).repeat(4, 4)[..., :h, :w]

            def some(m):
                y = np.tile(np.arange(m) % ways, (n, 1))
                clean = np.take_along_axis(
                    pattern, y[:, :, None, None, None], axis=1)
                noise = rng.random((n, m, c, h, w), dtype=np.float32)
                x = 0.7 * clean.astype(np.float32) + 0.3 * noise
                return x.astype(np.float32), y.astype(np.int32)

            sx, sy = some(self.n_support)
            qx, qy = some(self.n_query)
        return dict(support_x=sx, support_y=sy, query_x=qx, query_y=qy)


def sinusoid(name="sinusoid", **changes):
    layers = [dict(op="dense", units=40), dict(op="relu"),
              dict(op="dense", units=40), dict(op="relu"),
              dict(op="dense", units=1)]
    rate = "" if changes.get("learn_rate", True) else ", fixed rate"
    case = Case(name, "sinusoid 1-40-40-1, 10 + 10 examples, 25 tasks" + rate,
                [1, 1, 1], layers, "mean_squared_error", 10, 10, 25,
                rate=0.02, n_batches=20)
    return dataclasses.replace(case, **changes)


def conv4(filters, **changes):
    layers = []
    for _ in range(4):
        layers += [dict(op="conv2d", filters=filters, kernel=3, stride=2,
                        pad=1), dict(op="batch_norm"), dict(op="relu")]
    layers.append(dict(op="dense", units=5))
    case = Case(f"conv4-{filters}",
                f"conv4-{filters}, 28x28, 5 + 75 images, 32 tasks",
                [1, 28, 28], layers, "softmax_cross_entropy", 5, 75, 32)
    return dataclasses.replace(case, **changes)


CASES = {"sinusoid": sinusoid,
         "sinusoid-maml": lambda **c: sinusoid("sinusoid-maml",
                                               learn_rate=False, **c),
         "conv4-64": lambda **c: conv4(64, **c),
         "conv4-16": lambda **c: conv4(16, **c)}
