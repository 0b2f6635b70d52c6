"""SnapshotEnsemble: several networks from one training run, by a rate that falls and restarts."""

import shutil
import tempfile
import weakref
from typing import Literal

import keras
import numpy as np

from recipes.callbacks.rate_driver import Logs, RateDriver
from recipes.checkpoints.ensemble_snapshots import SnapshotFolder, check_configuration, same_build
from recipes.common.processes import meet, process_count
from recipes.common.types import Path
from recipes.common.validation import is_number, is_whole
from recipes.schedules import Cosine, Join, Schedule


class SnapshotEnsemble(RateDriver):
    """Let the rate fall to almost nothing several times, and keep the weights at each bottom as a member.

    Source: Huang et al. 2017, equation 2, https://arxiv.org/abs/1704.00109: within each cycle half a cosine from the
    compiled rate to zero, set before every step. The paper's cycles are `ceil(run / cycles)` steps long, and the last
    one is cut short. Ours differ by one step at most when `cycles` does not divide the run, so that every member ends
    at its bottom, if need be in the middle of an epoch. Under `steps_per_execution` and gradient accumulation a cycle
    ends at the nearest step at which the weights can be read and are up to date.

    It drives the learning rate, so leave other schedules out; the docstring of `LearningRate` says how it counts steps.
    Training needs the memory of one model: snapshots go to files, each written whole or not at all.

    Args:
        cycles: Snapshots to take, >= 1. Paper: 5 or 6, in 200 to 400 epochs.
        folder: For `snapshot1.npz`, ... and `snapshots.json`. A run resumed with `initial_epoch` goes on in it. None:
            a temporary folder that is deleted together with this callback. Several processes need a folder that all can
            see; the first process writes.
        last: How many of the latest snapshots `members` and `ensemble` use; None for all. Paper: the last ones are
            best.
        learning_rate: Rate at each restart, > 0. Default: the compiled rate. Paper: 0.1 to 0.2 for SGD.
        overwrite: Replace the snapshots of another run in the folder.
        steps_per_epoch: Batches per epoch, where neither the dataset nor `fit(steps_per_epoch=)` says.

    Raises:
        ValueError: for arguments outside their ranges. Before the first step, when Keras cannot build the model a
            second time (after the first batch for a model that is built by it). When the folder holds snapshots of
            another run and `overwrite` is False, or, in a resumed run, snapshots of another model. When there are more
            cycles than steps, the length of the run is unknown, or the optimizer already has a schedule.

    Example:
        >>> snapshots = SnapshotEnsemble(cycles=5, folder="runs/snapshots")
        >>> model.fit(train, epochs=50, callbacks=[snapshots])
        >>> snapshots.ensemble().save("ensemble.keras")
    """

    def __init__(
        self,
        cycles: int = 5,
        *,
        folder: "Path | None" = None,
        last: int | None = None,
        learning_rate: float | None = None,
        overwrite: bool = False,
        steps_per_epoch: int | None = None,
    ) -> None:
        super().__init__(steps_per_epoch=steps_per_epoch)
        name = type(self).__name__
        if not is_whole(cycles) or cycles < 1:
            raise ValueError(f"{name} expects cycles >= 1. Received cycles={cycles!r}. The paper takes 5.")
        if last is not None and not (is_whole(last) and 1 <= last <= cycles):
            raise ValueError(
                f"{name} expects last between 1 and cycles={cycles}. Received last={last}. Leave it out to use all."
            )
        if learning_rate is not None and not (is_number(learning_rate) and learning_rate > 0):
            raise ValueError(
                f"{name} expects learning_rate above 0. Received learning_rate={learning_rate}. "
                "Leave it out to use the compiled rate."
            )
        self.cycles, self.last, self.learning_rate = cycles, last, learning_rate
        self.overwrite = overwrite
        self._temporary, self.folder = folder is None, folder
        if folder is None:
            self.folder = tempfile.mkdtemp(prefix="snapshots-")
            weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)

    @property
    def members(self) -> list[keras.Model]:
        """New `keras.Model`s with the weights of the `last` snapshots, oldest first."""
        return self._snapshots().load(self.model, self.last)

    def ensemble(self, space: Literal["probability", "logit"] = "probability") -> keras.Model:
        """One `keras.Model` that averages the members (see `ensemble.average`); saves as `.keras`."""
        from recipes.averaging.average import average  # noqa: PLC0415 - needs TensorFlow, which other backends do without

        return average(self.members, space=space)

    def make_schedule(self, compiled_rate: float) -> Schedule:
        peak = float(compiled_rate if self.learning_rate is None else self.learning_rate)
        steps = self._steps_per_epoch()
        if steps is None:
            raise ValueError(
                f"{type(self).__name__} expects to know the length of the run. Received a dataset of unknown "
                f"cardinality. Pass steps_per_epoch= to {type(self).__name__}, or to fit with a dataset that repeats."
            )
        #: Batches of the whole run after which a snapshot is taken.
        self.ends = self._plan(self.params["epochs"] * steps, steps)
        return self._rates(peak, [end // self._accumulated for end in self.ends])

    def on_train_begin(self, logs: Logs = None) -> None:
        if self._temporary and process_count() > 1:
            raise ValueError(
                f"{type(self).__name__} expects a folder that every process can see. Received folder=None in a run of "
                f'{process_count()} processes. Give folder="runs/snapshots" on a shared disk.'
            )
        self._can_be_built_again = False
        check_configuration(self.model)
        self._check_build()
        super().on_train_begin(logs)

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        first = self._position is None
        super().on_epoch_begin(epoch, logs)
        if not first:
            return
        # A run may go on in the middle of an epoch, of which `set_state` tells.
        position = max(self._position, self._restored_position or 0)
        if position > 0:
            self._snapshots().resume(self.model, self.ends, position)
        else:
            # A folder of our own making is nobody's.
            overwrite = self.overwrite or self._temporary
            self._snapshots().begin(self.ends, overwrite=overwrite)
        self._taken = sum(end <= position for end in self.ends)

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        super().on_train_batch_end(batch, logs)
        self._check_build()
        while self._taken < len(self.ends) and self.ends[self._taken] <= self._position + self._seen:
            self._taken += 1
            self._snapshots().save(self._taken, self.model)

    def on_train_end(self, logs: Logs = None) -> None:
        super().on_train_end(logs)
        meet("SnapshotEnsemble.on_train_end")  # the last snapshot is written by the first process

    def _check_build(self):
        """Try, before hours of training, what `members` needs after them; a subclassed model by its first batch."""
        if self.model.built and not self._can_be_built_again:
            same_build(self.model)
            self._can_be_built_again = True

    def _rates(self, peak: float, ends: list[int]) -> Schedule:
        """Half a cosine from each end, in updates, to the next."""
        lengths = np.diff([0, *ends])
        cycles = [Cosine(peak, int(length)) for length in lengths]
        return Join(cycles, ends[:-1]) if len(cycles) > 1 else cycles[0]

    def _targets(self, run):
        """Where the snapshots of a run of so many batches should be taken."""
        return np.arange(1, self.cycles + 1) * run / self.cycles

    def _plan(self, run, steps):
        """The batches nearest to the targets after which the weights are up to date and can be read."""
        after = np.arange(1, run + 1)
        within = after % steps
        readable = (within % self.model.steps_per_execution == 0) | (within == 0)
        readable = after[(readable & (after % self._accumulated == 0)) | (after == run)]
        ends = []
        if self.cycles <= len(readable):
            nearest = np.abs(readable[None] - self._targets(run)[:, None]).argmin(axis=1)
            ends = [int(end) for end in readable[nearest]]
        if len(set(ends)) < self.cycles:
            raise ValueError(
                f"{type(self).__name__} expects a run with room for its cycles. Received cycles={self.cycles} and "
                f"{run} batches, of which the weights can be read after {len(readable)}. "
                "Take fewer cycles or more epochs."
            )
        return ends

    def _snapshots(self):
        return SnapshotFolder(self.folder)
