"""The error that `recipes.explain` raises."""


class UsageError(ValueError):
    """A mistake in the arguments of a call; a class of its own, so that no fallback hides it."""

    _keras_call_info_injected = (
        True  # so that Keras does not change the message when it passes through a layer
    )
