"""Train with recipes.train on several TensorFlow machines: here two processes on one machine, one of which is killed.

    python examples/several_machines.py    # about a minute

The script starts itself twice. Each process is a worker of `recipes.distribution.MultiWorkerStrategy`, which splits
every batch over both. The second worker is killed in the middle; the first one notices it and ends. Then both are
started again, continue from the backup in runs/several_machines/run, and end like a run that was not interrupted.

On real machines, start `work` on each of them at the same time, by hand or by a scheduler, with a run_dir that all of
them can read and write:

    python several_machines.py --cluster 10.0.0.1:9876,10.0.0.2:9876 --index 0 --out /shared/run    # on the first
    python several_machines.py --cluster 10.0.0.1:9876,10.0.0.2:9876 --index 1 --out /shared/run    # on the second

After a crash, run the same commands again. Under SLURM, or with TF_CONFIG set, leave out --cluster and --index, and add
--worker.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

# Only the workers import TensorFlow.


def work(arguments):
    """What every worker does, on one machine or on many."""
    import recipes
    from recipes.distribution import MultiWorkerStrategy

    cluster = arguments.cluster.split(",") if arguments.cluster else None
    strategy = MultiWorkerStrategy(cluster, arguments.index)  # before any other use of TensorFlow
    import keras

    keras.utils.set_random_seed(0)
    train, validation, info = recipes.data.load("digits", verbose=0)
    run = recipes.train(
        recipes.models.mlp(info.image_shape, len(info.class_names), hidden=(64,)),
        train,
        validation,
        info=info,
        epochs=arguments.epochs,
        batch_size=64,  # over all workers together
        strategy=strategy,
        callbacks=[power_cut(arguments.die_in)] if arguments.die_in else [],
        run_dir=arguments.out,
        resume=True,
        preflight=not arguments.quick,
        monitor=not arguments.quick,
        augment=None if arguments.quick else "standard",
        verbose=0,
    )
    loss = " ".join(f"{value:.3f}" for value in run.history["loss"])
    print(
        f"  worker {arguments.index or 0}: loss by epoch {loss}; validation {run.history['val_accuracy'][-1]:.2%}"
    )


def power_cut(epoch):
    """A callback that ends this process when an epoch begins."""
    import keras

    def end(at, logs):
        if at == epoch:
            os.kill(os.getpid(), signal.SIGKILL)

    return keras.callbacks.LambdaCallback(on_epoch_begin=end)


def start_both(arguments, die_in=0):
    """Start two workers on this machine, and return their exit codes."""
    cluster = ",".join(f"127.0.0.1:{port}" for port in free_ports())
    workers = []
    for index in range(2):
        own = {"cluster": cluster, "index": index, "epochs": arguments.epochs, "out": arguments.out}
        own["die-in"] = die_in if index == 1 else 0
        command = [sys.executable, __file__, *(f"--{name}={value}" for name, value in own.items())]
        command += ["--quick"] if arguments.quick else []
        workers.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
    return [worker.wait() for worker in workers]


def free_ports():
    """Two free ports."""
    with socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument(
        "--quick", action="store_true", help="two epochs without checks and monitors; no worker is killed"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/several_machines/run"),
        help="a folder that all workers can write to",
    )
    parser.add_argument("--cluster", help="host:port of every worker, separated by commas, the same on each")
    parser.add_argument("--index", type=int, help="index of this worker: 0, 1, ...")
    parser.add_argument(
        "--worker", action="store_true", help="a worker that reads TF_CONFIG or SLURM's variables"
    )
    parser.add_argument("--die-in", type=int, default=0, help="epoch in which this worker kills itself")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.epochs = 2
    if arguments.worker or arguments.cluster:
        work(arguments)
        return
    if (arguments.out / "run.json").exists():
        sys.exit(
            f"several_machines.py expects a new folder. {arguments.out} holds a run. Remove it, or pass another --out."
        )
    print(f"This takes {'half a minute' if arguments.quick else 'a minute or two'} on two cores.")
    print(f"recipes.train, {arguments.epochs} epochs on two workers of this machine")
    if not arguments.quick:
        began = time.monotonic()
        codes = start_both(arguments, die_in=arguments.epochs // 2)
        seconds = time.monotonic() - began
        print(
            f"  one was killed; after {seconds:.0f} s both had ended, with exit codes {codes}. Started again:"
        )
    if start_both(arguments) != [0, 0]:
        sys.exit(
            "Both workers should have ended with code 0. Start one of them by hand with --cluster and --index 0 to see "
            "why not."
        )
    print(f"Look at {arguments.out}: history.csv has every epoch once, and curves.png shows all of them.")


if __name__ == "__main__":
    main()
