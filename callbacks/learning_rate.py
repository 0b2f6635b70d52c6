"""LearningRate: drive the learning rate of a compiled model by a schedule, one optimizer step at a time."""

from collections.abc import Callable
from typing import Any

from recipes.callbacks.rate_driver import RateDriver


class LearningRate(RateDriver):
    """Set the learning rate before every optimizer step, from any schedule.

    A schedule inside the optimizer has to be known when the model is compiled, and counts the life of the optimizer.
    This one works on a model compiled with a plain number and counts **this run**: step 0 is its first update, and
    `fit(initial_epoch=3)` goes on at the step epoch 3 begins with.

    - The clock counts the batches `fit` has seen since the beginning of the run, so the schedule ends with the run. A
      batch whose update was skipped (loss scaling met an overflow) counts too.
    - Gradient accumulation: a step is one update, that is `gradient_accumulation_steps` batches; all of them see its
      rate.
    - `steps_per_execution > 1`: every step inside an execution gets its own rate, on the TensorFlow and PyTorch
      backends. The train function is traced once more for it. On JAX this is refused.
    - Mixed precision: the optimizer inside a `LossScaleOptimizer` is the one driven.
    - Several rates: in a `MultiOptimizer` the largest rate is driven, and the others keep their shares of it; the
      factors of `optimizers.layerwise` multiply whatever rate there is.
    - Afterwards the optimizer has the rate it was compiled with. After an interruption it keeps the last one, but the
      next run of one of our callbacks in the same process remembers the compiled one.

    `logs["learning_rate"]` at the end of an epoch is the rate of its last step, also where a callback after this one
    lowers it (`NonFiniteGuard(restore=True)`).

    Args:
        schedule: `LearningRateSchedule`, or any function from the step (an int from 0) to the rate.

    Raises:
        TypeError: for a `schedule` that cannot be called.
        ValueError: on_train_begin, when the optimizer already has a schedule; when a run is resumed by `initial_epoch`
            and the number of batches per epoch is unknown; when two of these callbacks drive one optimizer.

    Example:
        >>> schedule = recipes.schedules.OneCycle(peak=0.4, steps=10 * len(train))
        >>> model.fit(train, epochs=10, callbacks=[LearningRate(schedule)])
    """

    def __init__(self, schedule: Callable[[Any], Any]) -> None:
        super().__init__()
        if not callable(schedule) or isinstance(schedule, type):
            raise TypeError(
                f"{type(self).__name__} expects a schedule, a function from the step to the rate. Received "
                f"{schedule!r}. For a constant rate, compile the model with it."
            )
        self.schedule = schedule

    def make_schedule(self, compiled_rate: float) -> Callable[[Any], Any]:
        return self.schedule
