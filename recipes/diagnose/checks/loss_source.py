"""Find operations that may give NaN or infinity in the code of a custom loss, by their names."""

import dis
import inspect
from typing import Any

import keras

# Functions that are not finite everywhere -> where they are not.
_DANGEROUS = {
    "log": "a logarithm, infinite at 0 and NaN below",
    "log2": "a logarithm, infinite at 0 and NaN below",
    "log10": "a logarithm, infinite at 0 and NaN below",
    "log1p": "log(1 + x), infinite at -1 and NaN below",
    "sqrt": "a square root, NaN below 0 and with an infinite slope at 0",
    "norm": "a norm, whose slope at 0 is NaN",
    "rsqrt": "1 / sqrt(x), infinite at 0",
    "reciprocal": "a division, infinite at 0",
    "divide": "a division, infinite at 0",
    "truediv": "a division, infinite at 0",
    "exp": "an exponential, infinite above 88",
    "expm1": "an exponential, infinite above 88",
    "cosh": "an exponential, infinite above 88",
    "arccos": "arccos, NaN outside -1..1 and with an infinite slope at both ends",
    "acos": "arccos, NaN outside -1..1 and with an infinite slope at both ends",
    "pow": "a power, whose slope at 0 may be infinite",
    "power": "a power, whose slope at 0 may be infinite",
}
_DEPTH = 3  # levels of function calls that are read, the loss included


def loss_reads(model: keras.Model) -> list[str]:
    """Descriptions of the operations in a model's loss that are not finite everywhere; empty for a loss of Keras.

    Only the names in the code are read; nothing is run.

    Args:
        model: A compiled `keras.Model`.
    """
    found: dict[str, None] = {}
    for loss in keras.tree.flatten(model.loss) if model.loss is not None else ():
        function = getattr(loss, "fn", None) or (
            type(loss).call if isinstance(loss, keras.losses.Loss) else loss
        )
        _read(function, found, _DEPTH)
    return list(found)


def _read(function: Any, found: dict[str, None], depth: int) -> None:
    function = inspect.unwrap(function) if callable(function) else function
    code = getattr(function, "__code__", None)
    if (
        code is None
        or not depth
        or (getattr(function, "__module__", "") or "").startswith(("keras.", "tensorflow."))
    ):
        return
    for name in code.co_names:
        if name in _DANGEROUS:
            found[_DANGEROUS[name]] = None
    if any(
        step.argrepr in ("/", "/=") or "TRUE_DIVIDE" in step.opname for step in dis.get_instructions(code)
    ):
        found["a division, infinite at 0"] = None
    inside = [cell.cell_contents for cell in function.__closure__ or () if callable(_content(cell))]
    called = [function.__globals__.get(name) for name in code.co_names]
    for other in (*inside, *called):
        if inspect.isfunction(other):
            _read(other, found, depth - 1)


def _content(cell):
    try:
        return cell.cell_contents
    except ValueError:  # a name that is not bound yet
        return None
