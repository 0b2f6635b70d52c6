"""What one worker of a run does on TensorFlow, and one process alone; what it finds goes into a file.

python several_workers.py FOLDER INDEX COUNT PORT fits
python several_workers.py FOLDER INDEX COUNT PORT train [EPOCH]    # kills itself in the middle of that epoch
"""

import contextlib
import json
import os
import signal
import sys
import warnings
from pathlib import Path
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

import recipes
from recipes.common.datasets import remember_reader
from recipes.common.processes import is_first_process
from recipes.distribution import MultiWorkerStrategy

RANDOM = np.random.default_rng(0)
POINTS, PLACES = RANDOM.normal(size=(70, 6)).astype("float32"), RANDOM.integers(0, 3, 70)
IMAGES = RANDOM.integers(0, 256, (96, 8, 8, 1)).astype("uint8")
LABELS = (IMAGES[:, 0, 0, 0] > 120).astype(int)


class Kill(keras.callbacks.Callback):
    """The end of this process."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.now, batch) == (self.epoch, 4):
            os.kill(os.getpid(), signal.SIGKILL)


def network(normalized, **options):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(8, "relu")])
    if normalized:
        model.add(keras.layers.BatchNormalization(synchronized=normalized == "synchronized"))
    model.add(keras.layers.Dense(3, "softmax"))
    options = {"loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"], **options}
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), **options)
    return model


def fit(model, labels=PLACES, **options):
    history = model.fit(
        POINTS, labels, batch_size=16, epochs=2, shuffle=False, verbose=0, **options
    ).history  # the last batch has six examples
    weights = [weight.tolist() for weight in model.get_weights()]
    return {"weights": weights, **{name: np.asarray(values).tolist() for name, values in history.items()}}


def fits(strategy, scope):
    found = {}
    with scope():
        plain, normalized = network(None), network("synchronized")
        vector = network(None, loss="categorical_crossentropy", metrics=[keras.metrics.F1Score(average=None)])
        several, own = network(None, steps_per_execution=2), network("its own")
    found["plain"] = fit(plain, validation_data=(POINTS[:32], PLACES[:32]))
    found["normalized"] = fit(normalized)
    found["vector"] = fit(vector, np.eye(3, dtype="float32")[PLACES])
    found["evaluate"] = plain.evaluate(POINTS, PLACES, batch_size=16, verbose=0)
    found["predict"] = plain.predict(POINTS[:65], batch_size=16, verbose=0).tolist()
    if strategy is not None:
        found["reduce"] = by_hand(strategy)
        found["healed"] = healed(strategy)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fit(own)
        found["warned"] = [str(one.message) for one in caught if "moving statistics" in str(one.message)]
        try:
            fit(several)
        except ValueError as error:
            found["refused"] = str(error)
    return found


def by_hand(strategy):
    """What a loop that somebody wrote asks of `reduce`."""

    @tf.function
    def ask():
        def step():
            place = tf.distribute.get_replica_context().replica_id_in_sync_group
            return tf.cast(tf.range(3) + 10 * place, "float32"), tf.cast(place, "float32")

        examples, scalar = strategy.run(step)
        return {
            "sum of all": strategy.reduce("SUM", examples, axis=0),
            "mean of all": strategy.reduce(tf.distribute.ReduceOp.MEAN, examples, axis=0),
            "sum": strategy.reduce("SUM", examples, axis=None),
            "mean of scalars": strategy.reduce("MEAN", scalar, axis=0),
        }

    return {name: value.numpy().tolist() for name, value in ask().items()}


def healed(strategy):
    """A `fit` of Keras as it will be when it asks `reduce` rightly: what it asked, and what TensorFlow was asked."""
    trainer, own = keras.src.backend.tensorflow.trainer, tf.distribute.MultiWorkerMirroredStrategy
    ours, theirs, asked, reached = MultiWorkerStrategy.reduce, own.reduce, [], []

    def ask(self, reduce_op, value, axis=None):
        asked.append((value, axis))
        return ours(self, reduce_op, value, axis)

    def reach(self, reduce_op, value, axis):
        reached.append((value, axis))
        return theirs(self, reduce_op, value, axis)

    def mean(values, strategy, reduction):
        return keras.tree.map_structure(lambda value: strategy.reduce("MEAN", value, axis=None), values)

    def build(self, iterator=None, data_batch=None):
        batch = next(next(iter(iterator))[2])
        with strategy.scope():
            self._symbolic_build(data_batch=tf.nest.map_structure(local, batch))

    def local(part):
        return strategy.experimental_local_results(part)[0]

    with strategy.scope():
        model = network(None)
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(MultiWorkerStrategy, "reduce", ask))
        stack.enter_context(mock.patch.object(own, "reduce", reach))
        stack.enter_context(mock.patch.object(trainer, "reduce_per_replica", mean))
        stack.enter_context(mock.patch.object(trainer.TensorFlowTrainer, "_maybe_symbolic_build", build))
        found = fit(model)
    same = [one is other and of == axis for (one, of), (other, axis) in zip(asked, reached, strict=False)]
    return {"fit": found, "asked": len(asked), "reached": len(reached), "as asked": sum(same)}


def train(strategy, folder, *, monitor=True, dies_in=None):
    keras.utils.set_random_seed(1)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Rescaling(1 / 128, -1),
            layers.Conv2D(4, 3, activation="relu"),
            layers.BatchNormalization(),  # is made synchronized
            layers.Flatten(),
            layers.Dense(2, "softmax"),
        ]
    )
    monitors = [recipes.callbacks.UpdateRatioMonitor(every_steps=2)] if monitor else []
    run = recipes.train(
        model,
        (IMAGES, LABELS),
        (IMAGES[:32], LABELS[:32]),
        epochs=3,
        batch_size=16,
        strategy=strategy,
        average="ema",
        early_stopping=3,
        callbacks=[*monitors, *([Kill(dies_in)] if dies_in is not None else [])],
        monitor=monitor,
        preflight=False,
        run_dir=folder,
        resume=True,
        backup_every=2,
        verbose=0,
    )
    if strategy is not None and not monitor and is_first_process():
        run.report(
            folder.parent / "report.html"
        )  # as most write what is to be there once: the others do not come
    return {
        "weights": [weight.tolist() for weight in run.model.get_weights()],
        **{name: values for name, values in run.history.items() if "seconds" not in name},
    }


def trains(strategy, folder, dies_in):
    found = {"watched": train(strategy, folder / "watched", dies_in=dies_in)}
    return {**found, "unwatched": train(strategy, folder / "unwatched", monitor=False)}


def shares(strategy, folder):
    """`recipes.train` on photos of which each worker reads its part: what came out, and how many were read."""
    keras.utils.set_random_seed(1)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Rescaling(1 / 128, -1),
            layers.Conv2D(4, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(2, "softmax"),
        ]
    )
    read = []

    def image_of(number):
        read.append(int(number))
        return IMAGES[number], LABELS[number]

    def reader(numbers, first=0):
        del first
        pairs = numbers.map(lambda number: tf.numpy_function(image_of, [number], [tf.uint8, tf.int64]))
        return pairs.map(lambda x, y: (tf.ensure_shape(x, (8, 8, 1)), tf.ensure_shape(y, ())))

    data = reader(tf.data.Dataset.range(60)).apply(tf.data.experimental.assert_cardinality(60))
    remember_reader(data, reader)
    monitor = recipes.callbacks.UpdateRatioMonitor(every_steps=2, warn=False)
    looked = {}
    counting = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: looked.update(before=len(read)))
    run = recipes.train(
        model,
        data,
        (IMAGES[:32], LABELS[:32]),
        epochs=2,
        batch_size=24,
        strategy=strategy,
        callbacks=[monitor, counting],
        monitor=False,
        preflight=False,
        run_dir=folder / "shares",
        verbose=0,
    )
    return {
        "weights": [weight.tolist() for weight in run.model.get_weights()],
        "loss": run.history["loss"],
        "val_loss": run.history["val_loss"],
        "record": run.record.update_norm.tolist(),
        "read": len(read) - looked["before"],
    }


class OwnStep(keras.Model):
    """A training step as many write it for one device."""

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(y, self(x, training=True)))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return {"loss": loss}


def lengths(strategy, index):
    with strategy.scope():
        model = network(None)
        own = OwnStep(model.inputs, model.outputs)
        own.compile("sgd")
    found = {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        own.fit(POINTS[:32], PLACES[:32], batch_size=16, verbose=0)
    found["own step"] = [str(one.message) for one in caught if "train_step divided" in str(one.message)]
    try:
        model.fit((pair for pair in [(POINTS[:16], PLACES[:16])] * 3), verbose=0)
    except ValueError as error:
        found["generator"] = str(error)
    try:
        model.fit(tf.data.Dataset.from_tensor_slices((POINTS, PLACES)).batch(16).take(3 + index), verbose=0)
    except ValueError as error:
        return {**found, "refused": str(error)}


def kinds(strategy, folder, index):
    """Averages, snapshots, the range test and a guard that goes back, each on all workers alike."""
    found = {} if strategy is None else lengths(strategy, index)
    callbacks = recipes.callbacks
    guard = callbacks.NonFiniteGuard(every_steps=1, restore=True, factor=1e-9, copy_every=1)
    runs = {
        "swa": {"average": "swa"},
        "snapshots": {"snapshots": 2},
        "preflight": {"preflight": True},
        "guard": {"optimizer": "sgd", "learning_rate": 1e25, "callbacks": [guard]},
    }
    for name, options in runs.items():
        keras.utils.set_random_seed(2)
        layers = keras.layers
        model = keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                layers.Rescaling(1 / 128, -1),
                layers.Flatten(),
                layers.Dense(6),
                layers.BatchNormalization(),
                layers.Dense(2, "softmax"),
            ]
        )
        options = {"monitor": False, "preflight": False, "augment": None, **options}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            run = recipes.train(
                model,
                (IMAGES, LABELS),
                epochs=4,
                batch_size=24,
                strategy=strategy,
                run_dir=folder / name,
                verbose=0,
                **options,
            )
        found[name] = [weight.tolist() for weight in run.model.get_weights()]
    with contextlib.nullcontext() if strategy is None else strategy.scope():
        model = network(None)
    tried = recipes.diagnose.learning_rate_range_test(model, (POINTS, PLACES), batch_size=16, steps=30)
    return {**found, "restores": guard.restores, "range": tried.losses.tolist()}


def frozen(strategy, folder, index):
    def freeze(epoch, logs):
        if epoch == 1 and index == 1:
            print("frozen", flush=True)
            os.kill(os.getpid(), signal.SIGSTOP)

    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(2, "softmax")]
    )
    options = {"monitor": False, "preflight": False, "verbose": 0, "run_dir": folder / "frozen"}
    stop = [keras.callbacks.LambdaCallback(on_epoch_begin=freeze)]
    recipes.train(model, (IMAGES, LABELS), epochs=3, strategy=strategy, callbacks=stop, **options)
    return {}


def written_below(folder):
    """A list that will have the files of that folder which this process writes, makes or removes."""
    written = []

    def note(event, about):
        writes = event == "open" and isinstance(about[1], str) and set(about[1]) & set("wax+")
        if (writes or event in ("os.mkdir", "os.rename", "os.remove")) and str(folder) in str(about[0]):
            written.append(str(about[1] if event == "os.rename" else about[0]))

    sys.addaudithook(note)
    return written


def main(folder, index, count, port, task, dies_in=None):
    folder, index, count, port = Path(folder), int(index), int(count), int(port)
    strategy, scope = None, contextlib.nullcontext
    if count > 1:
        strategy = MultiWorkerStrategy([f"127.0.0.1:{port + number}" for number in range(count)], index)
        scope = strategy.scope
    own = folder if count > 1 else folder / "alone"
    tasks = {
        "fits": lambda: fits(strategy, scope),
        "train": lambda: trains(strategy, own, None if dies_in is None else int(dies_in)),
        "shares": lambda: shares(strategy, own),
        "kinds": lambda: kinds(strategy, own, index),
        "frozen": lambda: frozen(strategy, own, index),
    }
    written = written_below(folder)
    found = tasks[task]()
    (folder / f"written-{count}-{index}.json").write_text(json.dumps(list(written)))
    (folder / f"{task}-{count}-{index}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
