"""Mistakes that an editor shall underline: each marked line has one."""

import keras
import numpy as np

import recipes
from recipes import callbacks, explain

images = np.zeros((64, 32, 32, 3), "uint8")
labels = np.zeros(64, "int64")
model = keras.Sequential([keras.layers.Dense(10)])
recipes.train(model, (images, labels), epohcs=3)  # mistake for both
callbacks.WarmupDecay(decay="cosin")  # mistake for both
explain.grad_cam(model, images, 3, relu="maybe")  # mistake for both
explain.grad_cam("x", 5)  # mistake for pyright; for mypy keras.Model is Any
recipes.train(model, (images, labels), average="mean")  # mistake for both
recipes.train(model, (images, labels), resume="maybe")  # mistake for both
explain.saliency(model, images, batch_sise=4)  # mistake for both
explain.guided_backprop(model, images, compile="banana")  # mistake for both
explain.guided_backprop(model, images, seed=3)  # mistake for both
explain.class_image(model, 0, optimiser="adam")  # mistake for both
explain.pgd(model, images, labels, epsilon=8, value_range=(0, 255), norm="l1")  # mistake for both
