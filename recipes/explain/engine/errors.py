"""What `recipes.explain` raises."""


class UsageError(ValueError):
    """A mistake in what the caller asked for, so that no fallback hides it."""

    _keras_call_info_injected = True  # Keras then leaves the message alone when it passes through a layer
