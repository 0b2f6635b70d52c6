import keras
import numpy as np
import pytest

from recipes import ensemble


def member(classes=4, activation="softmax", shape=(6,), name="member", dtype=None, seed=0):
    keras.utils.set_random_seed(seed)
    dense = keras.layers.Dense(
        classes, activation=activation, kernel_initializer="glorot_normal", dtype=dtype
    )
    return keras.Sequential([keras.Input(shape), dense], name=name)


@pytest.fixture(scope="module")
def inputs():
    return np.random.default_rng(0).normal(size=(7, 6)).astype("float32")


@pytest.fixture(scope="module")
def members():
    return [member(seed=seed) for seed in range(3)]


def softmax(scores):
    raised = np.exp(scores - scores.max(-1, keepdims=True))
    return raised / raised.sum(-1, keepdims=True)


def scores_of(model, inputs):
    kernel, bias = model.get_weights()
    return inputs.astype("float64") @ kernel + bias


@pytest.mark.parametrize("weights", [None, [2, 1, 5]])
def test_probabilities_are_the_weighted_arithmetic_mean(members, inputs, weights):
    shares = np.ones(3) / 3 if weights is None else np.array(weights) / 8
    expected = sum(
        share * softmax(scores_of(model, inputs)) for share, model in zip(shares, members, strict=True)
    )
    model = ensemble.average(members, weights)
    assert isinstance(model, keras.Model)
    np.testing.assert_allclose(model.predict(inputs, verbose=0), expected, rtol=1e-5)


def test_logits_are_the_normalized_geometric_mean(members, inputs):
    mean = sum(scores_of(model, inputs) for model in members) / 3
    found = ensemble.average(members, space="logit").predict(inputs, verbose=0)
    np.testing.assert_allclose(found, softmax(mean), rtol=1e-4)


def test_members_that_give_logits_mix_with_members_that_give_probabilities(members, inputs):
    twin = member(activation=None)
    twin.set_weights(members[0].get_weights())
    for space in ("probability", "logit"):
        mixed = ensemble.average([twin, members[1]], space=space).predict(inputs, verbose=0)
        plain = ensemble.average(members[:2], space=space).predict(inputs, verbose=0)
        np.testing.assert_allclose(mixed, plain, rtol=1e-4)


def test_sigmoids_average_as_independent_answers(inputs):
    pair = [member(activation="sigmoid", seed=0), member(activation=None, classes=1, seed=1)]
    first, second = (1 / (1 + np.exp(-scores_of(model, inputs))) for model in pair)
    ours = ensemble.average([pair[0], pair[0]]).predict(inputs, verbose=0)
    np.testing.assert_allclose(ours, first, rtol=1e-5)
    other = member(activation="sigmoid", seed=2)
    mean = (scores_of(pair[0], inputs) + scores_of(other, inputs)) / 2
    both = ensemble.average([pair[0], other], space="logit").predict(inputs, verbose=0)
    np.testing.assert_allclose(both, 1 / (1 + np.exp(-mean)), rtol=1e-4)
    single = ensemble.average([pair[1]], space="logit").predict(inputs, verbose=0)
    np.testing.assert_allclose(single, second, rtol=1e-4)


def test_an_ensemble_saves_as_one_file_and_is_a_member_itself(members, inputs, tmp_path):
    compiled = member(seed=5)
    compiled.compile("sgd", lambda labels, outputs: outputs)
    both = ensemble.average([ensemble.average(members[:2]), compiled], weights=[2, 1], space="logit")
    both.save(tmp_path / "both.keras")
    again = keras.saving.load_model(tmp_path / "both.keras")
    np.testing.assert_allclose(again.predict(inputs, verbose=0), both.predict(inputs, verbose=0), rtol=1e-6)
    assert len(again.weights) == 6


def test_mixed_precision_several_inputs_and_random_layers(inputs):
    def two_inputs(seed):
        keras.utils.set_random_seed(seed)
        left, right = keras.Input((6,), name="left"), keras.Input((6,), name="right")
        x = keras.layers.Dropout(0.5)(keras.layers.Concatenate()([left, right]))
        outputs = keras.layers.Dense(3, activation="softmax", dtype="mixed_float16")(x)
        return keras.Model({"left": left, "right": right}, outputs)

    pair = [two_inputs(0), two_inputs(1)]
    given = {"left": inputs, "right": -inputs}
    model = ensemble.average(pair)
    expected = np.mean([each.predict(given, verbose=0).astype("float32") for each in pair], axis=0)
    found = model.predict(given, verbose=0)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=2e-3)
    assert not np.allclose(model(given, training=True), found)


def test_a_subclassed_member_says_what_its_outputs_are_beside_a_plain_one(members, inputs):
    class Plain(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(4)

        def call(self, inputs):
            return self.dense(inputs)

    plain = Plain()
    plain(inputs)
    plain.dense.set_weights(members[1].get_weights())
    mixed = ensemble.average([members[0], plain], from_logits=[None, True]).predict(inputs, verbose=0)
    expected = ensemble.average(members[:2]).predict(inputs, verbose=0)
    np.testing.assert_allclose(mixed, expected, rtol=1e-5)
    with pytest.raises(ValueError, match="Give from_logits"):
        ensemble.average([members[0], plain])
    with pytest.raises(ValueError, match="subclassed models only"):
        ensemble.average([plain], from_logits=True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (lambda: ([],), "at least one model"),
        (lambda: ([member(4), member(5)],), "same classes.*member: 4 softmax, member: 5 softmax"),
        (lambda: ([member(4), member(4, "sigmoid")],), "same classes"),
        (lambda: ([member(4), member(4, shape=(7,))],), "take the same input"),
        (lambda: ([member(4)], [1, 2]), "one weight"),
        (lambda: ([member(4), member(4)], [1, -1]), "one weight"),
        (lambda: ([member(4)], None, "median"), "space to be one of"),
        (lambda: ([member(4, "tanh")],), "probabilities from logits"),
    ],
)
def test_what_cannot_be_averaged_says_why(arguments, says):
    with pytest.raises(ValueError, match=says):
        ensemble.average(*arguments())


def test_disagreement_counts_different_answers():
    answers = np.array([[0, 1, 2, 2], [0, 1, 2, 0], [1, 1, 0, 0]])
    expected = np.array([[0, 0.25, 0.75], [0.25, 0, 0.5], [0.75, 0.5, 0]])
    np.testing.assert_array_equal(ensemble.disagreement(answers), expected.astype("float32"))
    np.testing.assert_array_equal(ensemble.disagreement(np.eye(3)[answers]), expected.astype("float32"))
    with pytest.raises(ValueError, match="np.stack"):
        ensemble.disagreement(np.zeros((3, 0, 4)))


def test_members_differ_by_seed_and_repeat_by_seed(digits):
    images, labels = digits

    def build():
        return keras.Sequential(
            [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10, activation="softmax")]
        )

    def trained(seed, members):
        data, quick = (
            (images[:64], labels[:64]),
            {"epochs": 1, "batch_size": 32, "verbose": 0, "monitor": False},
        )
        return ensemble.train_members(build, data, members=members, seed=seed, **quick)

    first, second = trained(3, members=2)
    assert np.abs(first.get_weights()[0] - second.get_weights()[0]).max() > 0.01
    again = trained(4, members=1)[0]
    np.testing.assert_array_equal(again.get_weights()[0], second.get_weights()[0])
    with pytest.raises(ValueError, match="members >= 1"):
        ensemble.train_members(build, (images, labels), members=0)


def test_members_that_cannot_all_be_trained_are_refused_before_the_first(digits, tmp_path, monkeypatch):
    images, labels = digits
    layer, trained = keras.layers.Dense(10), []
    monkeypatch.setattr("recipes.ensemble.members.train_one", lambda *_, **__: trained.append(1))

    def around(head):
        return keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), head])

    same = around(keras.layers.Dense(10))
    for build in (lambda: same, lambda: around(layer)):
        with pytest.raises(ValueError, match="Move the construction"):
            ensemble.train_members(build, (images, labels), members=2)
    (tmp_path / "file").mkdir()
    (tmp_path / "file" / "member2").write_text("mine")
    (tmp_path / "folder" / "member2").mkdir(parents=True)
    (tmp_path / "folder" / "member2" / "history.csv").write_text("mine")
    for name, says in (("file", "a file of that name"), ("folder", "holds history.csv and no run.json")):
        with pytest.raises(ValueError, match=says):
            ensemble.train_members(
                lambda: around(keras.layers.Dense(10)), (images, labels), run_dir=tmp_path / name
            )
    assert not trained
