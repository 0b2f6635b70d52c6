"""Which rooms need Keras on TensorFlow, and the words for it."""

import keras


def require_tensorflow(name: str, why: str) -> None:
    """Refuse to go on where Keras runs on another backend.

    Args:
        name: The public name that was used.
        why: Half a sentence, after "expects Keras on TensorFlow, ".

    Raises:
        RuntimeError: on another backend.
    """
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            f"{name} expects Keras on TensorFlow, {why}. Received the backend {keras.backend.backend()!r}. "
            f"Set KERAS_BACKEND=tensorflow before importing keras, or leave {name} out."
        )
