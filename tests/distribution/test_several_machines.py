"""What Keras 3 on TensorFlow cannot do yet over several machines: shown, so that the day it can is noticed."""

import json
import socket

import pytest
from fresh_process import FreshProcess

pytestmark = pytest.mark.slow

SCRIPT = """
import keras, numpy as np, tensorflow as tf

strategy = tf.distribute.MultiWorkerMirroredStrategy()
with strategy.scope():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
try:
    model.fit(np.ones((8, 3), "float32"), np.ones((8, 1), "float32"), batch_size=4, verbose=0)
except ValueError as error:
    print("ValueError:", "PerReplica" in str(error))
else:
    print("trained")
import recipes
try:
    recipes.train(model, (np.ones((8, 3)), np.ones(8)), strategy=strategy, verbose=0)
except ValueError as error:
    print(error)
"""


def free_ports(number):
    held = [socket.socket() for _ in range(number)]
    try:
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()


def test_fit_of_several_workers_fails_in_keras_itself_and_train_says_where_to_go(tmp_path):
    workers = [f"127.0.0.1:{port}" for port in free_ports(2)]
    script, processes = tmp_path / "worker.py", []
    script.write_text(SCRIPT, encoding="utf-8")
    for index in range(2):
        task = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
        processes.append(FreshProcess(script, folder=tmp_path, TF_CONFIG=json.dumps(task)))
    for process in processes:
        process.wait(180)
        process.kill()
    for process in processes:
        lines = process.printed.splitlines()
        assert lines, process.complained[-3000:]
        assert lines[0] == "ValueError: True", (
            f"Keras' fit under MultiWorkerMirroredStrategy said {lines[0]!r}. If it trains now, let recipes.train "
            "take that strategy (recipes/common/processes.py), and say so in the README."
        )
        assert "KERAS_BACKEND=jax with keras.distribution.DataParallel" in lines[1]
