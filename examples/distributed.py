"""Train on two devices of one machine, then in two processes that act as two machines, one of which is killed.

    python examples/distributed.py    # two virtual devices, then two processes, of one CPU: about two minutes

1. `recipes.train` in a MirroredStrategy, with monitors, compared with one device at the same global batch size.
2. Plain `fit` on Keras' JAX backend (extra `jax`) with keras.distribution. The script starts itself twice. Each process
   reads its part of the images, and the first one writes the files. The second process is killed in the middle of an
   epoch. Then both are started again, continue from their backup, and end with the same weights as a run that was not
   interrupted.
3. `recipes.train` on two TensorFlow workers, one of which is killed: examples/several_machines.py.
4. Prints the commands for real machines.

Writes to runs/distributed/ the weights and backups of the uninterrupted and the interrupted run (.npz), and the output
of each process (process0.txt, process1.txt). The folder compiled/ saves later processes the time to compile.

On real machines, start the second part by hand or by a scheduler, on every machine at the same time. Pass the address
of the first machine, a free port on it, and a folder that all machines can read and write. After a crash, start it
again in the same way. Copy `connect` and `work` for your own script, without the lines marked "here".

    KERAS_BACKEND=jax python distributed.py --address 10.0.0.1:9876 --processes 4 --process 0 --out /shared/run
"""

import argparse
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow is quiet about the GPU it does not find

import keras
import numpy as np
import tensorflow as tf

import recipes
from recipes import augment, callbacks, data, layers, plot, schedules

COMMANDS = """On real machines, start at the same time on each machine, with a folder that all of them can write to:

  TensorFlow, machine 0 of 2 (use --index 1 on the other):
    python examples/several_machines.py --cluster 10.0.0.1:9876,10.0.0.2:9876 --index 0 --out /shared/run
  TensorFlow under SLURM, which gives each process its index:
    srun --nodes=2 --ntasks-per-node=1 python examples/several_machines.py --worker --out /shared/run
  JAX, machine 0 of 2 (use --process 1 on the other):
    KERAS_BACKEND=jax python examples/distributed.py --address 10.0.0.1:9876 --processes 2 --process 0 --out /shared/run

After a crash, run the same commands again. docs/rooms/distribution.md has files for SLURM and Kubernetes."""
BATCH = 64  # images per step, over all devices or processes together
RATE = 0.02  # peak learning rate of SGD with momentum


def build(info):
    """A small network without batch normalization, whose statistics would be those of one device's images only."""
    keras.utils.set_random_seed(
        1
    )  # the same weights in every process; tf.data refuses to join 0 with an epoch
    inputs = keras.Input(info.image_shape)
    hidden = keras.layers.Rescaling(1 / 128, offset=-1)(inputs)
    hidden = layers.MaxoutConv2D(16, 3, kernel_constraint=layers.MaxNorm(2.0))(hidden)
    hidden = keras.layers.Conv2D(32, 3, activation="relu")(layers.InstanceNormalization()(hidden))
    outputs = keras.layers.Dense(len(info.class_names), "softmax")(keras.layers.Flatten()(hidden))
    model = keras.Model(inputs, outputs)
    optimizer = keras.optimizers.SGD(RATE, momentum=0.9)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def two_devices(epochs):
    """The same run on one device and on two, number by number."""
    cpu = tf.config.list_physical_devices("CPU")[
        0
    ]  # here one CPU acts as two; with GPUs use MirroredStrategy()
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    train, validation, info = data.load("digits", verbose=0)
    train = train.take(1600)  # whole batches, because replicas with unequal parts have unequal weights
    found = []
    for strategy in (tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])):
        with strategy.scope():
            model = build(info)
        monitors = [
            callbacks.UpdateRatioMonitor(every_steps=5, high=0.1),
            callbacks.GradientMonitor(every_steps=5),
        ]
        options = {"preflight": False, "monitor": False, "verbose": 0, "info": info, "strategy": strategy}
        run = recipes.train(
            model, train, validation, epochs=epochs, batch_size=BATCH, callbacks=monitors, **options
        )
        found.append(run.history)
    print(f"recipes.train, {epochs} epochs{'':15}one device   two devices")
    for name in ("loss", "val_loss", "val_accuracy", "monitor/update_ratio", "monitor/gradient_norm"):
        print(f"  {name:28}" + "".join(f"{history[name][-1]:14.6f}" for history in found))
    return found[1]


def connect(arguments):
    """Join the other processes, and tell Keras that each batch is split over all of them."""
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")  # for CPUs; GPUs have their own
    tf.config.set_visible_devices([], "GPU")  # TensorFlow reads the images, and leaves the GPU to JAX
    keras.distribution.initialize(
        arguments.address, num_processes=arguments.processes, process_id=arguments.process
    )
    devices = keras.distribution.list_devices()
    spread = keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False)  # `work` does it
    keras.distribution.set_distribution(spread)


def work(name, arguments):
    """One run in each process; if --out holds a backup of the run, the rest of that run."""
    shard = (arguments.process, arguments.processes)
    train, validation, info = data.load("digits", shard=shard, verbose=0)
    batch, steps = BATCH // arguments.processes, info.counts["train"] // BATCH  # the same in every process
    pipeline = augment.Pipeline([augment.PadCrop(1), augment.Rotate(10)], seed=0)

    def epoch(number):  # each epoch has its own order, also after a restart
        batches = train.shuffle(2000, seed=number).batch(batch, drop_remainder=True).take(steps)
        return pipeline.apply(batches, epoch=number, shard=shard)

    def power_cut(step, logs):
        if name == "interrupted" and int(model.optimizer.iterations) == arguments.die_after:
            os.kill(os.getpid(), signal.SIGKILL)

    others = [
        callbacks.LearningRate(schedules.OneCycle(RATE, steps * arguments.epochs)),
        callbacks.ExponentialMovingAverage(0.9),
        callbacks.EarlyStopping("val_loss", patience=5),
        keras.callbacks.LambdaCallback(on_train_batch_end=power_cut),  # here
    ]
    backup = callbacks.Backup(arguments.out / f"{name}.npz", others)
    model = build(info)
    print(f"  process {arguments.process}, {name}: the backup holds {backup.epochs_done} epochs", flush=True)
    history = model.fit(
        tf.data.Dataset.range(min(backup.epochs_done, arguments.epochs - 1), arguments.epochs).flat_map(
            epoch
        ),
        validation_data=validation.batch(batch).take(info.counts["validation"] // BATCH),
        epochs=arguments.epochs,
        steps_per_epoch=steps,
        verbose=0,
        callbacks=[*others, backup],
    ).history
    losses = " ".join(f"{loss:.4f}" for loss in history.get("loss", []))
    print(f"  process {arguments.process}, {name}: loss by epoch {losses}", flush=True)
    if arguments.process == 0:
        # Not model.save: it creates variables, and so waits for all processes.
        np.savez(arguments.out / f"{name}_weights.npz", *model.get_weights())


def start_both(arguments, die_after):
    """Start two processes of this script on this machine, and return their exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    environment |= {"JAX_COMPILATION_CACHE_DIR": str(arguments.out / "compiled")}
    environment |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2"}
    options = {name: getattr(arguments, name) for name in ("epochs", "runs", "out")}
    options |= {"address": address, "processes": 2}
    logs, processes = [arguments.out / f"process{index}.txt" for index in range(2)], []
    for index, log in enumerate(logs):
        own = {**options, "process": index, "die-after": die_after if index == 1 else 0}
        command = [sys.executable, __file__, *(f"--{name}={value}" for name, value in own.items())]
        with open(log, "w") as file:
            processes.append(subprocess.Popen(command, env=environment, stdout=file, stderr=file))
    try:
        if processes[1].wait(600) != 0:
            processes[0].kill()  # it would wait for the other forever; a scheduler would end it too
        processes[0].wait(60)
    finally:
        for process, log in zip(processes, logs, strict=True):
            process.kill()
            print("".join(line for line in open(log) if line.startswith("  process")), end="")
    return [process.returncode for process in processes]


def two_processes(arguments):
    """A run that is not interrupted, and one that loses a process and is started again."""
    names = arguments.runs.split(",")
    for name in names:
        (arguments.out / f"{name}.npz").unlink(missing_ok=True)
    if "interrupted" in names:
        print("fit on JAX in two processes, until one of them is killed")
        codes = start_both(arguments, die_after=25 * arguments.epochs // 2 + 5)  # 25 steps per epoch
        if codes[1] != -signal.SIGKILL:
            sys.exit(
                f"The second process should have been killed. {arguments.out}/process*.txt say what happened."
            )
    print("fit on JAX in two processes, to the end")
    if start_both(arguments, die_after=0) != [0, 0]:
        sys.exit(
            f"The two processes should have ended with code 0. {arguments.out}/process*.txt say why not."
        )
    _, validation, info = data.load("digits", verbose=0)
    weights = [[*np.load(arguments.out / f"{name}_weights.npz").values()] for name in names]
    if len(names) == 2:
        differences = [np.abs(one - other).max() for one, other in zip(*weights, strict=True)]
        print(f"largest difference between the weights of the two runs: {max(differences):.1e}")
    model = build(info)  # in this process, which runs on TensorFlow
    for name, values in zip(names, weights, strict=True):
        model.set_weights(values)
        accuracy = model.evaluate(validation.batch(BATCH), verbose=0, return_dict=True)["accuracy"]
        print(f"  {name:14} validation accuracy {accuracy:.2%}")


def two_workers(arguments):
    """The same on TensorFlow, by examples/several_machines.py."""
    script, folder = Path(__file__).with_name("several_machines.py"), arguments.out / "workers"
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, script, "--epochs=4", f"--out={folder}"], check=True)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=12, help="epochs of each run")
    parser.add_argument("--quick", action="store_true", help="two epochs on two devices; no processes")
    parser.add_argument("--out", type=Path, default=Path("runs/distributed"))
    parser.add_argument("--address", help="host:port of the first process; makes this process one of several")
    parser.add_argument("--processes", type=int, help="number of processes")
    parser.add_argument("--process", type=int, help="index of this process: 0, 1, ...")
    parser.add_argument(
        "--runs", default="uninterrupted,interrupted", help="runs to make, separated by commas"
    )
    parser.add_argument("--die-after", type=int, default=0, help="step after which this process kills itself")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.epochs = 2
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.address is None:
        signal.signal(
            signal.SIGTERM, lambda *_: sys.exit(143)
        )  # so that the processes below end with this one
        print(f"This takes {'some 15 seconds' if arguments.quick else 'a minute or two'} on two cores.")
        history = two_devices(arguments.epochs)
        plot.curves(history).savefig(arguments.out / "two_devices.png", dpi=100)
        if importlib.util.find_spec("jax") is None:
            print("JAX is not installed, so the second part is skipped: pip install 'keras-recipes[jax]'")
        elif not arguments.quick:
            two_processes(arguments)
        if not arguments.quick:
            two_workers(arguments)
        print(COMMANDS)
        print(
            f"Look at {arguments.out}: two_devices.png has the curves; process0.txt and process1.txt, if they were "
            "started, say what the processes did."
        )
    else:
        connect(arguments)
        for name in arguments.runs.split(","):
            work(name, arguments)


if __name__ == "__main__":
    main()
