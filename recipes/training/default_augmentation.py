"""What `recipes.train(augment="standard")` does to the images of a data set."""

from __future__ import annotations

from recipes import augment as augmentation
from recipes.common.validation import is_one_of
from recipes.training.accepted_data import Source
from recipes.training.settings import Settings


def choose_pipeline(
    source: Source, classes: int | None, settings: Settings
) -> tuple[augmentation.Pipeline | None, str]:
    """The `augment.Pipeline` to use, or None, and its description for the user.

    Raises:
        ValueError: when `augment` is neither a `Pipeline`, None nor "standard"; for pixels of 0 to 1 under a `Pipeline`
            of another range that changes colors.
    """
    augment, info = settings.augment, settings.info
    if augment is None:
        return None, "none"
    if isinstance(augment, augmentation.Pipeline):
        _check_range(augment, source)
        return augment, "as given"
    if not is_one_of(augment, ("standard",)):
        raise ValueError(
            f"recipes.train expects augment to be 'standard', an augment.Pipeline or None. Received {augment!r}. "
            "Wrap operations: augment.Pipeline([augment.Flip(), ...])."
        )
    shape = source.image_shape
    if shape is None or len(shape) != 3 or None in shape:
        return None, f"none, as inputs of shape {shape} are not images of one known size"
    low, high = (0, 255) if source.pixels is None else source.pixels
    if low < 0 or high > 255:
        return None, f"none, as pixels reach from {low:.3g} to {high:.3g}; give a Pipeline"
    kind = info.kind if info is not None else "symbols" if shape[-1] == 1 else "photos"
    pipeline = augmentation.standard(
        shape,
        kind=kind,
        value_range=(0, 255) if source.pixels is None or high > 1 else (0, 1),
        classes=None if source.label_spec.shape.rank in (2, 4) else classes,
        seed=settings.seed,
    )
    return pipeline, f"standard, light, for {kind}"


def _check_range(pipeline, source):
    """Refuse pixels of 0 to 1 under a pipeline that counts in 0 to 255, whose noise and colors would drown them."""
    low, high = source.pixels or (0, 255)
    harmless = all(operation.stage in ("geometry", "mix") for operation in pipeline.operations)
    if not harmless and low >= 0 and 0 < high <= 1 and pipeline.value_range[1] > 2:
        raise ValueError(
            f"recipes.train expects pixels in the value_range of the Pipeline, {pipeline.value_range}. Received pixels "
            f"from {low:.3g} to {high:.3g}. Give the Pipeline their range: augment.Pipeline([...], value_range=(0, 1))."
        )
