"""A whole training run in one file, written so that a crash leaves either the old file or the new one."""

import json
import zipfile

import keras
import numpy as np

from recipes.common.files import write_atomically

_FORMAT = 1
_ARRAY = "array in this file"


def save_backup(path, model, callbacks, *, epoch, history):
    """Keep everything that a later process needs to go on after `epoch`.

    Weights, seed generators, the optimizer's variables and what the callbacks remember, in one `.npz` file
    without pickles, written with `write_atomically`. Reading back the arrays costs one copy of them in memory.

    Args:
        path: File to write.
        model: A built and compiled `keras.Model`.
        callbacks: The callbacks of the run, in the order given to `fit`.
        epoch: Number of epochs finished.
        history: What `row_of` made of each finished epoch.
    """
    arrays = {}
    for kind, variables in _variables(model).items():
        for index, variable in enumerate(variables):
            arrays[f"{kind}/{index}"] = _to_numpy(variable)
    remembered = [_get_state(callback, f"callback/{i}", arrays) for i, callback in enumerate(callbacks)]
    about = {
        "format": _FORMAT,
        "epoch": epoch,
        "stopped": bool(model.stop_training),
        "history": history,
        "callbacks": remembered,
        "variables": {kind: [v.path for v in variables] for kind, variables in _variables(model).items()},
    }
    arrays["about"] = np.frombuffer(json.dumps(about).encode(), dtype=np.uint8)

    def write(temporary):
        with open(temporary, "wb") as file:
            np.savez(file, **arrays)

    write_atomically(path, write)


def row_of(logs):
    """The numbers of one epoch, as a backup's history holds them."""
    return {name: float(value) for name, value in (logs or {}).items() if np.ndim(value) == 0}


def is_broken(callbacks):
    """Whether one of the callbacks stopped the run at numbers that are not finite.

    The backup of the last good epoch is then the one to go on from, so it must not be replaced.
    """
    return any(getattr(callback, "broken", False) is True for callback in callbacks)


def read_backup(path):
    """What a backup says of itself: dict with `epoch`, `stopped`, `history`, `callbacks`,
    `variables`.

    Raises:
        ValueError: when the file is no backup of this format.
    """
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            about = json.loads(file["about"].tobytes())
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"resume expects a backup written by recipes.train. Received {path}, which cannot be read ({error}). "
            "Remove the file to start the run anew."
        ) from error
    if about.get("format") != _FORMAT:
        raise ValueError(
            f"resume expects a backup of format {_FORMAT}. Received format {about.get('format')} in {path}. "
            "Resume it with the version of keras-recipes that wrote it, or start a new run_dir."
        )
    return about


def restore_variables(path, model):
    """Put weights, seed generators and optimizer variables of a backup into a model of the same build.

    Args:
        path: A backup.
        model: Built and compiled as in the run that wrote it.

    Raises:
        ValueError: when the model has other variables.
    """
    about = read_backup(path)
    with np.load(path, allow_pickle=False) as file:
        for kind, variables in _variables(model).items():
            shapes = [tuple(file[f"{kind}/{i}"].shape) for i in range(len(about["variables"][kind]))]
            if shapes != [tuple(v.shape) for v in variables]:
                raise ValueError(
                    f"resume expects the model that was saved, with {len(shapes)} {kind} variables. Received one "
                    f"whose {len(variables)} {kind} variables differ in number or shape. "
                    "Build and compile the model as in the interrupted run, or start a new run_dir."
                )
        for kind, variables in _variables(model).items():
            for index, variable in enumerate(variables):
                variable.assign(file[f"{kind}/{index}"])


def restore_run(path, model, epochs):
    """`restore_variables`, and where the run goes on.

    Args:
        path: A backup.
        model: As for `restore_variables`.
        epochs: Epochs of the whole run.

    Returns:
        `(first_epoch, rows)`: `epochs` where nothing is left to do, and the numbers of each epoch before.
    """
    about = read_backup(path)
    restore_variables(path, model)
    return epochs if about["stopped"] else min(about["epoch"], epochs), about["history"]


def restore_callbacks(path, callbacks):
    """Give the callbacks back what they remembered. Call it after their `on_train_begin`.

    A callback takes part when it has `get_state` and `set_state`, or when it is one of Keras' own.
    """
    about = read_backup(path)
    with np.load(path, allow_pickle=False) as file:
        for callback, kept in zip(callbacks, about["callbacks"], strict=False):
            if kept is None or kept["class"] != type(callback).__name__:
                continue
            state = _decode(kept["state"], file)
            if hasattr(callback, "set_state"):
                callback.set_state(state)
            else:
                vars(callback).update(state)


def _variables(model):
    optimizer = model.optimizer
    if not optimizer.built:
        optimizer.build(model.trainable_variables)
    return {"model": model.variables, "optimizer": optimizer.variables}


def _to_numpy(variable):
    array = keras.ops.convert_to_numpy(variable.value)
    # bfloat16 has no place in .npz; float32 holds each of its values.
    return array.astype("float32") if array.dtype.name == "bfloat16" else array


def _get_state(callback, prefix, arrays):
    """What one callback remembers as JSON, with its arrays put into `arrays`; None where it takes no part."""
    if hasattr(callback, "get_state"):
        state = callback.get_state()
    elif type(callback).__module__.startswith("keras."):
        kinds = (bool, int, float, str, np.generic, list)
        state = {name: value for name, value in vars(callback).items() if isinstance(value, kinds)}
        # Lists of anything but arrays (best weights) are the callback's wiring, not its memory.
        state = {
            name: value
            for name, value in state.items()
            if not isinstance(value, list) or all(isinstance(entry, np.ndarray) for entry in value)
        }
    else:
        return None
    return {"class": type(callback).__name__, "state": _encode(state, prefix, arrays)}


def _encode(value, key, arrays):
    if isinstance(value, dict):
        return {name: _encode(entry, f"{key}/{name}", arrays) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_encode(entry, f"{key}/{index}", arrays) for index, entry in enumerate(value)]
    if isinstance(value, np.ndarray):
        arrays[key] = value
        return {_ARRAY: key}
    return value.item() if isinstance(value, np.generic) else value


def _decode(value, file):
    if isinstance(value, dict):
        if _ARRAY in value:
            return file[value[_ARRAY]]
        return {name: _decode(entry, file) for name, entry in value.items()}
    return [_decode(entry, file) for entry in value] if isinstance(value, list) else value
