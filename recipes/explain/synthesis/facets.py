"""Multifaceted visualization: one picture for each kind of image of a class."""

from typing import Any

import keras
import numpy as np
from typing_extensions import Unpack

from recipes.common.optional import sklearn
from recipes.common.types import FloatArray, Images
from recipes.explain.engine.errors import UsageError
from recipes.explain.engine.options import ClassImageOptions, Layer, shares
from recipes.explain.inspection.features import features
from recipes.explain.synthesis.class_image import class_image


@shares(ClassImageOptions, steps=512, learning_rate=None, optimizer=None)
def facets(
    model: keras.Model,
    target: int,
    images: Images,
    *,
    count: int = 4,
    layer: Layer | None = None,
    nearest: int = 15,
    dimensions: int = 50,
    **options: Unpack[ClassImageOptions],
) -> FloatArray | Any:
    """Cluster real images of a class, and maximize the class score from the mean image of each cluster.

    Source: Nguyen et al. 2016, "Multifaceted Feature Visualization", section 2, https://arxiv.org/abs/1602.03616.
    Features of the images are reduced by PCA and clustered by k-means. Each start is the mean of the `nearest` images
    to a cluster center. Unlike in the paper, there is no t-SNE between PCA and k-means, and `class_image` does the
    ascent.

    Args:
        model: A built `keras.Model` with one image input. It is never changed.
        target: Number of the class.
        images: Real images of that class, `(n, height, width, channels)` as the model takes them, in `value_range`; at
            least `count` images.
        count: Number of facets, >= 1.
        layer: Layer whose activations are clustered; None takes the input of the classifier.
        nearest: Number of images that are averaged for a start.
        dimensions: Number of principal components that are kept.
        options: The options of `ClassImageOptions` except `start`, with the same defaults as in `class_image`.

    Returns:
        float32 `(count, height, width, channels)` in `value_range`, the largest cluster first. With
        `return_scores`, the scores `(steps, count)` too.

    Raises:
        ImportError: when scikit-learn, which the extra `inspect` installs, is missing.
        ValueError: when there are fewer images than facets, when `start` is given, and as in `class_image`.
    """
    images = np.asarray(images)
    if images.ndim != 4 or len(images) < count or count < 1:
        raise UsageError(
            f"facets expects at least count={count} images of shape (n, height, width, channels). Received shape "
            f"{images.shape}. Give more images of the class, or fewer facets."
        )
    if options["start"] is not None:
        raise UsageError(
            "facets expects no start=, because it starts from the mean images of clusters. Received start=. Leave it "
            "out, or use class_image."
        )
    values = features(model, images, layer, preprocess=options["preprocess"])
    starts = cluster_means(
        images, values, count, nearest=nearest, dimensions=dimensions, seed=options["seed"]
    )
    return class_image(model, [target] * count, **{**options, "start": starts})


def cluster_means(
    images: np.ndarray, values: FloatArray, count: int, *, nearest: int, dimensions: int, seed: int
) -> FloatArray:
    """Mean image of the `nearest` members of each k-means cluster, the largest cluster first: `(count, ...)`."""
    components = min(dimensions, *values.shape)
    reduced = sklearn("facets", "decomposition").PCA(components, random_state=seed).fit_transform(values)
    clusters = sklearn("facets", "cluster").KMeans(count, n_init=10, random_state=seed).fit(reduced)
    sizes = np.bincount(clusters.labels_, minlength=count)
    starts = []
    for number in np.argsort(-sizes, kind="stable"):
        distance = np.linalg.norm(reduced - clusters.cluster_centers_[number], axis=1)
        distance[clusters.labels_ != number] = np.inf
        members = np.argsort(distance, kind="stable")[: min(nearest, sizes[number])]
        starts.append(images[members].astype("float32").mean(0))
    return np.stack(starts)
