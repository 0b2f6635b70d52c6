"""Attacks: within their bounds exactly, as strong as foolbox's, and less so after adversarial training."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from recipes import explain
from recipes.explain.adversarial import norms
from recipes.explain.adversarial.norms import project_exactly

RANGE = (0, 255)


def accuracy(model, images, labels):
    return float((model.predict(images, verbose=0).argmax(1) == labels).mean())


def test_fgsm_is_one_signed_step_of_the_cross_entropy(trained_cnn):
    model, images, labels = trained_cnn
    images, labels = images[:20].astype("float32"), labels[:20]
    logits = keras.Model(model.inputs[0], model.get_layer("logits").output)
    with tf.GradientTape() as tape:
        x = tf.constant(images)
        tape.watch(x)
        loss = tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits(x)))
    expected = np.clip(images + 10 * np.sign(tape.gradient(loss, x)), 0, 255)
    np.testing.assert_allclose(
        explain.fgsm(model, images, labels, epsilon=10, value_range=RANGE), expected, atol=1e-4
    )


@pytest.mark.parametrize(("norm", "epsilon"), [("inf", 12.3), ("l2", 77.7)])
def test_pgd_keeps_its_bounds_exactly_and_lowers_accuracy(trained_cnn, norm, epsilon):
    model, images, labels = trained_cnn
    images, labels = images[:200], labels[:200]
    options = {"epsilon": epsilon, "value_range": RANGE, "norm": norm, "steps": 15}
    found = explain.pgd(model, images, labels, **options)
    change = found.astype("float64") - images
    size = np.abs(change).max() if norm == "inf" else np.sqrt(np.square(change).sum((1, 2, 3))).max()
    assert size <= epsilon and found.min() >= 0 and found.max() <= 255
    assert accuracy(model, found, labels) < accuracy(model, images, labels) - 0.2
    # An image's attack depends neither on its batch nor on its neighbors.
    alone = explain.pgd(model, images[:3], labels[:3], batch_size=2, **options)
    np.testing.assert_allclose(alone, found[:3], atol=0.02)
    wanted = (labels + 1) % 10
    targeted = explain.pgd(model, images, wanted, targeted=True, **options)
    assert accuracy(model, targeted, wanted) > accuracy(model, found, wanted)


def test_restarts_never_weaken_an_attack(trained_cnn):
    model, images, labels = trained_cnn
    options = {"epsilon": 10, "value_range": RANGE, "steps": 5}
    once = explain.pgd(model, images[:64], labels[:64], **options)
    thrice = explain.pgd(model, images[:64], labels[:64], restarts=3, **options)
    loss = keras.losses.SparseCategoricalCrossentropy(reduction="none")

    def losses(x):
        return np.asarray(loss(labels[:64], model.predict(x, verbose=0)))

    assert (losses(thrice) >= losses(once) - 1e-3).all()


@pytest.mark.parametrize("norm", ["inf", "2"])
def test_projection_is_exact_in_float64_for_awkward_numbers(norm):
    generator = np.random.default_rng(0)
    original = generator.uniform(0, 1, (50, 5, 5, 3)).astype("float32")
    moved = original + generator.normal(0, 1, original.shape).astype("float32")
    epsilon = 1 / 3
    found = project_exactly(moved, original, epsilon, norm, (0.0, 1.0))
    change = found.astype("float64") - original
    size = np.abs(change) if norm == "inf" else np.sqrt(np.square(change).sum((1, 2, 3)))
    assert size.max() <= epsilon and size.max() > epsilon * (1 - 1e-6 if norm == "inf" else 0.2)
    assert found.min() >= 0 and found.max() <= 1


def test_success_rates_agree_with_foolbox_at_the_same_budget(trained_cnn):
    foolbox = pytest.importorskip("foolbox")
    model, images, labels = trained_cnn
    images, labels = images[:300].astype("float32"), labels[:300]
    logits = keras.Model(model.inputs[0], model.get_layer("logits").output)
    peer = foolbox.TensorFlowModel(lambda x: logits(x, training=False), bounds=RANGE)
    attacks = [
        (foolbox.attacks.LinfFastGradientAttack(random_start=False), explain.fgsm, {}),
        (
            foolbox.attacks.LinfPGD(abs_stepsize=2.5, steps=10, random_start=False),
            explain.pgd,
            {"step_size": 2.5, "steps": 10, "random_start": False},
        ),
        (
            foolbox.attacks.L2PGD(abs_stepsize=20, steps=10, random_start=False),
            explain.pgd,
            {"step_size": 20, "steps": 10, "random_start": False, "norm": "l2"},
        ),
    ]
    for attack, ours, options in attacks:
        epsilon = 80.0 if options.get("norm") else 16.0
        _, theirs, _ = attack(peer, tf.constant(images), tf.constant(labels), epsilons=epsilon)
        found = ours(model, images, labels, epsilon=epsilon, value_range=RANGE, **options)
        assert abs(accuracy(model, found, labels) - accuracy(model, theirs.numpy(), labels)) <= 0.01


def test_fool_reaches_the_target_with_less_than_its_last_step(trained_cnn):
    model, images, labels = trained_cnn
    images, wanted = images[:12], (labels[:12] + 1) % 10
    found = explain.fool(model, images, wanted)
    assert found.success.all() and accuracy(model, found.images, wanted) == 1
    np.testing.assert_allclose(found.images - images, found.difference, atol=1e-5)
    np.testing.assert_allclose(found.magnified, np.clip(127.5 + 10 * found.difference, 0, 255), atol=1e-3)
    plain = explain.fool(model, images, wanted, halvings=0)
    assert (found.distance <= plain.distance + 1e-3).all()
    # One part in 2^10 nearer along the line and the target is lost: nothing smaller would do.
    nearer = images + (found.images - images) * (1 - 2**-9)
    assert accuracy(model, nearer, wanted) < 0.5
    one = explain.fool(model, images[0], wanted[0])
    np.testing.assert_allclose(one.images, found.images[0], atol=0.05)


def test_adversarial_training_makes_fit_robust_and_leaves_the_model_as_it_was(digits):
    images, labels = digits
    models = []
    for robust in (False, True):
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                keras.layers.Rescaling(1 / 255),
                keras.layers.Conv2D(16, 3, padding="same", activation="relu"),
                keras.layers.Flatten(),
                keras.layers.Dense(10, activation="softmax"),
            ]
        )
        model.compile(keras.optimizers.Adam(5e-3), "sparse_categorical_crossentropy")
        before = dict(vars(model))
        if robust:
            with explain.adversarial_training(model, epsilon=40, value_range=RANGE, steps=4):
                model.fit(images[:1400], labels[:1400], epochs=5, batch_size=64, verbose=0)
            assert (
                "train_step" not in vars(model) and before.keys() - {"train_function"} <= vars(model).keys()
            )
        else:
            model.fit(images[:1400], labels[:1400], epochs=5, batch_size=64, verbose=0)
        models.append(model)
    test, truth = images[1400:], labels[1400:]
    attacked = [
        accuracy(m, explain.pgd(m, test, truth, epsilon=40, value_range=RANGE, steps=10), truth)
        for m in models
    ]
    assert accuracy(models[1], test, truth) > 0.75
    assert attacked[1] > attacked[0] + 0.2


def test_consistency_training_pulls_noisy_representations_together(digits):
    images, labels = digits
    drifts = []
    for weight in (0.0, 5.0):
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [keras.Input((8, 8, 1)), keras.layers.Rescaling(1 / 255), keras.layers.Flatten()]
            + [
                keras.layers.Dense(32, activation="relu", name="code"),
                keras.layers.Dense(10, activation="softmax"),
            ]
        )
        model.compile(keras.optimizers.Adam(5e-3), "sparse_categorical_crossentropy")
        with explain.consistency_training(model, "code", value_range=RANGE, noise=0.2, weight=weight):
            model.fit(images[:1000], labels[:1000], epochs=4, batch_size=64, verbose=0)
        noisy = np.clip(images[1000:] + np.random.default_rng(1).normal(0, 51, images[1000:].shape), 0, 255)
        codes = [explain.features(model, x, "code") for x in (images[1000:], noisy)]
        drifts.append(np.square(codes[0] - codes[1]).sum() / np.square(codes[0]).sum())
        assert "compute_loss" not in vars(model)
    assert drifts[1] < 0.8 * drifts[0]


def test_smoothed_predict_is_the_mean_over_noisy_copies(trained_cnn):
    model, images, _ = trained_cnn
    plain = explain.smoothed_predict(model, images[:5], value_range=RANGE, noise=0.0, samples=2)
    np.testing.assert_allclose(plain, model.predict(images[:5], verbose=0), atol=1e-5)
    smooth = explain.smoothed_predict(
        model, images[:5], value_range=RANGE, noise=0.2, samples=3, batch_size=2
    )
    copies = [
        np.clip(images[:5] + 51 * np.random.default_rng([0, sample]).normal(size=(1, 8, 8, 1)), 0, 255)
        for sample in range(3)
    ]
    expected = np.mean([model.predict(copy, verbose=0) for copy in copies], axis=0)
    np.testing.assert_allclose(smooth, expected, atol=1e-4)
    blurred = explain.smoothed_predict(model, images[0], value_range=RANGE, blur=1.0, samples=1)
    assert blurred.shape == (10,) and abs(blurred.sum() - 1) < 1e-4


def test_one_sigmoid_counts_as_two_classes(digits):
    images, labels = digits
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(1, activation="sigmoid")]
    )
    weights = model.layers[-1].kernel.numpy()[:, 0].reshape(8, 8, 1)
    for label, direction in ((1, -1), (0, 1)):
        found = explain.fgsm(model, images[:4], label, epsilon=1, value_range=(-10, 300))
        np.testing.assert_allclose(
            found - images[:4], np.broadcast_to(direction * np.sign(weights), found.shape), atol=1e-4
        )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, x: explain.pgd(m, x, 1, epsilon=-1, value_range=RANGE), "at least 0. Received -1"),
        (lambda m, x: explain.pgd(m, x, 1, epsilon=1, value_range=(0, 1)), "within value_range"),
        (lambda m, x: explain.pgd(m, x, 10, epsilon=1, value_range=RANGE), "classes in 0 ... 9"),
        (lambda m, x: explain.pgd(m, x, [1, 2], epsilon=1, value_range=RANGE), "one class number per image"),
        (lambda m, x: explain.pgd(m, x, None, epsilon=1, value_range=RANGE), "Received None"),
        (lambda m, x: explain.fgsm(m, x, 1, epsilon=1, value_range=RANGE, norm="l1"), "'inf' or 'l2'"),
        (lambda m, x: explain.fool(m, x, m.predict(x, verbose=0).argmax(1)), "other than the prediction"),
        (
            lambda m, x: explain.adversarial_training(m, epsilon=-1, value_range=RANGE).__enter__(),
            "epsilon >= 0",
        ),
        (lambda m, x: explain.smoothed_predict(m, x, value_range=RANGE, samples=0), "samples >= 1"),
    ],
)
def test_attacks_say_what_to_type(trained_cnn, call, message):
    with pytest.raises(ValueError, match=message):
        call(trained_cnn[0], trained_cnn[1][:3])


def test_a_norm_nobody_wrote_is_refused_by_every_step_of_an_attack():
    image = np.ones((1, 2, 2, 1), "float32")
    for use in (
        lambda: norms.steepest(tf.constant(image), "1"),
        lambda: norms.project(tf.constant(image), image, 0.1, "1", 0.0, 1.0),
        lambda: norms.project_exactly(image, image, 0.1, "1", (0.0, 1.0)),
        lambda: norms.random_change([0], (2, 2, 1), "1"),
        lambda: norms.random_changes(tf.random.Generator.from_seed(0), tf.shape(image), "1"),
        lambda: norms.norm_named("pgd", True),
    ):
        with pytest.raises(ValueError, match="expect"):
            use()
