"""Nearest neighbors and low-dimensional embeddings of a data set, from the features of a network."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recipes.common.optional import sklearn
from recipes.common.types import FloatArray
from recipes.common.validation import as_numbers, check_seed, is_number, is_one_of, is_whole
from recipes.explain.engine.errors import UsageError


def nearest_neighbors(
    queries: ArrayLike,
    features: ArrayLike,
    k: int = 5,
    *,
    metric: str | Callable[[np.ndarray, np.ndarray], float] = "euclidean",
) -> tuple[NDArray[np.int64], FloatArray]:
    """Find the k nearest vectors to each query, exactly.

    Source: Krizhevsky et al. 2012, section 6.1: images with similar activations of the last hidden layer look similar
    to the network.

    Args:
        queries: `(m, length)`, such as `features(model, queries)`; or one vector.
        features: `(n, length)`, n >= k.
        k: Number of neighbors, >= 1. A query that is itself among the features is its own first neighbor.
        metric: "euclidean", "cosine", a function of two vectors, or any other metric of scikit-learn's brute force.

    Returns:
        `(indices, distances)`: int and float32 `(m, k)`, the nearest first; `(k,)` for one query.

    Raises:
        ImportError: when scikit-learn, which the extra `inspect` installs, is missing.
        ValueError: when there are fewer features than k, the lengths differ, or the metric is unknown.
    """
    queries = as_numbers("nearest_neighbors", "queries", queries, None)
    features = _vectors("nearest_neighbors", features)
    single = queries.ndim == 1
    queries = queries[None] if single else queries
    if (
        queries.ndim != 2
        or queries.shape[1] != features.shape[1]
        or not is_whole(k)
        or not 1 <= k <= len(features)
    ):
        raise UsageError(
            f"nearest_neighbors expects queries of length {features.shape[1]} and k in 1 ... {len(features)}. Received "
            f"shape {queries.shape} and k={k}. Take queries and features from the same layer."
        )
    neighbors = sklearn("nearest_neighbors", "neighbors")
    known = neighbors.VALID_METRICS["brute"]
    if not callable(metric) and not (isinstance(metric, str) and metric in known):
        raise UsageError(
            f"nearest_neighbors expects metric to be one of {', '.join(sorted(known))}. Received {metric!r}. Write "
            "'cosine' to compare only the directions of the features."
        )
    search = neighbors.NearestNeighbors(n_neighbors=k, algorithm="brute", metric=metric)
    distances, indices = search.fit(features).kneighbors(queries)
    distances = distances.astype("float32")
    return (indices[0], distances[0]) if single else (indices, distances)


def embed(
    features: ArrayLike,
    *,
    kind: Literal["pca", "tsne"] = "pca",
    dimensions: int = 2,
    perplexity: float = 30.0,
    seed: int = 0,
) -> FloatArray:
    """Embed vectors in the plane by PCA or t-SNE, so that similar vectors lie close together.

    Source: t-SNE, van der Maaten & Hinton 2008, https://www.jmlr.org/papers/v9/vandermaaten08a.html, started from the
    principal components. "pca" keeps the directions of largest variance and is exact.

    Args:
        features: `(n, length)`, such as `features(model, images)`; or images, which are flattened.
        kind: "pca" or "tsne".
        dimensions: Number of dimensions of the embedding; 2 or 3 for t-SNE.
        perplexity: Approximate number of neighbors that are considered, > 0, for t-SNE only; at most (n - 1) / 3.
        seed: Integer that fixes t-SNE.

    Returns:
        float32 `(n, dimensions)`. Principal components have the sign that makes their largest weight positive.

    Raises:
        ImportError: when scikit-learn, which the extra `inspect` installs, is missing for "tsne".
        ValueError: when the kind is unknown, when there are fewer vectors than dimensions, or values are not finite.
    """
    check_seed("embed", seed)
    vectors = as_numbers("embed", "features", features, None)
    flat = vectors.reshape(len(vectors), -1) if vectors.ndim > 2 and vectors.size else vectors
    vectors = _vectors("embed", flat)
    known = is_whole(dimensions) and is_number(perplexity) and perplexity > 0
    if not known or not is_one_of(kind, ("pca", "tsne")) or not 1 <= dimensions <= min(vectors.shape):
        raise UsageError(
            f"embed expects kind to be 'pca' or 'tsne', and dimensions in 1 ... {min(vectors.shape)}. Received "
            f"kind={kind!r}, dimensions={dimensions!r} and perplexity={perplexity!r}. "
            "Write embed(features, kind='pca')."
        )
    if kind == "pca":
        return principal_components(vectors, dimensions)
    method = sklearn("embed", "manifold").TSNE(
        dimensions,
        perplexity=min(perplexity, (len(vectors) - 1) / 3),
        init="pca" if dimensions < min(vectors.shape) else "random",
        random_state=seed,
    )
    with threadpool(len(vectors)):
        return method.fit_transform(vectors.astype("float32")).astype("float32")


def threadpool(count: int) -> AbstractContextManager[Any]:
    """A context with one thread for few vectors: in t-SNE's short steps, threads wait longer than they work."""
    from threadpoolctl import threadpool_limits  # noqa: PLC0415 - an optional library

    return threadpool_limits(1 if count < 2000 else None)


def principal_components(vectors: np.ndarray, dimensions: int) -> FloatArray:
    """Coordinates along the directions of largest variance, float32 `(n, dimensions)`."""
    centered = vectors.astype("float64") - vectors.mean(0, dtype="float64")
    _, _, directions = np.linalg.svd(centered, full_matrices=False)
    directions = directions[:dimensions]
    largest = np.abs(directions).argmax(1)
    signs = np.sign(directions[np.arange(dimensions), largest])
    return (centered @ (directions * signs[:, None]).T).astype("float32")


def _vectors(method, features):
    features = np.asarray(features)
    if features.ndim != 2 or features.dtype.kind not in "uifb" or not np.isfinite(features).all():
        raise UsageError(
            f"{method} expects finite features of shape (n, length). Received shape {features.shape} of dtype "
            f"{features.dtype}. Compute them with explain.features(model, images)."
        )
    return features
