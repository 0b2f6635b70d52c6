"""The training set-ups that benchmarks/slow_training.py measures: slow ones with one cause each, and healthy ones."""

import keras
import numpy as np
import tensorflow as tf

AUTOTUNE = tf.data.AUTOTUNE
EXAMPLES, BATCH, CLASSES = 2048, 64, 10


def cnn(side, dtype=None):
    return keras.Sequential(
        [
            keras.Input((side, side, 3)),
            keras.layers.Conv2D(16, 3, activation="relu", dtype=dtype),
            keras.layers.Conv2D(32, 3, strides=2, activation="relu", dtype=dtype),
            keras.layers.GlobalAveragePooling2D(dtype=dtype),
            keras.layers.Dense(CLASSES, activation="softmax", dtype=dtype),
        ]
    )


def mlp(side, dtype=None):
    return keras.Sequential(
        [
            keras.Input((side, side, 3)),
            keras.layers.Flatten(dtype=dtype),
            keras.layers.Dense(256, activation="relu", dtype=dtype),
            keras.layers.Dense(256, activation="relu", dtype=dtype),
            keras.layers.Dense(CLASSES, activation="softmax", dtype=dtype),
        ]
    )


def mixer(side, dtype=None):
    """Dense layers on the rows of an image."""
    return keras.Sequential(
        [
            keras.Input((side, side, 3)),
            keras.layers.Reshape((side, side * 3), dtype=dtype),
            keras.layers.Dense(256, activation="relu", dtype=dtype),
            keras.layers.Dense(256, activation="relu", dtype=dtype),
            keras.layers.GlobalAveragePooling1D(dtype=dtype),
            keras.layers.Dense(CLASSES, activation="softmax", dtype=dtype),
        ]
    )


MODELS = {"cnn": cnn, "mlp": mlp, "mixer": mixer}


def arrays(side, count=EXAMPLES):
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (count, side, side, 3)).astype("float32") / 255
    return images, generator.integers(0, CLASSES, count)


def compiled(model, **options):
    model.compile("adam", "sparse_categorical_crossentropy", **options)
    return model


def slices(side, count=EXAMPLES):
    return tf.data.Dataset.from_tensor_slices(arrays(side, count))


def jpegs(side, count):
    """JPEG files in memory."""
    images = np.random.default_rng(0).integers(0, 256, (32, side, side, 3)).astype("uint8")
    files = [tf.io.encode_jpeg(image).numpy() for image in images]
    return tf.data.Dataset.from_tensor_slices(
        (np.array([files[i % 32] for i in range(count)], object), np.arange(count) % CLASSES)
    )


def decode(to):
    def decoded(file, label):
        image = tf.image.resize(tf.io.decode_jpeg(file, channels=3), (to, to)) / 255
        return tf.ensure_shape(image, (to, to, 3)), label

    return decoded


def work(repeats):
    """A function of TensorFlow operations that keep one processor busy."""

    def busy(images, labels):
        changed = images
        for _ in range(repeats):
            changed = tf.sin(changed) + tf.sqrt(tf.abs(changed))
        return images + 1e-9 * changed, labels

    return busy


def small_operations(image, label):
    """An augmentation written for one example."""
    for seed in range(12):
        flip = tf.random.stateless_uniform((), (seed, 1)) < 0.5
        image = tf.where(flip, tf.reverse(image, (1,)), image)
        image = tf.clip_by_value(image * 1.01, 0.0, 1.0)
    return image, label


def in_python(image, label):
    changed = tf.numpy_function(_slow_flip, (image,), tf.float32)
    return tf.ensure_shape(changed, image.shape), label


def _slow_flip(image):
    for _ in range(100):
        image = image[:, ::-1].copy()
    return image


class Predicts(keras.callbacks.Callback):
    """Reads all weights and calls the model after every batch."""

    def on_train_batch_end(self, batch, logs=None):
        for _ in range(3):
            self.model.get_weights()
        self.model(tf.zeros((64, *self.model.input_shape[1:])))


class Numbers(keras.callbacks.Callback):
    """Passes a Python number to a tf.function after every batch, which traces it every time."""

    def __init__(self):
        super().__init__()
        self.steps = 0
        self.function = tf.function(lambda number: tf.reduce_sum(tf.range(10) * number))

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1
        self.function(self.steps)


# Each function takes a model builder, and returns (model, data, options of throughput) and the repaired pair or None.


def python_map(build):
    def train(function):
        return slices(32).map(function, num_parallel_calls=AUTOTUNE).batch(BATCH).prefetch(2)

    return (compiled(build(32)), train(in_python), {}), None


def no_prefetch(build):
    options = tf.data.Options()
    options.experimental_optimization.inject_prefetch = False  # TensorFlow adds one itself
    plain = slices(32).batch(BATCH).map(work(8)).with_options(options)
    return (compiled(build(32)), plain, {}), (None, plain.prefetch(2))


def serial_map(build):
    options = tf.data.Options()
    options.experimental_optimization.map_parallelization = False  # TensorFlow does it itself

    def train(**calls):
        return slices(32).map(work(150), **calls).batch(BATCH).prefetch(2).with_options(options)

    return (compiled(build(32)), train(), {}), (None, train(num_parallel_calls=AUTOTUNE))


def small_batch(build):
    train = slices(16)
    return (compiled(build(16)), train.batch(2).prefetch(2), {}), (None, train.batch(8).prefetch(2))


def shuffle_decoded(build):
    train = jpegs(160, 2048).map(decode(32), num_parallel_calls=AUTOTUNE).shuffle(2048)
    return (compiled(build(32)), train.batch(BATCH).prefetch(2), {}), None


def map_per_example(build):
    train = slices(16).map(small_operations, num_parallel_calls=AUTOTUNE)
    return (compiled(build(16)), train.batch(BATCH).prefetch(2), {}), None


def retracing(build):
    return (compiled(build(32)), slices(32).batch(BATCH).prefetch(2), {"callbacks": [Numbers()]}), None


def float64(build):
    train = slices(32).batch(BATCH).prefetch(2)
    return (compiled(build(32, "float64")), train, {}), (compiled(build(32, "float32")), train)


def batch_callback(build):
    return (compiled(build(32)), slices(32).batch(BATCH).prefetch(2), {"callbacks": [Predicts()]}), None


def run_eagerly(build):
    train = slices(32).batch(BATCH).prefetch(2)
    return (compiled(build(32), run_eagerly=True), train, {}), (compiled(build(32)), train)


def steps_per_execution(build):
    batch = next(iter(slices(8).batch(32)))
    train = tf.data.Dataset.from_tensors(batch).repeat(1000).prefetch(16)
    kinds = {
        "cnn": keras.layers.ReLU,
        "mlp": keras.layers.Dropout,
        "mixer": keras.layers.LayerNormalization,
    }

    def small():
        layer = kinds[build.__name__]
        return keras.Sequential(
            [
                keras.Input((8, 8, 3)),
                keras.layers.Flatten(),
                keras.layers.Dense(CLASSES),
                layer(0.1) if layer is keras.layers.Dropout else layer(),
                keras.layers.Softmax(),
            ]
        )

    return (compiled(small()), train, {}), (compiled(small(), steps_per_execution=8), train)


def long_validation(build):
    train, held = slices(32).batch(BATCH).prefetch(2), slices(32, 4 * EXAMPLES).batch(BATCH).prefetch(2)
    return (compiled(build(32)), train, {"validation": held}), None


def mixed_precision(build):
    train = slices(32).batch(BATCH).prefetch(2)
    return (compiled(build(32, "mixed_float16")), train, {}), (compiled(build(32, "float32")), train)


def xla(build):
    train = slices(32).batch(BATCH).prefetch(2)
    return (compiled(build(32), jit_compile=True), train, {}), (compiled(build(32)), train)


def many_small_layers():
    """So many small operations that launching them costs more than computing them."""
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten()])
    for _ in range(12):
        model.add(keras.layers.Dense(24))
        model.add(keras.layers.LayerNormalization())
        model.add(keras.layers.Activation("gelu"))
    model.add(keras.layers.Dense(CLASSES, activation="softmax"))
    return model


def unrolled():
    """An unrolled recurrent network, in which every time step has its own operations."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Reshape((16, 12)),
            keras.layers.GRU(24, unroll=True),
            keras.layers.Dense(CLASSES, activation="softmax"),
        ]
    )


def attention():
    """Small attention layers on the rows of an image."""
    inputs = keras.Input((8, 8, 3))
    hidden = keras.layers.Dense(16)(keras.layers.Reshape((8, 24))(inputs))
    for _ in range(4):
        normed = keras.layers.LayerNormalization()(hidden)
        hidden = hidden + keras.layers.MultiHeadAttention(2, 8)(normed, normed)
        hidden = hidden + keras.layers.Dense(16, activation="gelu")(keras.layers.LayerNormalization()(hidden))
    outputs = keras.layers.Dense(CLASSES, activation="softmax")(keras.layers.Flatten()(hidden))
    return keras.Model(inputs, outputs)


def without_xla(build):
    small = {"cnn": many_small_layers, "mlp": unrolled, "mixer": attention}[build.__name__]
    batch = next(iter(slices(8).batch(32)))
    train = tf.data.Dataset.from_tensors(batch).repeat(1000).prefetch(16)
    return (compiled(small()), train, {}), (compiled(small(), jit_compile=True), train)


def too_many_threads(build):
    def train(calls):
        return slices(32).map(work(40), num_parallel_calls=calls).batch(BATCH).prefetch(2)

    return (compiled(build(32)), train(512), {}), (None, train(AUTOTUNE))


def decoded_every_epoch(build):
    train = jpegs(192, 1024).shuffle(1024).map(decode(32), num_parallel_calls=AUTOTUNE)
    return (compiled(build(32)), train.batch(BATCH).prefetch(2), {}), None


def keras_layer_in_map(build):
    layer = keras.layers.RandomRotation(0.1)
    train = slices(32).batch(BATCH)
    train = train.map(lambda images, labels: (layer(images, training=True), labels), AUTOTUNE)
    return (compiled(build(32)), train.prefetch(2), {}), None


PLANTED = (
    *(python_map, no_prefetch, serial_map, small_batch, shuffle_decoded, map_per_example, retracing, float64),
    *(batch_callback, run_eagerly, steps_per_execution, long_validation, mixed_precision, too_many_threads),
    *(decoded_every_epoch, keras_layer_in_map, xla, without_xla),
)
# Whether these are causes depends on the processor: the repaired program shows it.
BY_PROCESSOR = ("xla", "without_xla", "no_prefetch")
CODE_OF = {"without_xla": "xla"}  # if the code differs from the name of the cause
# With one processor, reading in parallel with the step, or in several calls, gains nothing.
NEED_TWO_PROCESSORS = ("no_prefetch", "serial_map")


def healthy(number, dtype=None, **options):
    """Healthy set-up number 0, 1, ...: they differ in model, image size, batch size and form of the data.

    `dtype` and the options of `compile` change how the model is built.
    """
    build = list(MODELS.values())[number % 3]
    side, batch = (32, 48)[number // 3 % 2], (64, 128)[number // 6 % 2]
    way = number // 12 % 4
    model = compiled(build(side, dtype), **options)
    data = arrays(side)
    if way == 0:
        return model, data, {"batch_size": batch}
    train = tf.data.Dataset.from_tensor_slices(data).shuffle(512)
    if way == 1:
        return model, train.batch(batch).prefetch(2), {}
    if way == 2:
        augmented = train.batch(batch).map(lambda x, y: (tf.reverse(x, (2,)), y), num_parallel_calls=AUTOTUNE)
        return model, augmented.prefetch(AUTOTUNE), {}
    held = tf.data.Dataset.from_tensor_slices(arrays(side, 256)).batch(batch)
    return model, train.cache().batch(batch).prefetch(2), {"validation": held}
