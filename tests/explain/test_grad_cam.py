"""Grad-CAM against an explicit sub-model."""

import keras
import numpy as np
import tensorflow as tf

from recipes import explain


def test_grad_cam_is_the_weighted_sum_of_the_papers_equations(trained_cnn):
    model, images, _ = trained_cnn
    images = images[:3]
    sub = keras.Model(model.inputs[0], [model.get_layer("conv2").output, model.get_layer("logits").output])
    with tf.GradientTape() as tape:
        maps, logits = sub(images.astype("float32"))
        score = logits[:, 7]
    weights = tf.reduce_mean(tape.gradient(score, maps), (1, 2))
    expected = tf.nn.relu(tf.reduce_sum(maps * weights[:, None, None], -1))
    np.testing.assert_allclose(
        explain.grad_cam(model, images, 7, resize=False), expected, rtol=1e-4, atol=1e-6
    )
    resized = tf.image.resize(expected[..., None], (8, 8))[..., 0]
    np.testing.assert_allclose(explain.grad_cam(model, images, 7), resized, rtol=1e-4, atol=1e-6)
