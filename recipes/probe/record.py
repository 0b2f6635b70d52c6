"""What the probes saw during a run, as numpy columns."""

import dataclasses
import io
import json
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

# Column: (axis it runs along besides the probes, or None; dtype; value where it was not measured).
COLUMNS = {
    "step": (None, "int64", 0),
    "epoch": (None, "int32", 0),
    "seconds": (None, "float32", np.nan),
    "loss": (None, "float32", np.nan),
    "loss_finite": (None, "bool", True),
    "learning_rate": (None, "float32", np.nan),
    "examples": (None, "float32", np.nan),
    "one_label": (None, "float32", np.nan),
    "input_finite": ("inputs", "bool", True),
    "weight_norm": ("variables", "float32", np.nan),
    "update_norm": ("variables", "float32", np.nan),
    "gradient_norm": ("variables", "float32", np.nan),
    "weight_finite": ("variables", "bool", True),
    "update_finite": ("variables", "bool", True),
    "output_finite": ("layers", "bool", True),
    "mean": ("activations", "float32", np.nan),
    "std": ("activations", "float32", np.nan),
    "sample_std": ("activations", "float32", np.nan),
    "zero_fraction": ("activations", "float32", np.nan),
    "saturated_fraction": ("activations", "float32", np.nan),
}
AXES = {
    "inputs": ("name",),
    "variables": ("name", "layer", "layer_class", "role", "size", "depth", "factor"),
    "layers": ("name", "layer", "layer_class", "kind"),
    "activations": ("name", "layer", "layer_class", "kind", "units", "depth"),
}


@dataclass
class Probe:
    """One look inside one training step: `values[column]` is that step's row of the record.

    `rates` is the rate of activity per unit of all activations, one after another (see `Record.activity`). `active` is
    1 for each unit of the rectified activations that was above zero anywhere in the whole batch, else 0. `histograms`
    holds what is written for TensorBoard.
    """

    step: int
    epoch: int
    values: dict
    rates: np.ndarray | None = None
    active: np.ndarray | None = None
    histograms: dict = field(default_factory=dict)


@dataclass
class Record:
    """What the probes saw: one row per probe, columns of numpy arrays.

    Columns (n probes; V trainable variables, L layers in forward order, A activations in forward order):

    - `step` (n,): training step of the run, from 0; `epoch` (n,): from 0; `seconds` (n,): wall-clock length of
      that execution, NaN where it was not timed (tracing, end of an epoch).
    - `loss` (n,): the loss of that one batch, penalties included (not Keras' running mean), NaN where a custom
      `train_step` logs none; `loss_finite` (n,): False where a loss is known and not finite. `learning_rate` (n,): NaN
      where several optimizers made the step.
    - `examples` (n,): how many the batch held; `one_label` (n,): 1 where all of them have the same label, else 0, NaN
      without labels or with several kinds of them.
    - `input_finite` (n, 3): whether inputs, targets and sample weights were finite.
    - `weight_norm`, `update_norm`, `gradient_norm` (n, V): Euclidean norms of the variable before the step, of
      what the step changed, and of the gradient (before clipping, loss scaling undone). NaN in a column means
      not measured, or, for `update_norm`, that the step changed no weights by design (gradient accumulation, a
      step skipped by loss scaling).
    - `weight_finite`, `update_finite` (n, V): whether every number was finite before, and after the step.
    - `output_finite` (n, L): whether every number of the layer's output was finite.
    - `mean`, `std`, `sample_std`, `zero_fraction`, `saturated_fraction` (n, A): over the looked-at samples of the
      batch. `sample_std` is the root mean over units of the variance across samples; saturated means
      |y| > 0.95 for tanh, |2y - 1| > 0.95 for sigmoid (both leave under a tenth of the largest slope), y at the
      ceiling for a bounded ReLU, NaN for other kinds.

    Axes describe the columns: `axes["variables"]["name"]` is an array of V names, and so on:
    variables have name, layer, layer_class, role, size, depth, factor; layers name, layer, layer_class, kind;
    activations name, layer, layer_class, kind, units, depth. A layer called twice has a second entry with the name
    `layer#2`. `depth` is the position in forward order in `axes["layers"]`, -1 when unknown. `factor` is the factor of
    the variable on the learning rate (`optimizers.layerwise`), 1 without one. `role` is "kernel", "bias",
    "normalization" or "vector". A column that was not measured is filled with NaN (or True); `measured` names the
    measured ones.

    The size is bounded: beyond `limit` rows every second row is dropped, and from then on every second probe is kept.
    The newest row, and the first one with a number that is not finite, are never dropped. Rates of activity per unit
    are kept for fewer rows, `unit_bytes` in all.
    """

    limit: int = 1024
    unit_bytes: int = 8 << 20
    axes: dict = field(default_factory=lambda: {axis: {} for axis in AXES})
    measured: list = field(default_factory=list)
    unseen: list = field(default_factory=list)
    notes: list = field(default_factory=list)
    cost: dict = field(default_factory=dict)
    _rows: "_Thinned" = field(default_factory=lambda: _Thinned(), repr=False)
    _units: "_Thinned" = field(default_factory=lambda: _Thinned(), repr=False)

    def __len__(self):
        return len(self._rows)

    def __repr__(self):
        shape = ", ".join(
            f"{len(self.axes[axis].get('name', ()))} {axis}" for axis in AXES if axis != "inputs"
        )
        return f"Record({len(self)} probes, {shape})"

    def __getattr__(self, name):
        if name not in COLUMNS:
            raise AttributeError(
                f"A Record has the columns {', '.join(COLUMNS)}. Received {name!r}. Name one of them."
            )
        axis, dtype, missing = COLUMNS[name]
        width = () if axis is None else (self._width(axis),)
        column = np.full((len(self._rows), *width), missing, dtype)
        for i, row in enumerate(self._rows):
            if name in row:
                column[i] = row[name]
        return column

    @property
    def update_ratio(self) -> np.ndarray:
        """|dW| / |W| of every probe and variable, (n, V) float32; NaN where the weights were all zero."""
        weight = self.weight_norm
        return np.divide(self.update_norm, weight, out=np.full_like(weight, np.nan), where=weight > 0)

    def activity(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Rates of activity of one activation's units over time.

        Args:
            name: An entry of `axes["activations"]["name"]`.

        Returns:
            `(steps, rates)`: int64 (m,) and float32 (m, units), the share of looked-at outputs above zero.

        Raises:
            ValueError: for a name that is not among the activations.
        """
        names = list(self.axes["activations"].get("name", ()))
        if name not in names:
            raise ValueError(
                f"Record.activity expects the name of an activation. Received {name!r}. Give one of these: "
                f"{', '.join(names)}."
            )
        units = self.axes["activations"]["units"]
        start = int(units[: names.index(name)].sum())
        stop = start + int(units[names.index(name)])
        steps = np.array([step for step, _ in self._units], "int64")
        rates = [rates[start:stop] for _, rates in self._units]
        return steps, np.array(rates, "float32").reshape(len(steps), stop - start)

    def describe(
        self, axes: dict[str, dict[str, Any]], measured: Iterable[str], unseen: Iterable[str]
    ) -> None:
        """Name what the columns will hold; a description that differs from the one before drops earlier probes."""
        axes = {axis: {key: np.asarray(value) for key, value in axes[axis].items()} for axis in AXES}
        for axis in axes:
            if not axes[axis]["name"].size:  # not measured this time
                axes[axis] = self.axes[axis]
        if self._rows and not _same_axes(axes, self.axes):
            self.notes.append(
                f"The model changed after step {self._rows[-1]['step']}: earlier probes were dropped."
            )
            self._rows, self._units = _Thinned(), _Thinned()
        self.axes = axes
        self.measured = sorted({*self.measured, *measured})
        self.unseen = list(dict.fromkeys([*self.unseen, *unseen]))

    def add(self, probe: Probe) -> None:
        """Append one `Probe`, and thin out older ones when the record is full."""
        row = {"step": probe.step, "epoch": probe.epoch}
        for name, value in probe.values.items():
            row[name] = np.asarray(value).astype(COLUMNS[name][1])
        self._rows.add(row, self.limit, keep=_alarming(row) and not any(map(_alarming, self._rows)))
        if probe.rates is not None and probe.rates.size:
            rates = np.asarray(probe.rates, "float32")
            self._units.add((probe.step, rates), max(16, self.unit_bytes // rates.nbytes))

    def take_over(self, other: "Record") -> None:
        """Take over all content of `other`, whose columns are shared from then on."""
        for one in dataclasses.fields(self):
            setattr(self, one.name, getattr(other, one.name))

    def rename(self, new: Callable[[str], str]) -> None:
        """Give layers other names: `new(name)` is called with the names of layers, their calls and variables."""
        for entries in self.axes.values():
            for key in {"name", "layer"} & set(entries):
                entries[key] = np.array([new(str(name)) for name in entries[key]])
        self.unseen = [new(name) for name in self.unseen]

    def save(self, path: str | PathLike[str]) -> None:
        """Write the record to one `.npz` file (numpy arrays only, no pickle).

        Args:
            path: File to write; numpy adds `.npz` when it is missing.
        """
        np.savez_compressed(path, **self._arrays())

    @classmethod
    def load(cls, path: str | PathLike[str]) -> "Record":
        """Read what `save` wrote.

        Args:
            path: The `.npz` file.

        Raises:
            ValueError: when the file holds something else.
        """
        path = Path(path)
        path = path if path.exists() else path.with_name(path.name + ".npz")
        try:
            with open(path, "rb") as file:
                return cls._from_file(file)
        except (AttributeError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"Record.load expects a file written by Record.save. Received {path}, which is another ({error}). "
                "Save a run's record with run.record.save(path)."
            ) from error

    def to_bytes(self) -> bytes:
        """The bytes of the file that `save` would write."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **self._arrays())
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Record":
        """The record whose `to_bytes` gave `data`."""
        return cls._from_file(io.BytesIO(data))

    def _arrays(self):
        names = ("limit", "unit_bytes", "measured", "unseen", "notes", "cost")
        arrays = {"about": np.array(json.dumps({name: getattr(self, name) for name in names}))}
        for axis, entries in self.axes.items():
            arrays.update({f"axis/{axis}/{key}": np.asarray(value) for key, value in entries.items()})
        arrays.update({f"column/{name}": getattr(self, name) for name in ["step", "epoch", *self.measured]})
        arrays |= {"thinned/rows": self._rows.numbers(), "thinned/units": self._units.numbers()}
        arrays["units/step"] = np.array([step for step, _ in self._units], "int64")
        arrays["units/rate"] = np.array([rates for _, rates in self._units], "float32")
        return arrays

    @classmethod
    def _from_file(cls, file):
        with np.load(file, allow_pickle=False) as arrays:
            record = cls(**json.loads(str(arrays["about"])))
            columns = {key.split("/")[1]: arrays[key] for key in arrays if key.startswith("column/")}
            for key in (key for key in arrays if key.startswith("axis/")):
                _, axis, entry = key.split("/")
                record.axes[axis][entry] = arrays[key]
            rows = [
                {name: column[i] for name, column in columns.items()} for i in range(len(columns["step"]))
            ]
            units = list(zip(arrays["units/step"].tolist(), arrays["units/rate"], strict=True))
            record._rows = _Thinned(rows, arrays["thinned/rows"])
            record._units = _Thinned(units, arrays["thinned/units"])
        return record

    def _width(self, axis):
        return len(self.axes[axis].get("name", ()))


def _same_axes(a, b):
    return all(
        np.array_equal(a[axis].get(key, ()), b[axis].get(key, ())) for axis in AXES for key in AXES[axis]
    )


def _alarming(row):
    return not all(
        np.all(row.get(name, True))
        for name in ("input_finite", "weight_finite", "update_finite", "output_finite")
    )


class _Thinned(list):
    """A list that keeps the items whose number is a multiple of a stride, which doubles when it is full."""

    def __init__(self, items=(), numbers=(0, 1)):
        super().__init__(items)
        self.count, self.stride = (int(n) for n in numbers[:2])
        self._numbers = [int(n) for n in numbers[2:]]
        self._kept = {n for n in self._numbers[:-1] if n % self.stride}

    def add(self, item, limit, keep=False):
        """Append an item; the one before is kept only if its number is to be kept."""
        if self and not self._stays(self._numbers[-1]):
            self.pop()
            self._numbers.pop()
        if keep:
            self._kept.add(self.count)
        self.append(item)
        self._numbers.append(self.count)
        self.count += 1
        while len(self) > limit:
            self.stride *= 2
            newest = self._numbers[-1]
            pairs = [
                (i, n) for i, n in zip(self, self._numbers, strict=True) if self._stays(n) or n == newest
            ]
            self[:], self._numbers = [i for i, _ in pairs], [n for _, n in pairs]

    def numbers(self):
        """The `numbers` with which `__init__` continues this list."""
        return np.array([self.count, self.stride, *self._numbers], "int64")

    def _stays(self, number):
        return number % self.stride == 0 or number in self._kept
