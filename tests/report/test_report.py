"""The report: one file, nothing executed, everything escaped, every figure described."""

import html
import html.parser
import re
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import binomtest

from recipes import explain, optimizers, plot
from recipes.callbacks import TrainingDoctor
from recipes.diagnose import Finding
from recipes.diagnose.margins.example_history import ExampleHistory
from recipes.diagnose.speed.slowdown import Slowdown
from recipes.diagnose.speed.throughput import Throughput
from recipes.probe import Record
from recipes.report import write_report
from recipes.report.data_issues import data_issues
from recipes.report.example_images import Predictions, predictions
from recipes.report.figures import figures_of, too_few_looks
from recipes.report.summary import (
    Leaks,
    check_command,
    how_good,
    may_be_guessing,
    no_better_than,
    verdict,
    what_to_do,
)
from recipes.report.tables import confusion_of, settings_of

HOSTILE = '<script>alert("x")</script>'


class Page(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "br", "path", "use", "rect", "image", "circle", "line"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in self.open:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    images = (images.reshape(-1, 8, 8, 1)[:400] * 15).astype("uint8")
    labels = labels[:400]
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Rescaling(1 / 127.5, offset=-1),
            keras.layers.Conv2D(8, 3, activation="relu", name="conv>bold"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(10, "softmax", name="predictions"),
        ]
    )
    optimizer = optimizers.layerwise(keras.optimizers.Adam(), model, {"backbone": 0.25})
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    doctor = TrainingDoctor(every_steps=4, verbose=0, strict=True)
    history = model.fit(
        images[:300],
        labels[:300],
        validation_data=(images[300:], labels[300:]),
        epochs=2,
        verbose=0,
        callbacks=[doctor],
    ).history
    cause = Finding("dead_relu", "error", HOSTILE, 2, f"Evidence {HOSTILE}", "Remedy & more.")
    symptom = Finding("not_learning", "warning", None, None, "It does not.", "Nothing.")
    findings = [Finding(**{**vars(cause), "consequences": (symptom,)})]
    run = SimpleNamespace(
        model=model,
        history=history,
        findings=findings,
        record=doctor.record,
        settings={"epochs": 2, "note": HOSTILE, "versions": {"keras": keras.__version__}},
    )
    names = [HOSTILE, *"123456789"]
    held_out = (images[300:], labels[300:])
    path = write_report(
        run, tmp_path_factory.mktemp("report") / "a" / "report.html", validation=held_out, class_names=names
    )
    return path.read_text(encoding="utf-8"), run, held_out


def test_the_page_is_one_file_under_3_mb_without_script_or_network(page):
    text, _, _ = page
    tags = Page(text).tags
    assert len(text.encode()) < 3e6
    assert not [tag for tag, _ in tags if tag in ("script", "link", "iframe", "object")]
    assert not [a for _, a in tags for name in a if name.startswith("on")]
    sources = [a[name] for _, a in tags for name in ("src", "href", "xlink:href") if name in a]
    assert sources and all(source.startswith(("data:image/png", "#")) for source in sources)
    assert "url(http" not in text


def test_names_from_the_run_are_data(page):
    text, _, _ = page
    parsed = Page(text)
    assert HOSTILE not in text and "conv>bold" not in text
    shown = "".join(parsed.text)
    assert HOSTILE in shown and "conv>bold" in shown
    assert parsed.open == []


def test_every_picture_has_a_description_and_ids_are_unique(page):
    text, _, _ = page
    tags = Page(text).tags
    assert all(a.get("alt") for tag, a in tags if tag == "img")
    figures = [a for tag, a in tags if tag == "svg"]
    assert len(figures) >= 3 and all(a.get("role") == "img" and a.get("aria-label") for a in figures)
    headings = [a["id"] for tag, a in tags if tag == "h2" and "id" in a]
    assert len(headings) == len(set(headings))
    # Black ink would be invisible on a dark page.
    assert "#000000" not in text


def test_verdict_first_then_cause_with_its_consequence_curves_and_settings(page):
    text, _, _ = page
    order = [
        text.index(word)
        for word in ("cannot work as it is", "dead relu", "not learning", "Curves", "Confusion", "versions")
    ]
    assert order == sorted(order)
    for heading in (
        "Update ratios",
        "Gradients by depth",
        "Activations",
        "confident right",
        "confident mistakes",
    ):
        assert heading in text


def test_the_layer_of_the_maps_is_named(page):
    text, run, (images, _) = page
    _, layer = explain.grad_cam(run.model, images[:1], return_layer=True)
    assert f"Grad-CAM at layer {html.escape(layer)}." in text


def test_layers_stand_with_the_factors_of_their_rate(page):
    text, _, _ = page
    rows = re.findall(r'<th scope="row">([^<]*)</th><td>[\d,]+</td>.*<td>([\d.]+)</td></tr>', text)
    assert rows == [("conv&gt;bold", "0.25"), ("predictions", "1")]


def test_confusion_counts_are_those_of_a_loop(page):
    text, run, (images, labels) = page
    seen = predictions(run.model, (images, labels), count=4)
    predicted = run.model.predict(images, verbose=0).argmax(-1)
    expected = np.zeros((10, 10), int)
    for actual, said in zip(labels, predicted, strict=True):
        expected[actual, said] += 1
    np.testing.assert_array_equal(seen.confusion(), expected)
    assert f"{(labels == predicted).sum()} of {len(labels)} held-out examples are right" in text
    assert all(example.label == example.predicted for example in seen.right)
    assert all(example.label != example.predicted for example in seen.wrong)
    assert seen.right[0].map.shape == (8, 8)
    sure = [example.confidence for example in seen.wrong]
    assert sure == sorted(sure, reverse=True)


def test_a_run_without_record_findings_or_data_has_a_page_too(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    run = SimpleNamespace(model=model, history={"loss": [1.0, 0.5]}, findings=[], record=None, settings={})
    text = write_report(run, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "No findings" in text and "Confusion" not in text


def test_what_was_not_checked_is_not_called_fine_and_trials_are_shown(tmp_path):
    tried = [{"remedy": "<b>slower</b>", "type": "rate = 0.1", "outcome": "helps", "gain": "loss +60% +- 2%"}]
    run = SimpleNamespace(model=None, history={"loss": [1.0, 0.5]}, findings=[], record=None)
    run.settings = {"before_training": {"skipped": ["initial_loss"], "enough_seconds": 120, "tried": tried}}
    run.settings |= {"data": "my photos", "image_shape": [224, 224, 3], "train_data": {"kind": "files"}}
    text = write_report(run, tmp_path / "page.html").read_text(encoding="utf-8")
    verdict = re.search('<div class="verdict (\\w+)".*?>(.*?)</div>', text, re.DOTALL)
    assert verdict.group(1) == "warning" and "Not checked, for lack of time: initial_loss." in verdict.group(
        2
    )
    assert "recipes check &#39;my photos&#39; --seconds 120 --image-size 224</code> in a shell" in text
    assert (
        check_command({}, 120) is None
        and check_command({"data": "digits"}, 60) == "recipes check digits --seconds 60"
    )
    assert "&lt;b&gt;slower&lt;/b&gt;" in text and "loss +60% +- 2%" in text
    run.settings = {"before_training": {"skipped": [], "tried": []}}
    text = write_report(run, tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Not checked" not in text and "tried out" not in text


def test_numbers_of_a_regression_are_no_classes():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    x = np.zeros((8, 2), "float32")
    assert predictions(model, (x, np.linspace(-1, 1, 8))) is None


def test_the_page_fits_a_phone_prints_and_has_a_dark_side(page):
    style = re.search(r"<style>(.*?)</style>", page[0], re.DOTALL).group(1)
    assert "prefers-color-scheme: dark" in style and "@media print" in style
    assert 'name="viewport"' in page[0]


def plain_run(**values):
    empty = {"model": None, "history": {}, "findings": [], "record": None, "settings": {}}
    return SimpleNamespace(**(empty | values))


@pytest.mark.parametrize(
    ("history", "said"),
    [
        (
            {"loss": [2.0, 1.0], "val_accuracy": [0.9, 0.8]},
            "80.0% of the validation examples are answered right after 2 epochs, 90.0% in the best epoch.",
        ),
        (
            {"loss": [2.0, 1.0], "accuracy": [0.5, 0.75]},
            "Nothing was validated: 75.0% of the training examples are answered right after 2 epochs.",
        ),
        (
            {"loss": [4.0], "val_loss": [5.0]},
            "The validation loss is 5 after 1 epoch; after the first it was 5.",
        ),
        ({}, ""),
    ],
)
def test_the_first_sentence_says_how_good_the_run_is(history, said):
    assert how_good(plain_run(history=history)) == said


def test_few_examples_are_counted_beside_their_share():
    labels = np.array([0] * 7 + [1] * 8)
    seen = Predictions(labels, np.ones(15, int), np.ones(15), 2, [], [], "")
    history = {"loss": [1.0], "val_accuracy": [np.float32(8 / 15)]}
    assert "53.3% of the validation examples are answered right (8 of 15)" in how_good(
        plain_run(history=history), seen
    )
    assert "of 15" not in how_good(plain_run(history={**history, "val_accuracy": [0.6]}), seen)
    files = {"validation_data": {"kind": "files", "count": 15}}  # known without the images
    assert "(8 of 15), 95 % interval" in how_good(plain_run(history=history, settings=files))


def test_the_last_sentence_is_the_remedy_of_the_worst_finding():
    warned = Finding("overfitting", "warning", None, 1, "It memorizes.", "Augment.")
    remarked = Finding("still_falling", "info", None, 1, "It falls.", "Train longer.")
    skipped = {"before_training": {"skipped": ["initial_loss"]}}
    assert what_to_do(plain_run(findings=[warned, remarked], settings=skipped)) == "Augment."
    assert what_to_do(plain_run(findings=[remarked], settings=skipped)).startswith("Run the checks")
    assert what_to_do(plain_run(findings=[remarked])) == "Train longer."
    assert "run.evaluate" in what_to_do(plain_run())


def test_scores_by_class_are_those_of_scikit_learn():
    from sklearn.metrics import precision_recall_fscore_support

    rng = np.random.default_rng(0)
    true, said = rng.integers(0, 4, 200), rng.integers(0, 3, 200)  # the last class is never predicted
    seen = Predictions(true, said, rng.random(200), 4, [], [], "")
    rows = confusion_of(seen, ["a", "b", "c", "d"])["classes"]
    precision, recall, f1, support = precision_recall_fscore_support(true, said, zero_division=np.nan)
    for row, *scores in zip(rows, precision, recall, f1, strict=True):
        assert [cell for cell in row[1:4] if cell != "-"] == [f"{v:.0%}" for v in scores if np.isfinite(v)]
    assert [row[4] for row in rows] == support.tolist()


def test_every_figure_says_how_it_is_read(page):
    text, _, _ = page
    assert text.count("<figure>") == text.count('</div><figcaption class="quiet">') > 2


def test_the_length_of_steps_is_read_by_the_optimizer(page):
    run = plain_run(record=page[1].record, settings={"compiled": {"class": "MuonSGD"}})
    assert "MuonSGD" in figures_of(run, None)["update_ratios"]["read"] and "MuonSGD" not in page[0]


def test_rates_that_decay_by_depth_are_told_where_their_updates_are_drawn(page):
    run = page[1]
    assert "on purpose" in figures_of(run, None)["update_ratios"]["read"]
    steps = run.record.step
    said = figures_of(
        plain_run(record=run.record, history={"loss": [1.0] * 2}, settings={"steps": 500}), None
    )
    assert f"{len(steps)} times, at steps {steps[0]} to {steps[-1]} of 1000" in said["gradients"]["read"]


def test_a_mistake_has_the_evidence_for_both_classes(page):
    text, run, (images, labels) = page
    in_order = tf.data.Dataset.from_tensor_slices((images, labels))
    for example in predictions(run.model, in_order, count=4).wrong:
        truth = explain.grad_cam(run.model, images[[example.number]], example.label, verbose=0)[0]
        assert labels[example.number] == example.label
        np.testing.assert_allclose(example.truth_map, truth, atol=1e-5)
    assert "that for the true class after it" in text


def test_settings_are_told_in_words():
    told = {"callbacks": ["<recipes.callbacks.unfreeze.Unfreeze object>"], "resume": False, "sum": "0a" * 32}
    assert settings_of(told) == [("callbacks", "Unfreeze"), ("resume", "no"), ("sum", "0a0a0a0a0a…")]


def test_a_figure_is_drawn_once(page):
    labels = [a["aria-label"] for tag, a in Page(page[0]).tags if tag == "svg"]
    assert len(labels) == len(set(labels))


def test_a_panel_without_anything_to_say_is_left_out(page):
    _, run, _ = page
    assert run.record.saturated_fraction.size and not (np.nan_to_num(run.record.saturated_fraction) > 0).any()
    titles = [axes.get_title() for axes in plot.activation_statistics(run.record).axes]
    assert [title for title in titles if title] == ["mean", "standard deviation", "share of zeros"]


def test_doubtful_labels_copies_and_faults_are_shown_with_their_pictures(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (40, 20, 20, 3)).astype("uint8")
    images[9], images[4] = images[3], 2
    labels, own = np.arange(40) % 2, np.linspace(0.7, 0.999, 40)
    own[6] = 0.01
    history = ExampleHistory(labels, 2)
    for _ in range(3):
        history.add(np.arange(40), np.where(labels[:, None] == [0, 1], own[:, None], 1 - own[:, None]))
    run = SimpleNamespace(model=None, history={}, findings=[], record=None, settings={}, examples=history)
    labels[9] = 1 - labels[3]
    path = write_report(run, tmp_path / "a.html", train=(images, labels), class_names=("cat", "<dog>"))
    text = path.read_text(encoding="utf-8")
    parsed = Page(text)
    said = " ".join(parsed.text)
    assert "6: given cat, suggested <dog>" in said
    assert "train 3 (<dog>) = train 9 (cat)" in said
    assert "4: near constant" in said
    shown = [a["alt"] for tag, a in parsed.tags if tag == "img"]
    assert {"Training image 6, given cat, suggested <dog>", "Image 3 of train", "Training image 4"} <= set(
        shown
    )
    files = {"train": [f"photos/{'dog' if number % 2 else 'cat'}/{number}.jpg" for number in range(40)]}
    how = {"class_names": ("cat", "<dog>"), "count": 4, "files": files}
    found = data_issues(run, (images, labels), None, **how)
    captions = [row["caption"] for part in ("labels", "copies", "faults") for row in found[part]["rows"]]
    assert {"cat/6.jpg: given cat, suggested <dog>", "cat/4.jpg: near constant"} <= set(captions)
    assert "dog/3.jpg (<dog>) = dog/9.jpg (cat)" in captions
    assert data_issues(run, (images, labels), None, guesses=True, **how)["labels"] is None


def test_labels_of_which_none_is_called_wrong_are_no_reason_to_change_one():
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    history = ExampleHistory(labels, 2)
    for _ in range(12):  # right more often than not, and sure of nothing
        own = np.clip(rng.normal(0.55, 0.2, 40), 0.05, 0.95)
        history.add(np.arange(40), np.where(labels[:, None] == [0, 1], own[:, None], 1 - own[:, None]))
    run = plain_run(examples=history)
    found = data_issues(run, None, None, class_names=("cat", "dog"), count=4)["labels"]
    assert ": 0 probably mislabelled, " in found["said"] and found["total"] > 3 and not found["rates"]
    assert "change nothing that is right" in dict(found["remarks"])["None is called wrong"]


def test_the_rate_is_drawn_per_step_where_it_is_known():
    class Seen(SimpleNamespace):
        def __len__(self):
            return len(self.step)

    rates = np.concatenate([np.linspace(0.01, 0.1, 5), np.linspace(0.1, 0, 20)])
    seen = Seen(step=np.arange(25), learning_rate=rates, measured=())
    history = {"loss": [2.0, 1.0], "learning_rate": [0.08, 0.01]}
    drawn = figures_of(plain_run(history=history, record=seen), None)
    assert list(drawn) == ["curves", "rates"]
    assert "learning rate" not in drawn["curves"]["description"]
    assert drawn["rates"]["description"] == "Learning rate from 0.01 to 0, at most 0.1."
    planned = {"rate_by_step": {"step": list(range(0, 26, 2)), "rate": [*rates[::2]]}}
    drawn = figures_of(plain_run(history=history, settings=planned), None)
    assert drawn["rates"]["description"] == "Learning rate from 0.01 to 0, at most 0.1."
    planned["rate_by_step"]["rate"][3] = 0.5  # the schedule said so, and something set another
    drawn = figures_of(plain_run(history=history, record=seen, settings=planned), None)
    assert "at most 0.1." in drawn["rates"]["description"]
    alone = figures_of(plain_run(history=history), None)
    assert list(alone) == ["curves"] and "learning rate 0.01" in alone["curves"]["description"]


def test_the_page_says_where_the_time_of_the_epochs_went(tmp_path):
    times = [
        {"steps": 10.0, "first": 8.0, "validation": 2.0, "epoch": 20.0},
        {"steps": 3.0, "first": 0.0, "validation": 1.0, "epoch": 4.0},
        {"steps": 3.0, "first": 0.0, "validation": 1.0, "epoch": 4.0},
    ]
    run = plain_run(settings={"times": times, "examples": 8000})
    text = write_report(run, tmp_path / "report.html").read_text(encoding="utf-8")
    shown = "".join(Page(text).text)
    assert "3 epochs took 28 s: the first 20 s" in shown and "2,000 training examples per second" in shown
    assert "75%" in shown and "25%" in shown and "diagnose.throughput" in shown
    assert "'steps': 10.0" not in shown and "extra time of the first step" not in shown


def test_the_page_draws_a_measurement_of_the_steps(tmp_path):
    parts = {"input": 0.03, "step": 0.01}
    cause = Slowdown("python_map", f"Evidence {HOSTILE}.", "Write it with tf.", 0.04, 0.02, tried=False)
    found = Throughput(
        *(0.04, 64, parts, [], [cause], [], None, None, 1.0, 9.0),
        note="Other programs keep this machine busy.",
    )
    run = plain_run()
    assert "Where the time went" not in write_report(run, tmp_path / "a.html").read_text(encoding="utf-8")
    text = write_report(run, tmp_path / "b.html", throughput=found).read_text(encoding="utf-8")
    parsed = Page(text)
    shown = "".join(parsed.text)
    assert "1600 examples per second" in shown and "would save 50 % of a step, predicted" in shown
    assert HOSTILE in shown and HOSTILE not in text and "Other programs" in shown
    (figure,) = [a for tag, a in parsed.tags if tag == "svg"]
    assert "input 75%" in figure["aria-label"]
    with pytest.raises(TypeError, match="what diagnose.throughput returned"):
        write_report(run, tmp_path / "c.html", throughput=0.04)


def test_a_page_of_3000_epochs_takes_400_kb_at_most(page, tmp_path):
    _, run, held_out = page
    noise = np.random.default_rng(0).random(3000) / 10
    history = {name: np.exp(-np.arange(3000) / 800) + noise for name in ("loss", "val_loss", "accuracy")}
    long = plain_run(model=run.model, record=run.record, findings=run.findings, history=history)
    path = write_report(long, tmp_path / "long.html", validation=held_out)
    assert path.stat().st_size <= 400_000


def test_validation_examples_that_were_trained_on_are_told_at_the_top():
    told = verdict(plain_run(), leaks=(1, 15))
    assert told["kind"] == "warning"
    assert told["text"].startswith("1 of the 15 validation examples is nearly a copy of a training example")
    assert "near_duplicates" in what_to_do(plain_run(), leaks=(1, 15))
    assert verdict(plain_run(), leaks=(3, 1000))["kind"] == "ok"
    images = np.random.default_rng(0).integers(0, 256, (60, 32, 32, 3)).astype("uint8")
    images = images.repeat(4, 1).repeat(4, 2)
    labels = np.arange(60) % 2
    validation = images[:6].copy(), labels[:6]
    found = data_issues(
        plain_run(), (images[2:], labels[2:]), validation, class_names=["cat", "dog"], count=4
    )
    assert found["leaks"][:2] == (4, 6)


@pytest.mark.parametrize(("right", "guess"), [(8, 1), (9, 1), (10, None)])
def test_a_network_that_guesses_is_not_called_fine(right, guess):
    labels = np.array([0] * 7 + [1] * 8)  # one standard error of 8 of 15 are 1.9 examples
    predicted = np.where(np.arange(15) < 15 - right, 1 - labels, labels)
    seen = Predictions(labels, predicted, np.ones(15), 2, [], [], "")
    assert no_better_than(seen) == guess
    told = verdict(plain_run(), seen, ["cat", "dog"])
    assert (told["kind"] == "warning") == (guess is not None)
    assert ("always answering dog would get" in told["text"] or "no better" in told["text"]) == (guess == 1)
    assert ("pretrained" in what_to_do(plain_run(), seen)) == (guess is not None)


@pytest.mark.parametrize("right", [10, 11, 12])
def test_an_accuracy_whose_interval_includes_guessing_is_not_called_fine(right):
    labels = np.array([0] * 7 + [1] * 8)
    predicted = np.where(np.arange(15) < 15 - right, 1 - labels, labels)
    seen = Predictions(labels, predicted, np.ones(15), 2, [], [], "")
    low, high = binomtest(right, 15).proportion_ci(method="wilson")
    unsure = low <= 8 / 15
    assert unsure == (right < 12) == (may_be_guessing(seen) is not None)
    remark = Finding("still_falling", "info", None, 1, "It falls.", "Train longer.")
    told = verdict(plain_run(findings=[remark], record=Record()), seen, ["cat", "dog"])
    assert told["kind"] == "info"
    assert (f"always answering dog: {right} of 15 are right" in told["text"]) == unsure
    assert (f"{low:.1%} to {high:.1%} includes the 8 that" in told["text"]) == unsure
    said = what_to_do(plain_run(findings=[remark]), seen)
    assert said.startswith("Evaluate it on more examples") if unsure else said == "Train longer."


def test_a_remark_is_told_beside_the_good_news():
    remark = Finding("overfitting", "info", None, 1, "It memorizes.", "Augment.")
    one, two = (verdict(plain_run(findings=[remark] * count, record=Record())) for count in (1, 2))
    assert one == {"kind": "info", "text": f"No error and no warning. A remark: {remark.title}."}
    assert two["text"].endswith(f"{remark.title}, and 1 more below.")
    assert verdict(plain_run(record=Record())) == {"kind": "ok", "text": "Nothing wrong was found."}
    validated = plain_run(record=Record(), history={"val_loss": [1.0]})
    assert verdict(validated)["text"] == "Nothing wrong was found."  # as of masks, which have no classes
    assert "No held-out examples were looked at" in verdict(validated, looked=False)["text"]


def test_the_report_of_a_run_of_the_shell_speaks_the_words_of_the_shell(tmp_path):
    remedy = "Stop at the best epoch (early_stopping=5), augment, or try learning_rate=0.01."
    remark = Finding("overfitting", "info", None, 1, "It memorizes.", remedy)
    for settings, words in (
        ({}, remedy),
        ({"command": "recipes train p"}, "Take the network of the best epoch (--best)"),
    ):
        run = plain_run(findings=[remark], record=Record(), settings=settings, history={"loss": [1.0]})
        shown = " ".join("".join(Page(write_report(run, tmp_path / "a.html").read_text()).text).split())
        assert shown.count(words) == 2  # at the top, and with the finding
        assert ("--learning-rate 0.01" in shown) == ("early_stopping" not in shown) == bool(settings)


def test_a_withdrawn_finding_is_told_apart_without_its_advice(tmp_path):
    gone = Finding("train_validation_mismatch", "info", None, 2, "GONE.", "OBSOLETE.", (), True, 4)
    run = plain_run(model=None, findings=[gone], history={"loss": [1.0, 0.5], "val_loss": [1.0, 0.6]})
    text = write_report(run, tmp_path / "a.html").read_text()
    shown = " ".join("".join(Page(text).text).split())
    assert "GONE" not in text and "OBSOLETE" not in text
    assert (
        "train validation mismatch \N{EN DASH} withdrawn: said after epoch 4, no longer true at the end"
        in shown
    )
    assert "None about the training" in shown  # none that holds
    assert "run.evaluate(test)" in what_to_do(run) and verdict(run)["kind"] == "ok"


def test_the_summary_tells_of_labels_in_doubt_in_the_words_of_who_ran_it():
    run = plain_run()
    assert "contradicts" not in verdict(run)["text"]
    assert "The network contradicts 2 labels" in verdict(run, doubted=2)["text"]
    run.settings = {"command": "recipes train p --out 'runs/a b'", "run_dir": "runs/a b"}
    assert "with recipes evaluate 'runs/a b' FOLDER" in what_to_do(run)


def test_the_summary_names_the_files_of_a_leak(tmp_path):
    leaks = Leaks(5, 15, tuple(f"v{n}.jpg (validation) is a copy of t{n}.jpg (training)" for n in range(5)))
    said = what_to_do(plain_run(), leaks=leaks)
    assert "v0.jpg (validation)" in said and "v3.jpg" not in said and "(and 2 more)" in said
    assert "delete one file" in said and "near_duplicates" not in said


@pytest.mark.parametrize("right, words", [(5, "not surely better"), (4, "no better"), (3, "no better")])
def test_more_right_answers_than_by_guessing_are_not_called_no_better(right, words):
    labels = np.repeat([0, 1, 2, 3], [4, 4, 4, 3])
    predicted = np.where(np.arange(15) < right, labels, (labels + 1) % 4)
    seen = SimpleNamespace(labels=labels, predicted=predicted)
    text = verdict(plain_run(), seen, ["a", "b", "c", "d"])["text"]
    assert words in text
    low, high = binomtest(5, 15).proportion_ci(method="wilson")
    assert ("5 of 15" in text and low < 4 / 15 < high) == (right == 5)


@pytest.mark.parametrize("looks", [3, 4])
def test_figures_of_the_layers_need_four_looks(page, looks):
    _, run, _ = page
    few = plain_run(model=run.model, record=Record.from_bytes(run.record.to_bytes()), history=run.history)
    del few.record._rows[looks:]
    drawn = {"update_ratios", "gradients", "activations"} & set(figures_of(few, None))
    assert len(drawn) == (3 if looks == 4 else 0)
    assert ("looked 3 times" in too_few_looks(few)) == (looks == 3)


def test_the_times_of_a_resumed_run_add_up_to_the_total():
    from recipes.report.time_spent import time_spent

    times = [{"epoch": seconds, "steps": seconds} for seconds in (55.0, 58.0, 12.0, 12.0)]
    said = time_spent(SimpleNamespace(settings={"times": times}), None)["said"]
    assert said.startswith("4 epochs took 2 min 17 s: the first 55 s,")
    assert "the others 1 min 22 s, usually 12 s each" in said  # 55 + 82 s are 2 min 17 s
