"""How the examples of a run are numbered."""

from __future__ import annotations

import keras

from recipes.common.processes import process_count
from recipes.diagnose.margins.example_numbers import ExampleNumbers
from recipes.training.settings import Settings
from recipes.training.training_data import TrainingData


def example_numbers(data: TrainingData, settings: Settings, model: keras.Model) -> ExampleNumbers | None:
    """How the examples of a run are numbered; None where they are not.

    They have no numbers where labels are not classes of whole images, where the number of examples is not known, or
    where several devices or steps share one call.
    """
    source, spec = data.source, data.label_spec
    several = settings.strategy is not None or process_count() > 1 or model.steps_per_execution != 1
    if several or data.classes is None or data.maps is not None or source.endless or source.steps is None:
        return None
    if not (spec.shape.rank == 1 or (spec.shape.rank == 2 and spec.shape[1] in (1, data.classes))):
        return None
    if getattr(settings.info, "task", None) == "multi_label":
        return None
    if source.batched:
        size = source.element_spec[1].shape[0]
    else:
        size = settings.batch_size
    return ExampleNumbers(
        source.examples, source.steps, data.classes, size, source.order, data.unmixed, source.kept
    )
