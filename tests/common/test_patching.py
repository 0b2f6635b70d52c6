import contextlib
import threading

import keras
import numpy as np
import pytest

from recipes import ensemble, explain
from recipes.callbacks import ActivationMonitor
from recipes.common.patching import replaced, wrapped

layers = keras.layers


class Counter:
    """An object with a method of its own."""

    def count(self, amount):
        return amount + 1


def doubled(method):
    return lambda amount: 2 * method(amount)


def elsewhere(function, *args):
    """What `function` gives in another thread."""
    results = []
    thread = threading.Thread(target=lambda: results.append(function(*args)))
    thread.start()
    thread.join()
    return results[0]


def test_a_stand_in_is_called_by_its_own_thread_only():
    counter = Counter()
    with wrapped([(counter, "count", doubled)]):
        assert counter.count(3) == 8
        assert elsewhere(counter.count, 3) == 4
    assert counter.count(3) == 4 and not vars(counter)


def test_the_inner_of_two_blocks_wraps_the_outer_one():
    counter = Counter()
    with wrapped([(counter, "count", doubled)]):
        with wrapped([(counter, "count", lambda method: lambda amount: method(amount) + 5)]):
            assert counter.count(3) == 13
        assert counter.count(3) == 8


def test_blocks_of_two_threads_may_overlap_in_any_order():
    counter = Counter()
    begun, go_on = threading.Event(), threading.Event()

    def other():
        with wrapped([(counter, "count", doubled)]):
            begun.set()
            go_on.wait(10)
            results.append(counter.count(3))

    results = []
    thread = threading.Thread(target=other)
    with wrapped([(counter, "count", lambda method: lambda amount: -method(amount))]):
        thread.start()
        assert begun.wait(10) and counter.count(3) == -4
    assert counter.count(3) == 4  # ours has ended, theirs has not
    go_on.set()
    thread.join()
    assert results == [8] and not vars(counter)


def test_an_attribute_of_the_instance_is_put_back_after_an_error():
    counter = Counter()
    own = counter.count = lambda amount: amount + 100
    with (
        pytest.raises(KeyboardInterrupt),
        wrapped([(counter, "count", doubled), (counter, "count", doubled)]),
    ):
        assert counter.count(0) == 400
        raise KeyboardInterrupt
    assert vars(counter) == {"count": own}


def test_replaced_values_that_end_in_another_order_leave_the_first_one():
    counter, first, second = Counter(), contextlib.ExitStack(), contextlib.ExitStack()
    counter.limit = 1
    first.enter_context(replaced([(counter, "limit", 2), (counter, "new", 0)]))
    second.enter_context(replaced([(counter, "limit", 3)]))
    first.close()
    assert counter.limit == 3 and not hasattr(counter, "new")
    second.close()
    assert vars(counter) == {"limit": 1}


@contextlib.contextmanager
def called_meanwhile(model, batch):
    """Another thread calls the model over and over; yields the outputs it got."""
    begun, stop, outputs = threading.Event(), threading.Event(), []

    def work():
        while not stop.is_set():
            outputs.append(np.asarray(model(batch, training=False)))
            begun.set()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert begun.wait(30)
        yield outputs
    finally:
        stop.set()
        thread.join()


@pytest.fixture
def network():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.Conv2D(4, 3, activation="relu", name="last"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3, activation="softmax"),
        ]
    )


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(size=(12, 8, 8, 3)).astype("float32")


@pytest.mark.parametrize(
    ("method", "options"),
    [("grad_cam", {"compile": False}), ("grad_cam", {}), ("guided_backprop", {})],
)
def test_maps_are_right_while_another_thread_calls_the_model(network, images, method, options):
    explained, plain = getattr(explain, method), np.asarray(network(images))
    twin = keras.models.clone_model(network)
    twin.set_weights(network.get_weights())
    with called_meanwhile(network, images) as outputs:
        busy = [explained(network, images, target=target, verbose=0, **options) for target in (0, 1, 2)]
    quiet = [explained(twin, images, target=target, verbose=0, **options) for target in (0, 1, 2)]
    np.testing.assert_allclose(busy, quiet, atol=1e-6)
    assert len(outputs) > 1 and all(np.allclose(output, plain, atol=1e-6) for output in outputs)
    assert not any("call" in vars(layer) for layer in network.layers)


def test_refreshed_statistics_are_right_while_another_thread_calls_the_model(network, images):
    ensemble.refresh_batch_norm(network, images)
    quiet, plain = network.get_weights(), np.asarray(network(images))
    with called_meanwhile(network, images) as outputs:
        for _ in range(4):
            ensemble.refresh_batch_norm(network, images)
            for value, expected in zip(network.get_weights(), quiet, strict=True):
                np.testing.assert_array_equal(value, expected)
    assert len(outputs) > 1 and all(np.allclose(output, plain, atol=1e-6) for output in outputs)


def test_a_probe_records_its_own_step_while_another_thread_calls_the_model(network, images):
    """Eagerly, where every probed step runs under the hooks."""
    start, labels = network.get_weights(), np.arange(12) % 3

    def norms(busy):
        network.set_weights(start)
        network.compile(keras.optimizers.SGD(1e-3), "sparse_categorical_crossentropy", run_eagerly=True)
        monitor = ActivationMonitor(every_steps=1)
        with called_meanwhile(network, images) if busy else contextlib.nullcontext():
            network.fit(images, labels, batch_size=6, epochs=2, shuffle=False, verbose=0, callbacks=[monitor])
        return monitor.record

    quiet, busy = norms(False), norms(True)
    np.testing.assert_array_equal(quiet.mean, busy.mean)
    assert quiet.mean.shape == (4, 3)
