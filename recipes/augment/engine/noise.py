"""Random numbers for every pixel: a hash of the pixel's position and of a key per image, fast in compiled loops."""

import math

import tensorflow as tf

# TensorFlow's own generator (Philox, then Box-Muller) runs outside compiled code, in one thread, at 17 ns per number.
_GOLDEN = 0x9E3779B9


def uniform_noise(key: tf.Tensor, shape: tuple[int, ...], start: tf.Tensor | int = 0) -> tf.Tensor:
    """Independent numbers, uniform in [0, 1), multiples of 2**-24.

    The hash is "lowbias32" of Wellons 2018, "Prospecting for hash functions",
    https://nullprogram.com/blog/2018/07/31/: a change of any bit changes every bit of the result in half of the cases.
    The second word of the key enters between its two multiplications. Otherwise two images could get shifted copies of
    one sequence.

    Args:
        key: `(batch, 2)`, int32, any bits.
        shape: Shape of one image, at most 2**31 values.
        start: Index of the first value, to get the numbers of a part of an image.

    Returns:
        float32 of shape `(batch, *shape)`.
    """
    words = _mixed(tf.bitcast(key, tf.uint32))
    place = tf.bitcast(start + tf.range(math.prod(shape), dtype=tf.int32), tf.uint32)[None]
    bits = tf.bitwise.right_shift(_mixed(place * _word(_GOLDEN) + words[:, :1], words[:, 1:]), _word(8))
    # A float32 holds 24 bits exactly. Through int32, because processors have an instruction for that conversion.
    numbers = tf.cast(tf.bitcast(bits, tf.int32), tf.float32) * 2.0**-24
    return tf.reshape(numbers, (-1, *shape))


def normal_noise(key: tf.Tensor, shape: tuple[int, ...]) -> tf.Tensor:
    """Independent standard normal numbers, float32 `(batch, *shape)`, from -5.42 to 5.42.

    They are quantiles, sqrt(2) erfinv(2 u - 1) of the numbers u of `uniform_noise`, with the polynomials of Giles 2010,
    "Approximating the erfinv function", table 5 (relative error below 4e-7).

    Args:
        key: `(batch, 2)`, int32, any bits.
        shape: Shape of one image, at most 2**31 values.
    """
    # The center of each of the 2**24 intervals, which is neither 0 nor 1; the numbers are symmetric.
    signed = 2 * uniform_noise(key, shape) + (2.0**-24 - 1)
    return math.sqrt(2) * inverse_error_function(signed)


def inverse_error_function(values: tf.Tensor) -> tf.Tensor:
    """The inverse error function in single precision, for values in (-1, 1); Giles 2010, table 5."""
    depth = -tf.math.log((1 - values) * (1 + values))
    near = _polynomial(depth - 2.5, _CENTRAL)
    far = _polynomial(tf.sqrt(tf.maximum(depth, 5.0)) - 3, _TAIL)
    return values * tf.where(depth < 5, near, far)


_CENTRAL = (
    2.81022636e-08,
    3.43273939e-07,
    -3.5233877e-06,
    -4.39150654e-06,
    0.00021858087,
    -0.00125372503,
    -0.00417768164,
    0.246640727,
    1.50140941,
)
_TAIL = (
    -0.000200214257,
    0.000100950558,
    0.00134934322,
    -0.00367342844,
    0.00573950773,
    -0.0076224613,
    0.00943887047,
    1.00167406,
    2.83297682,
)


def _polynomial(variable, coefficients):
    result = coefficients[0]
    for coefficient in coefficients[1:]:
        result = result * variable + coefficient
    return result


def _mixed(bits, between=None):
    """The hash lowbias32 of every word; `between` is combined with the result of its first multiplication."""
    bits = _fold(bits, 16) * _word(0x7FEB352D)
    if between is not None:
        bits = tf.bitwise.bitwise_xor(bits, between)
    return _fold(_fold(bits, 15) * _word(0x846CA68B), 16)


def _word(value):
    return tf.constant(value, tf.uint32)


def _fold(bits, shift):
    return tf.bitwise.bitwise_xor(bits, tf.bitwise.right_shift(bits, _word(shift)))
