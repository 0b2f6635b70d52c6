"""Explanations, ensembles and pictures of whatever they are given: right, or refused in our own words."""

import numpy as np
import pytest
from hostile_values import ANYTHING, PIXELS, arguments, arrays, example_count, explained, often
from hypothesis import given
from hypothesis import strategies as st

from recipes import diagnose, ensemble, explain, plot

# Explanations of a small trained network.

EXPLAINERS = {
    explain.saliency: {"reduce": st.sampled_from(["absmax", "sum"])},
    explain.gradient_times_input: {"reduce": st.sampled_from(["absmax", "sum"])},
    explain.smooth_grad: {"samples": st.just(2), "noise": st.floats(0.05, 0.3)},
    explain.integrated_gradients: {"steps": st.just(2), "baseline": st.just(0.0)},
    explain.guided_backprop: {},
    explain.deconvnet: {},
    explain.guided_grad_cam: {"layer": st.just("conv2")},
    explain.class_activation_map: {"resize": st.booleans()},
    explain.grad_cam_plus_plus: {"layer": st.just("conv2")},
    explain.layer_cam: {"layer": st.sampled_from(["conv1", "conv2"])},
    explain.grad_cam: {"layer": st.sampled_from([None, "conv2"])},
    explain.score_cam: {"layer": st.just("conv2"), "top": st.just(2)},
    explain.occlusion: {"patch": st.just(4), "stride": st.just(4), "value": st.just(0.0)},
    explain.rise: {"masks": st.just(4), "cells": st.just(2), "keep": st.floats(0.2, 0.8)},
    explain.activations: {"layer": st.just("conv2")},
    explain.maximal_patches: {
        "layer": st.just("conv2"),
        "channel": st.integers(0, 3),
        "k": st.integers(1, 3),
    },
    explain.pgd: {
        "labels": st.just([1, 2]),
        "epsilon": st.floats(0, 9),
        "value_range": st.just((0, 255)),
        "steps": st.integers(1, 2),
        "restarts": st.just(1),
    },
    explain.deletion: {"maps": st.sampled_from([np.ones((2, 8, 8))]), "steps": st.integers(1, 3)},
    explain.fgsm: {"labels": st.just([1, 2]), "epsilon": st.floats(0, 9), "value_range": st.just((0, 255))},
    explain.features: {"layer": st.just("conv2"), "pool": st.just("average")},
}
IMAGES = st.sampled_from([np.ones((2, 8, 8, 1), dtype) for dtype in ("uint8", "float32")])


@pytest.mark.filterwarnings("ignore:score_cam found no place:UserWarning")
@pytest.mark.parametrize("method", EXPLAINERS, ids=lambda method: method.__name__)
@example_count(10)
@given(st.data())
def test_explanations_explain_or_refuse(trained_cnn, method, data):
    valid = {**EXPLAINERS[method], "images": IMAGES, "batch_size": st.just(64)}
    if method not in (
        explain.activations,
        explain.maximal_patches,
        explain.fgsm,
        explain.pgd,
        explain.features,
    ):
        valid["target"] = st.sampled_from([None, 3, [1, 2]])
    chosen = data.draw(arguments(valid, most=1))
    images = chosen.pop("images")
    result = explained(method, trained_cnn[0], images, **chosen)
    if isinstance(result, np.ndarray) and method is not explain.activations:
        assert result.dtype == np.float32 and np.isfinite(result).all()


@example_count(40)
@given(
    arguments(
        {
            "maps": st.sampled_from([np.ones((2, 3, 3)), np.eye(3)]),
            "percentile": st.floats(0, 100),
            "signed": st.booleans(),
        }
    )
)
def test_maps_are_normalized_or_refused(chosen):
    explained(explain.normalize_map, **chosen)


@example_count(30)
@given(
    arguments(
        {
            "features": st.sampled_from([np.eye(6, 4), np.eye(9)]),
            "kind": st.sampled_from(["pca", "tsne"]),
            "dimensions": st.integers(1, 3),
            "perplexity": st.just(2.0),
            "seed": st.integers(0, 9),
        }
    )
)
def test_places_are_found_or_refused(chosen):
    explained(explain.embed, **chosen)


SYNTHESES = {
    explain.class_image: {"target": st.integers(0, 9)},
    explain.unit_image: {"layer": st.just("conv2"), "channel": st.integers(0, 9)},
    explain.deep_dream: {
        "images": st.sampled_from([np.ones((8, 8, 1), "uint8")]),
        "layer": st.just("conv2"),
        "octaves": st.just(1),
    },
    explain.invert_features: {
        "images": st.sampled_from([np.ones((8, 8, 1), "uint8")]),
        "layer": st.just("conv2"),
    },
}


@pytest.mark.filterwarnings("ignore:unit_image expects units that answer")
@pytest.mark.parametrize("method", SYNTHESES, ids=lambda method: method.__name__)
@example_count(6)
@given(st.data())
def test_images_are_made_or_refused(trained_cnn, method, data):
    valid = {
        **SYNTHESES[method],
        "steps": st.just(2),
        "learning_rate": st.just(0.02),
        "value_range": st.just((0, 255)),
        "seed": st.integers(0, 9),
    }
    explained(method, trained_cnn[0], **data.draw(arguments(valid, most=1)), verbose=0)


@example_count(40)
@given(
    arguments(
        {
            "queries": st.just(np.ones((2, 3))),
            "features": st.just(np.ones((5, 3))),
            "k": st.integers(1, 5),
            "metric": st.sampled_from(["euclidean", "cosine"]),
        }
    )
)
def test_neighbors_are_found_or_refused(chosen):
    explained(explain.nearest_neighbors, **chosen)


# Ensembles, initializers.


@example_count(25)
@given(st.data())
def test_averages_are_made_or_refused(trained_cnn, data):
    model = trained_cnn[0]
    chosen = data.draw(
        arguments(
            {
                "models": st.just([model, model]),
                "weights": st.sampled_from([None, [1, 2]]),
                "space": st.sampled_from(["probability", "logit"]),
                "name": st.just("both"),
            }
        )
    )
    explained(ensemble.average, **chosen)


@example_count(30)
@given(arrays(np.ones((2, 5, 3)) / 3))
def test_disagreement_is_measured_or_refused(predictions):
    explained(ensemble.disagreement, predictions)


@example_count(12)
@given(
    arguments(
        {
            "images": st.sampled_from([np.ones((3, 8, 8, 1), "uint8")]),
            "views": st.sampled_from([ensemble.flips(), ensemble.shifts(1), ensemble.multi_scale([8, 12])]),
            "batch_size": st.integers(1, 4),
            "space": st.sampled_from(["probability", "logit"]),
        },
        most=1,
    )
)
def test_views_are_predicted_or_refused(trained_cnn, chosen):
    found = explained(ensemble.predict_tta, trained_cnn[0], **chosen)
    if found is not None:
        np.testing.assert_allclose(found.sum(1), 1, rtol=1e-4)


@example_count(30)
@given(size=often(st.integers(1, 9)), pixels=often(st.integers(1, 3)))
def test_views_are_made_or_refused(size, pixels):
    explained(ensemble.ten_crop, size)
    explained(ensemble.shifts, pixels)


# Diagnosis and pictures.

SERIES = st.lists(st.one_of(st.floats(), st.integers(-5, 5)), max_size=12)
CURVE = st.lists(st.floats(0, 3, width=32), min_size=4, max_size=4)
HISTORY = often(
    st.fixed_dictionaries({"loss": CURVE}, optional={"val_loss": CURVE, "accuracy": CURVE}),
    st.one_of(
        ANYTHING,
        st.dictionaries(
            st.sampled_from(["loss", "val_loss", "accuracy", "val_accuracy", "learning_rate"]),
            SERIES,
            max_size=5,
        ),
        st.dictionaries(st.sampled_from(["loss", "val_loss"]), ANYTHING, max_size=2),
    ),
)


@example_count(80)
@given(HISTORY)
def test_curves_are_read_or_refused(history):
    found = explained(diagnose.read_curves, history)
    if found is not None:
        assert all(finding.remedy for finding in found)


@example_count(12)
@given(HISTORY)
def test_curves_are_drawn_or_refused(history):
    figure = explained(plot.curves, history)
    if figure is not None:
        explained(figure.draw_without_rendering)


PICTURES = {
    plot.grid: {
        "images": PIXELS,
        "titles": st.one_of(st.none(), st.lists(st.text(max_size=4), min_size=4, max_size=4)),
        "columns": st.integers(1, 3),
        "size": st.just(0.5),
        "title": st.sampled_from([None, "$^{ $", "<b>"]),
    },
    plot.overlay: {
        "image": st.just(np.zeros((4, 4, 3), "uint8")),
        "map": st.sampled_from([np.ones((4, 4), "float32"), -np.eye(4)]),
        "opacity": st.floats(0, 1),
        "title": st.sampled_from([None, "$\\foo$"]),
    },
    plot.channels: {
        "maps": st.sampled_from([np.ones((4, 4, 2), "float32")]),
        "limit": st.integers(1, 2),
    },
    plot.learning_rates: {
        "values": often(st.just([0.1, 0.2]), st.one_of(SERIES, ANYTHING)),
        "label": st.just("$^$"),
    },
    plot.segments: {"images": PIXELS, "masks": st.sampled_from([np.zeros((4, 3, 3), "uint8")])},
    plot.attributions: {"images": PIXELS, "maps": often(st.just({"a": np.ones((4, 3, 3))}))},
    plot.thumbnails: {"points": st.sampled_from([np.eye(4, 2)]), "images": PIXELS},
    plot.disagreement: {"shares": st.sampled_from([np.eye(2)])},
}


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("draw", PICTURES, ids=lambda draw: draw.__name__)
@example_count(10)
@given(st.data())
def test_pictures_are_drawn_or_refused(draw, data):
    figure = explained(draw, **data.draw(arguments(PICTURES[draw])))
    if figure is not None:
        explained(figure.draw_without_rendering)
