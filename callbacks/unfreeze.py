"""Unfreeze: let the frozen layers of a pretrained network learn one after another, inside one fit."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from recipes.callbacks.fit_member import FitMember
from recipes.callbacks.rate_driver import Logs
from recipes.common.backends import require_tensorflow
from recipes.common.models import build_optimizer
from recipes.common.optimizers import groups, innermost, iterations, known_variables
from recipes.common.traversal import kernel_levels, layers_of, set_learning, variable_owners
from recipes.common.validation import as_row, is_whole
from recipes.optimizers import adopt_variables, begin_updates, matches

_GROUPS = 4  # of the frozen layers, with one number for a schedule


class Unfreeze(FitMember):
    """Begin with the head of a network alone, and let groups of layers join it at given epochs.

    What the schedule names is frozen until its epoch, whether or not it was frozen before; what it does not name is
    left as it is. Batch normalization layers stay frozen, and so run in inference mode with the statistics that they
    have: those of a few small batches would undo what was learned from far more images.

    The optimizer knows all these variables from the beginning, so that nothing has to be compiled again; those that are
    frozen cost nothing, as no gradient reaches them. The train function is traced once more at each stage. The moments
    of variables that join are bias-corrected by their own number of updates, see `optimizers.begin_updates`.

    Sources: Howard and Ruder 2018, section 3.3 ("gradual unfreezing"), https://arxiv.org/abs/1801.06146; Keras' guide
    to transfer learning for the batch normalizations, https://keras.io/guides/transfer_learning

    Args:
        schedule: dict from an epoch, counted from 0 as `initial_epoch` is, to names or patterns of layers as in
            `optimizers.rate_factors` ("backbone" is everything but the layer that gives the classes), or a list of
            them. Or a number of epochs: the frozen layers are put into four groups of equal depth, and one more group
            joins every so many epochs, the uppermost first. In a model without frozen layers, these are all layers
            before the last one with a kernel.
        batch_norm: Let the batch normalization layers of a group learn as well.
        verbose: 0 prints nothing when a group joins; `fit(verbose=0)` does the same.

    Put it before `Backup` and before callbacks that average weights. `recipes.train(resume=True)` and `get_state` /
    `set_state` go on within the schedule.

    Raises:
        ValueError: for a schedule of another form. On_train_begin, when a name matches no layer (the error lists the
            layers), when no layer would learn at first, or for a model that is not built; also for a `MultiOptimizer`
            and for Nadam, all of whose variables share one product of momenta.
        RuntimeError: on_train_begin, on another backend than TensorFlow.

    Example:
        >>> model = recipes.models.transfer(recipes.models.efficientnet_lite0(include_top=False), classes=5)
        >>> model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy")
        >>> model.fit(images, labels, epochs=8, callbacks=[Unfreeze({2: "stage7_*", 4: "backbone"})])
    """

    changes_trainable = True

    def __init__(
        self,
        schedule: Mapping[int, str | Sequence[str]] | int,
        *,
        batch_norm: bool = False,
        verbose: int = 1,
    ) -> None:
        super().__init__()
        if is_whole(schedule):
            known = schedule >= 1
        else:
            known = (
                isinstance(schedule, Mapping) and len(schedule) > 0 and all(map(_is_entry, *_pairs(schedule)))
            )
        if not known:
            raise ValueError(
                "Unfreeze expects a dict from epochs, counted from 0, to names of layers, or a number of epochs from "
                f"one group to the next. Received schedule={schedule!r}. Write Unfreeze({{2: 'backbone'}})."
            )
        self.schedule = schedule if is_whole(schedule) else {int(k): _row(v) for k, v in schedule.items()}
        self.batch_norm, self.verbose = batch_norm, verbose
        self._stages: list[tuple[int, list[Any]]] = []
        self._learned: set[int] = set()
        self._joined: int | None = None

    def on_train_begin(self, logs: Logs = None) -> None:
        optimizer = innermost(self.model.optimizer)
        before = {id(one) for one in known_variables(optimizer)} if iterations(optimizer) else set()
        self._learned = {id(one) for one in self.model.trainable_variables} & before
        self.prepare(self.model)
        self.take_optimizer(self.model)
        self._joined = None

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        due = sum(start <= epoch for start, _ in self._stages)
        if due == self._joined:
            return
        earlier, self._joined = self._joined, due
        set_learning(self.model, self._layers_that_learn(due))
        learning = self.model.trainable_variables
        new = [variable for variable in learning if id(variable) not in self._learned]
        self._learned |= {id(variable) for variable in learning}
        if iterations(innermost(self.model.optimizer)):
            begin_updates(self.model.optimizer, new)
        # Before its first call it is not traced yet, and sees which variables learn then.
        self.model.make_train_function(force=True)
        begins = due and self._stages[due - 1][0] == epoch  # else a resumed run stands within this stage
        if self.verbose and self.params.get("verbose") and (earlier is not None or begins):
            self._say(epoch, due)

    def get_state(self) -> dict[str, Any]:
        """What a resumed run needs, as a dict that fits into JSON."""
        known = known_variables(innermost(self.model.optimizer))
        return {
            "begun": list(innermost(self.model.optimizer).begun),
            "learned": [place for place, variable in enumerate(known) if id(variable) in self._learned],
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from `get_state()`'s dict. Call it between on_train_begin and the first epoch."""
        optimizer = innermost(self.model.optimizer)
        known = known_variables(optimizer)
        self._learned = {id(known[place]) for place in state["learned"]}
        optimizer.begun = [int(one) for one in state["begun"]]

    def prepare(self, model: keras.Model) -> None:
        """Freeze what the schedule names, as it is before the first epoch; `on_train_begin` does it as well."""
        require_tensorflow("Unfreeze", "where an optimizer may know variables that do not learn yet")
        if not model.built:
            raise ValueError(
                f"Unfreeze expects a built model, whose layers can be named. Received {model.name!r}, which has no "
                "variables yet. Call it on a batch first, or begin it with keras.Input."
            )
        if not self._stages or self._of is not model:
            always = {id(one) for one in _learning(model)}
            self._of, self._stages = model, self._resolved(model)
            named = {id(layer) for _, layers in self._stages for layer in layers}
            norms = {id(one) for one in layers_of(model, keras.layers.BatchNormalization)}
            covered = {id(one) for one in self._covered}
            self._always = always - named - (norms & covered)
        set_learning(model, self._layers_that_learn(0))
        if not model.trainable_variables:
            set_learning(model, self._layers_that_learn(sum(start == 0 for start, _ in self._stages)))
        if not model.trainable_variables:
            raise ValueError(
                f"Unfreeze expects something that learns from the beginning. Received a schedule that freezes all of "
                f"{model.name!r}. Name its first layers alone, or let the first group join at epoch 0."
            )

    def begin_with_first(self, model: keras.Model) -> None:
        """Let learn what the first epoch trains, for checks before `fit`; `on_epoch_begin` does it in a run."""
        self.prepare(model)
        set_learning(model, self._layers_that_learn(sum(start == 0 for start, _ in self._stages)))

    def take_optimizer(self, model: keras.Model) -> None:
        """Have the optimizer of a compiled model know all variables that will learn."""
        optimizer = model.optimizer
        if type(innermost(optimizer)).__name__.endswith("Nadam") or len(groups(optimizer)) != 1:
            raise ValueError(
                "Unfreeze expects one optimizer that keeps a state for each variable by itself. Received "
                f"{type(innermost(optimizer)).__name__}. Compile with keras.optimizers.AdamW or SGD."
            )
        adopt_variables(model, self.variables(model))
        build_optimizer(model)

    def variables(self, model: keras.Model) -> list[keras.Variable]:
        """All variables that learn in the last stage, in the order of the model."""
        now = self._layers_that_learn(self._joined or 0)
        set_learning(model, self._layers_that_learn(len(self._stages)))
        union = list(model.trainable_variables)
        set_learning(model, now)
        return union

    def _layers_that_learn(self, stages):
        return self._always | {id(layer) for _, layers in self._stages[:stages] for layer in layers}

    def _resolved(self, model):
        """`(epoch, layers)` by rising epochs, each layer where it is named first."""
        self._covered = []
        if is_whole(self.schedule):
            named = [(self.schedule * place, layers) for place, layers in enumerate(_groups(model), start=1)]
        else:
            named = [(epoch, _named(model, names)) for epoch, names in sorted(self.schedule.items())]
        stages, seen = [], set()
        for epoch, layers in named:
            self._covered += layers
            kept = [one for one in layers if id(one) not in seen and (self.batch_norm or not _is_norm(one))]
            seen |= {id(layer) for layer in layers}
            stages.append((epoch, kept))
        return stages

    def _say(self, epoch, due):
        owners = variable_owners(self.model)
        kernels = [v for v in self.model.weights if len(v.shape) > 1 and id(v) in owners]
        whole = {owners[id(v)][0] for v in kernels}
        learn = {owners[id(v)][0] for v in kernels if v.trainable}
        joined = self._stages[due - 1][1] if due else []
        names = [layer.name for layer in joined if layer.trainable_variables]
        ends = " to ".join(dict.fromkeys((names[0], names[-1]))) if names else ""
        new = f", from now on {ends} too" if names and epoch else ""
        print(f"\nUnfreeze: epoch {epoch + 1}: {len(learn)} of {len(whole)} layers with a kernel learn{new}.")


def _pairs(schedule):
    return zip(*schedule.items(), strict=True)


def _is_entry(epoch, names):
    row = _row(names)
    return is_whole(epoch) and epoch >= 0 and bool(row) and all(isinstance(one, str) for one in row)


def _row(names):
    return (names,) if isinstance(names, str) else as_row(names)


def _is_norm(layer):
    return isinstance(layer, keras.layers.BatchNormalization)


def _learning(model):
    """The layers that hold variables of their own which learn."""
    owners = variable_owners(model)
    return list({id(owners[id(v)][1]): owners[id(v)][1] for v in model.trainable_variables}.values())


def _named(model, names):
    return [layer for name in names for layer in matches(model, name, caller="Unfreeze")]


def _groups(model):
    """The frozen layers in four groups of as many levels each, the uppermost first."""
    levels = kernel_levels(model)
    owners = {id(layer): layer for _, layer in variable_owners(model).values()}
    frozen = [layer for layer in owners.values() if not any(v.trainable for v in layer.variables)]
    if all(map(_is_norm, frozen)):
        top = max(levels.values(), default=0)
        frozen = [layer for key, layer in owners.items() if levels.get(key, top) < top]
    found = sorted({levels.get(id(layer), 0) for layer in frozen}, reverse=True)
    count = min(_GROUPS, len(found))
    place = {level: rank * count // len(found) for rank, level in enumerate(found)}
    return [[one for one in frozen if place[levels.get(id(one), 0)] == group] for group in range(count)]
