"""Attributes of instances, replaced while something runs and put back afterwards."""

import contextlib
import threading


@contextlib.contextmanager
def replaced(replacements):
    """Replace attributes of instances for the length of a `with` block.

    Keras keeps track of what is assigned to layers and models; this goes round it, and leaves an object exactly
    as it was, also after an exception or Ctrl-C.

    Args:
        replacements: `(object, name, value)` triples.
    """
    undo = []
    try:
        for target, name, value in replacements:
            undo.append((target, name, name in vars(target), vars(target).get(name)))
            object.__setattr__(target, name, value)
        yield
    finally:
        for target, name, had_own, own in reversed(undo):
            if had_own:
                object.__setattr__(target, name, own)
            else:
                object.__delattr__(target, name)


class Recorder(threading.local):
    """Where the hooks write; thread-local, because a MirroredStrategy traces one thread per replica."""

    seen = None


def recording_call(watched, recorder):
    """A stand-in for `layer.call` that also hands the output to the recorder."""
    original = watched.operation.call

    def call(*args, **kwargs):
        output = original(*args, **kwargs)
        _tell(recorder, "output", watched, output)
        return output

    return call


def recording_apply(optimizer, recorder):
    """A stand-in for `optimizer.apply` that also hands the gradients to the recorder."""
    original = optimizer.apply

    def apply(grads, trainable_variables=None):
        grads = list(grads)
        trainable_variables = None if trainable_variables is None else list(trainable_variables)
        _tell(recorder, "gradients", optimizer, grads, trainable_variables)
        return original(grads, trainable_variables)

    return apply


def recording_loss(model, recorder):
    """A stand-in for `model.compute_loss` that also hands the loss to the recorder."""
    original = model.compute_loss

    def compute_loss(*args, **kwargs):
        loss = original(*args, **kwargs)
        predictions = kwargs["y_pred"] if "y_pred" in kwargs else args[2] if len(args) > 2 else None
        _tell(recorder, "take_loss", loss, predictions)
        return loss

    return compute_loss


def _tell(recorder, what, *values):
    if recorder.seen is not None:
        try:
            getattr(recorder.seen, what)(*values)
        except Exception as error:  # reported with the measurements; the training step goes on
            recorder.seen.fault = error
