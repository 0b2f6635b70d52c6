"""How training scales with workers, on one machine: images per CPU second, the cost of exchanging gradients, memory.

    python benchmarks/scaling.py --out scaling.jsonl            one to three workers, ResNet-20 and MobileNetV2
    python benchmarks/scaling.py --out scaling.jsonl --minutes 12    stop after this time; the next call continues
    python benchmarks/scaling.py --out scaling.jsonl --show     only print the tables of --out
    python benchmarks/scaling.py --record                       how large the record is after a million probed steps

Every worker is a process under `MultiWorkerStrategy` on loopback, with the same number of images per step, so the
global batch grows with the number of workers. All workers share the cores of this machine, so the script compares CPU
time, which every worker would have to itself on a machine of its own. The exchange is TensorFlow's ring over gRPC,
measured on zeros in the shapes of the gradients. Its shares are its CPU time and wall-clock time, divided by those of a
step.
"""

import argparse
import json
import os
import resource
import socket
import sys
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

EACH = 32  # images per worker and step
MODELS = {"ResNet-20, 32 px": 10, "MobileNetV2, 96 px": 4}  # number of measured steps


def build(name):
    import keras

    from recipes import models

    if name.startswith("ResNet"):
        return models.resnet((32, 32, 3), 10, depth=20), (32, 32, 3)
    # Batch normalization uses each worker's own images; exchanging its statistics is not measured here.
    return keras.applications.MobileNetV2((96, 96, 3), weights=None, classes=10), (96, 96, 3)


def work(name, count, index, ports, out):
    """One worker, which writes its figures to a file, as JSON."""
    import contextlib
    import warnings

    import keras
    import numpy as np
    import tensorflow as tf

    from recipes.distribution import MultiWorkerStrategy

    warnings.simplefilter("ignore")  # plain batch normalization is intended here
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(2)
    strategy = None
    if count > 1:
        strategy = MultiWorkerStrategy([f"127.0.0.1:{port}" for port in ports], index, communication="ring")
    keras.utils.set_random_seed(0)
    with strategy.scope() if strategy else contextlib.nullcontext():
        model, shape = build(name)
        model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "sparse_categorical_crossentropy")
    steps = MODELS[name]
    images = np.random.default_rng(0).normal(size=(EACH * count, *shape)).astype("float32")
    data = tf.data.Dataset.from_tensors((images, np.zeros(EACH * count, "int64"))).repeat()
    marks = []
    clock = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda step, logs: marks.append((time.process_time(), time.monotonic()))
    )
    model.fit(data, steps_per_epoch=steps + 3, epochs=1, verbose=0, callbacks=[clock])
    cpu, wall = (marks[-1][one] - marks[2][one] for one in range(2))
    exchange = exchanged(strategy, model) if strategy else (0.0, 0.0)
    rows = {
        "model": name,
        "workers": count,
        "index": index,
        "cpu": cpu / steps,
        "wall": wall / steps,
        "exchange cpu": exchange[0],
        "exchange wall": exchange[1],
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "gradients": sum(int(np.prod(v.shape)) for v in model.trainable_variables) * 4 / 2**20,
    }
    Path(out).write_text(json.dumps(rows))


def exchanged(strategy, model, times=10):
    """CPU and wall-clock seconds of one exchange of gradients."""
    import tensorflow as tf

    shapes = [v.shape for v in model.trainable_variables]

    @tf.function
    def exchange():
        def all_reduce():
            zeros = [tf.zeros(shape) for shape in shapes]
            return tf.distribute.get_replica_context().all_reduce("SUM", zeros)

        return strategy.run(all_reduce)

    for _ in range(2):
        exchange()
    cpu, wall = time.process_time(), time.monotonic()
    for _ in range(times):
        [one.numpy() for one in tf.nest.flatten(exchange())[:1]]
    return (time.process_time() - cpu) / times, (time.monotonic() - wall) / times


def together(name, count, folder):
    """All workers of one case, forked from this process, which has imported TensorFlow."""
    ports, workers = free_ports(count), []
    for index in range(count):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                work(name, count, index, ports, folder / f"{index}.json")
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        workers.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) for worker in workers]
    if any(codes):
        sys.exit(f"The workers of {name} ended with {codes}.")
    return [json.loads((folder / f"{index}.json").read_text()) for index in range(count)]


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def show(rows):
    print(
        "| model | workers | images per CPU second | relative to one worker | exchange, share of CPU time | "
        "exchange, share of clock time | MB per worker |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|")
    alone = {}
    for name in MODELS:
        for count in range(1, 4):
            mine = [row for row in rows if (row["model"], row["workers"]) == (name, count)]
            if not mine:
                continue
            mean = {key: sum(row[key] for row in mine) / len(mine) for key in mine[0] if key != "model"}
            speed = EACH / mean["cpu"]
            alone.setdefault(name, speed)
            print(
                f"| {name} | {count} | {speed:.0f} | {speed / alone[name]:.2f} | "
                f"{mean['exchange cpu'] / mean['cpu']:.1%} | {mean['exchange wall'] / mean['wall']:.1%} | "
                f"{mean['megabytes']:.0f} |"
            )


def record(steps=1_000_000, variables=65, layers=60):
    """Fill a record like a run of ResNet-20 in which every step is probed; print its size in memory and packed."""
    import numpy as np

    from recipes.probe.record import AXES, Probe, Record

    names = {"inputs": 3, "variables": variables, "layers": layers, "activations": 19}
    filled = Record()
    axes = {
        axis: {
            key: np.array([f"{axis}{i}" for i in range(count)])
            if key not in ("units", "depth", "size", "factor")
            else np.full(count, 32)
            for key in AXES[axis]
        }
        for axis, count in names.items()
    }
    filled.describe(axes, ["update_norm", "weight_norm", "gradient_norm", "mean", "std", "output_finite"], [])
    draw, pool = np.random.default_rng(0), []
    for _ in range(512):  # random numbers, which compress badly
        values = {
            name: draw.random(variables, "float32")
            for name in ("update_norm", "weight_norm", "gradient_norm")
        }
        values |= {name: draw.random(19, "float32") for name in ("mean", "std")}
        pool.append(({**values, "output_finite": np.ones(layers, bool)}, draw.random(19 * 32, "float32")))
    start, rows = time.process_time(), []
    for step in range(steps):
        values, rates = pool[step * 7 % 509]
        filled.add(Probe(step, step // 1000, values, rates))
        if step + 1 in (1000, 10_000, 100_000, 1_000_000):
            seconds = time.process_time() - start
            packed = len(filled.to_bytes()) / 2**20
            held = sum(
                value.nbytes for row in filled._rows for value in row.values() if hasattr(value, "nbytes")
            )
            held += sum(units.nbytes for _, units in filled._units)
            rows.append((step + 1, len(filled), held / 2**20, packed, 1e6 * seconds / (step + 1)))
            start = time.process_time() - seconds
    print(
        "| probed steps | rows kept | MB in memory | MB packed | microseconds a probe |\n|---:|---:|---:|---:|---:|"
    )
    for count, kept, held, packed, each in rows:
        print(f"| {count} | {kept} | {held:.2f} | {packed:.2f} | {each:.0f} |")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, default=Path("scaling.jsonl"), help="results, one JSON line per worker"
    )
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--show", action="store_true")
    parser.add_argument("--record", action="store_true")
    arguments = parser.parse_args()
    if arguments.record:
        record()
        return
    rows = [json.loads(line) for line in open(arguments.out)] if arguments.out.exists() else []
    if not arguments.show:
        import tempfile

        import tensorflow  # noqa: F401 - imported before the forks

        import recipes.models  # noqa: F401 - the same

        until = time.monotonic() + 60 * arguments.minutes
        for name in MODELS:
            for count in range(1, 4):
                done = any((row["model"], row["workers"]) == (name, count) for row in rows)
                if not done and time.monotonic() < until:
                    with tempfile.TemporaryDirectory() as folder:
                        found = together(name, count, Path(folder))
                    rows += found
                    with open(arguments.out, "a") as file:
                        file.writelines(json.dumps(row) + "\n" for row in found)
    show(rows)


if __name__ == "__main__":
    main()
