"""FGSM and PGD: adversarial examples with the highest loss within a given distance of the images."""

import dataclasses
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from typing_extensions import Unpack

from recipes.common.types import FloatArray, Images, Labels, ValueRange
from recipes.common.validation import check_seed, is_number, is_whole
from recipes.explain.adversarial.attack import margins_of, prepare
from recipes.explain.adversarial.norms import project, project_exactly, random_change, steepest
from recipes.explain.engine import targets, tracing
from recipes.explain.engine.errors import UsageError
from recipes.explain.engine.image_spec import Canvas
from recipes.explain.engine.inputs import pack, see
from recipes.explain.engine.options import AttackOptions, Compile, Preprocess, check_flag, shares


@shares(AttackOptions)
def fgsm(
    model: keras.Model,
    images: Images,
    labels: Labels,
    *,
    epsilon: float,
    value_range: ValueRange,
    **options: Unpack[AttackOptions],
) -> FloatArray:
    """The fast gradient sign method: one step of length `epsilon` along the sign of the loss's gradient.

    Source: Goodfellow et al. 2014, "Explaining and Harnessing Adversarial Examples", section 4,
    https://arxiv.org/abs/1412.6572.

    Args, Returns, Raises: Those of `pgd`. `fgsm` is `pgd` with one step of size epsilon and no random start.
    """
    plan = _Plan(steps=1, step_size=epsilon, random_start=False, restarts=1, seed=0)
    return _attack("fgsm", model, images, labels, epsilon, value_range, plan, **options)


@shares(AttackOptions)
def pgd(
    model: keras.Model,
    images: Images,
    labels: Labels,
    *,
    epsilon: float,
    value_range: ValueRange,
    steps: int = 40,
    step_size: float | None = None,
    random_start: bool = True,
    restarts: int = 1,
    seed: int = 0,
    **options: Unpack[AttackOptions],
) -> FloatArray:
    """Projected gradient descent: steps along the loss's gradient, each projected back to distance `epsilon`.

    Source: Madry et al. 2017, "Towards Deep Learning Models Resistant to Adversarial Attacks", section 2.1,
    https://arxiv.org/abs/1706.06083. The attack increases the margin, which increases together with the cross-entropy.
    Its gradient has the same direction and does not vanish where the network is confident.

    Args:
        model: A built `keras.Model` with one image input and classes as output (one sigmoid counts as two).
            It is never changed.
        images: `(n, height, width, channels)` or one image, in `value_range`.
        labels: The true classes: one number, one number per image, or one-hot rows. With `targeted`, the classes that
            the attack aims at.
        epsilon: Largest change, >= 0, in the units of `value_range`: of each value ("inf"), or the Euclidean length of
            all changes of an image ("l2").
        value_range: `(low, high)` of the images, such as `(0, 255)`; the results stay in it.
        steps: Number of steps, >= 1.
        step_size: Length of a step, >= 0, in the units of `value_range`. None means 2.5 epsilon / steps, as in the
            paper's appendix.
        random_start: Whether to begin at a random image within `epsilon`.
        restarts: Number of attacks from different random starts, >= 1; the one with the highest loss is kept for each
            image.
        seed: Integer that fixes the random starts. The result for an image does not depend on the other images.
        options: The options of `AttackOptions`: the norm, whether the attack is targeted, and how the model is run.

    Returns:
        float32 of the shape of `images`, within `value_range`; `|result - images| <= epsilon` holds exactly.

    Raises:
        ValueError: when an argument is outside its range, images are outside `value_range`, or the labels do not fit
            the images or the model.
        TypeError: when the labels are not numbers.
    """
    check_seed("pgd", seed)
    known = is_whole(steps) and is_whole(restarts) and is_number(epsilon)
    if not known or not (step_size is None or is_number(step_size)):
        raise UsageError(
            "pgd expects steps and restarts to be whole numbers, epsilon and step_size to be numbers. Received "
            f"steps={steps!r}, restarts={restarts!r}, epsilon={epsilon!r} and step_size={step_size!r}. "
            "Leave out all but epsilon for the defaults."
        )
    check_flag("pgd", "random_start", random_start)
    step_size = default_step(epsilon, steps) if step_size is None else step_size
    plan = _Plan(steps, step_size, random_start, restarts, seed)
    return _attack("pgd", model, images, labels, epsilon, value_range, plan, **options)


def default_step(epsilon: float, steps: int) -> float:
    """The default step size 2.5 epsilon / steps: all steps together can reach the border of the ball from any start."""
    return 2.5 * epsilon / max(1, steps)


def stepped(
    images: tf.Tensor,
    gradient: tf.Tensor,
    original: tf.Tensor,
    ball: tuple[Any, str],
    step_size: Any,
    limits: tuple[Any, Any],
) -> tf.Tensor:
    """One step of PGD: along the steepest direction, then projected to the ball and to the range.

    Source: Madry et al. 2017, section 2.1.

    Args:
        images, gradient, original: float32 `(n, height, width, channels)`.
        ball: `(epsilon, norm)`, the norm "inf" or "2".
        step_size: Length of the step, in the units of the images.
        limits: `(low, high)` of the images.

    Returns:
        float32 `(n, height, width, channels)`.
    """
    epsilon, norm = ball
    return project(images + step_size * steepest(gradient, norm), original, epsilon, norm, *limits)


@dataclasses.dataclass(frozen=True)
class _Plan:
    """The numbers of steps and restarts, the step size and the random start of an attack."""

    steps: int
    step_size: float
    random_start: bool
    restarts: int
    seed: int


def _attack(method, model, images, labels, epsilon, value_range, plan, *, norm, **options):
    preprocess, compile = options["preprocess"], options["compile"]
    if labels is None:
        raise UsageError(
            f"{method} expects labels: the true classes, or with targeted=True the classes to aim at. Received None. "
            "Without true classes, give the model's own predictions."
        )
    canvas, images, single, target, norm = prepare(method, model, images, labels, value_range, epsilon, norm)
    if min(plan.steps, plan.restarts) < 1 or max(plan.steps, plan.restarts) > 10**6 or plan.step_size < 0:
        raise UsageError(
            f"{method} expects steps >= 1, restarts >= 1 and step_size >= 0. Received steps={plan.steps}, "
            f"restarts={plan.restarts}, step_size={plan.step_size}. Leave them out for the defaults."
        )
    low, high = canvas.value_range
    check_classes(method, model, target, canvas, images[:1], preprocess, compile)
    settings = np.array([epsilon, plan.step_size, low, high, plan.steps], "float32")
    found, worst = images.copy(), np.full(len(images), -np.inf, "float32")
    for restart in range(plan.restarts):
        for start, stop in tracing.chunks(len(images), options["batch_size"]):
            original = images[start:stop]
            begin = original
            if plan.random_start:
                noise = [
                    random_change([plan.seed, restart, row], original.shape[1:], norm)
                    for row in range(start, stop)
                ]
                begin = np.clip(original + epsilon * np.stack(noise), low, high).astype("float32")
            attacked, loss, _ = tracing.evaluate(
                model,
                _climb,
                [settings, original, begin, target.index[start:stop, 0]],
                compile=compile,
                shapes=[(5,), *[(None, *original.shape[1:])] * 2, (None,)],
                keys=canvas.keys,
                norm=norm,
                targeted=bool(options["targeted"]),
                preprocess=preprocess,
                channels_first=canvas.channels_first,
            )
            better = loss.numpy() > worst[start:stop]
            found[start:stop][better] = attacked.numpy()[better]
            worst[start:stop] = np.maximum(worst[start:stop], loss.numpy())
    found = project_exactly(found, images, epsilon, norm, canvas.value_range)
    return found[0] if single else found


def check_classes(
    method: str,
    model: keras.Model,
    target: targets.Target,
    canvas: Canvas,
    image: FloatArray,
    preprocess: Preprocess,
    compile: Compile,
) -> None:
    """Raise `UsageError` when the model has not one output `(n, classes)`, or a label is not one of its classes."""
    outputs = getattr(model, "outputs", None)
    if outputs and len(outputs) > 1:
        raise UsageError(
            f"{method} expects a model with one output. Model '{model.name}' has {len(outputs)}. Wrap it in a "
            "keras.Model with only the output to attack."
        )
    if outputs:
        logits = outputs[0]
    else:
        options = {"preprocess": preprocess, "channels_first": canvas.channels_first, "keys": canvas.keys}
        logits = tracing.evaluate(model, _classes, [image], compile=compile, **options)
    if len(logits.shape) != 2:
        raise UsageError(
            f"{method} expects a model whose output is (n, classes). Model '{model.name}' gives {tuple(logits.shape)}. "
            "Wrap it in a keras.Model that ends in one value per class."
        )
    classes = max(2, logits.shape[-1])
    if target.index.max() >= classes:
        raise UsageError(
            f"{method} expects classes in 0 ... {classes - 1}. Received label {target.index.max()}. Count from 0."
        )


def _climb(model, settings, original, images, labels, *, keys, norm, targeted, preprocess, channels_first):
    """The whole attack on one batch: `(images, loss that is maximized (n,), predicted class (n,))`."""
    epsilon, step_size, low, high, steps = tf.unstack(settings)
    sign = -1.0 if targeted else 1.0

    def loss_of(images):
        loss, predicted = margins_of(model, see(images, preprocess, channels_first), labels, keys)
        return sign * loss, predicted

    def body(step, images):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(images)
            loss, _ = loss_of(images)
        gradient = tape.gradient(loss, images)
        return step + 1, stepped(images, gradient, original, (epsilon, norm), step_size, (low, high))

    _, images = tf.while_loop(lambda step, _: step < steps, body, (0.0, images), parallel_iterations=1)
    loss, predicted = loss_of(images)
    return images, loss, predicted


def _classes(model, images, *, keys, preprocess, channels_first):
    outputs = model(pack(model, [see(images, preprocess, channels_first)], keys), training=False)
    (values,) = targets.flat_outputs(model, outputs, targets.Spec("class"))
    return values
