"""What TensorFlow would keep of train functions that nobody has any more."""

import gc
import weakref

import keras
import numpy as np
import tensorflow as tf

from recipes.callbacks import GradientMonitor
from recipes.common.memory import forget_train_functions


def fitted(callbacks=()):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(np.zeros((4, 2)), np.zeros((4, 1)), verbose=0, callbacks=list(callbacks))
    return model


def test_train_functions_are_freed_with_their_model():
    forget_train_functions()
    fitted(), fitted()
    assert forget_train_functions() == 2
    assert forget_train_functions() == 0


def test_a_fit_with_a_monitor_leaves_no_train_function_behind():
    model = fitted([GradientMonitor(every_steps=1)])
    assert forget_train_functions() == 0
    graph = weakref.ref(model.optimizer)
    del model
    gc.collect()
    assert graph() is None


def test_sums_over_replicas_outside_train_functions_keep_their_gradient():
    @tf.function
    def summed(x):
        return tf.distribute.get_replica_context().all_reduce("sum", x * x)

    x = tf.Variable(3.0)
    summed(x)
    forget_train_functions()
    with tf.GradientTape() as tape:
        y = summed(x)
    assert float(tape.gradient(y, x)) == 6.0
