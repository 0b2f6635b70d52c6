"""`recipes.train`: one call from a model and a data set to a trained network, with every trick switched on."""

import tensorflow as tf

from recipes.callbacks.monitor import Monitor
from recipes.checkpoints.run_state import restore_run
from recipes.common.backends import require_tensorflow
from recipes.common.models import rebuild
from recipes.common.optimizers import rate_of
from recipes.common.processes import refuse_several_machines
from recipes.training.callbacks import (
    RunBackup,
    averaging,
    findings_of,
    let_go,
    preflight_facts,
    rate_callbacks,
    statistics_data,
    stopping,
    watching,
)
from recipes.training.compiling import (
    DefaultFloat,
    DefaultString,
    DefaultTuple,
    compile_model,
    refuse_compile_arguments,
)
from recipes.training.data_checks import checked
from recipes.training.full_batch import fit_full_batch as fit_full_batch
from recipes.training.refit import refit_on_all_data as refit_on_all_data
from recipes.training.run import Run as Run
from recipes.training.run import describe, history_of, is_finished, open_folder, write_settings
from recipes.training.settings import check_arguments
from recipes.training.source import (
    choose_pipeline,
    one_hot,
    open_source,
    stream,
    validation_batches,
    with_rows,
)


def train(
    model,
    train,
    validation=None,
    *,
    epochs=30,
    batch_size=128,
    loss=DefaultString("auto"),
    metrics=DefaultTuple(("accuracy",)),
    class_weight=None,
    optimizer=DefaultString("sgd"),
    learning_rate=DefaultString("auto"),
    schedule=DefaultString("cosine"),
    warmup=DefaultFloat(0.05),
    weight_decay=DefaultFloat(5e-4),
    label_smoothing=DefaultFloat(0.0),
    augment="standard",
    average=None,
    snapshots=0,
    early_stopping=None,
    callbacks=(),
    preflight=True,
    monitor=True,
    strategy=None,
    run_dir=None,
    resume=False,
    seed=0,
    steps_per_epoch=None,
    info=None,
    verbose="auto",
):
    """Train a model with the settings that work for most image networks, and keep what happened.

    A model that is not compiled gets SGD with Nesterov momentum 0.9, warm-up over 5 % of the steps and cosine
    decay to zero (He et al. 2019, "Bag of tricks", sections 3.1 and 5.1, https://arxiv.org/abs/1812.01187). A
    compiled model keeps its optimizer, loss and metrics; its rate is the peak of the warm-up and decay.

    Args:
        model: `keras.Model` whose first output gives one number per class. Trained in place.
        train: `tf.data.Dataset` of `(image, label)`, or `(image, label, weight)`, batched or not, or arrays
            `(x, y)`. Labels are class numbers, one-hot or soft rows. Un-batched data is shuffled anew in every
            epoch (within 256 MB of images; images of `data.load` over the whole set, before they are read) and
            batched; a batched data set is used as it comes.
        validation: The same, never shuffled or augmented; None leaves validation out.
        epochs: Passes over the training data, >= 1.
        batch_size: Images a step, over all devices, for data that comes un-batched.
        loss: "auto" picks by the last activation and the labels: softmax or logits with class numbers or rows,
            one sigmoid, several sigmoids. Else anything `compile` takes; labels are then not checked.
        metrics: As in `compile`.
        class_weight: dict from class number to weight, as in `fit`; classes that are not in it weigh 1.
        optimizer: "sgd", "adam", "adamw", another Keras name, or a `keras.optimizers.Optimizer`.
        learning_rate: Peak rate. "auto": 0.1 x batch / 256 for SGD (Goyal et al. 2017, section 2.1), else 1e-3.
        schedule: "cosine", "linear", "step", "inverse_sqrt", a `LearningRateSchedule` or None for a constant rate.
        warmup: Steps until the peak rate, or, below 1, a fraction of the run.
        weight_decay: On kernels only, never on biases or normalization. For SGD it means the L2 coefficient of
            the papers (gradient plus weight_decay x weight); Keras' SGD decays the weight itself, so it is given
            weight_decay / (1 - momentum), which shrinks weights at the same pace. Others get it as it is.
        label_smoothing: Share of every label spread evenly over the classes, in [0, 1).
        augment: "standard" (`augment.standard`, light, for symbols when images have one channel or `info` says so,
            else for photos; none, and said so, for pixels outside 0..255), an `augment.Pipeline`, or None.
        average: None, "ema" (`callbacks.ExponentialMovingAverage`, over the last tenth of the run or 1000 steps,
            whichever is less) or "swa" (`callbacks.StochasticWeightAveraging` over the last quarter of the epochs). The
            run is then validated, and ends, with the averaged weights.
        snapshots: Number of cycles of `callbacks.SnapshotEnsemble`, whose cyclic rate replaces `schedule`; 0 for
            none. The members are in `run_dir/snapshots`, and in `Run.snapshots`.
        early_stopping: Epochs without a better validation loss (training loss without validation) until training
            stops, or an `EarlyStopping`. The best weights are put back.
        callbacks: More Keras callbacks.
        preflight: Run the checks of `diagnose.preflight` first, for about five seconds, and print their table. They
            leave model, optimizer and data as they were.
        monitor: Put `callbacks.default_monitors` and a `TrainingDoctor` into the run. They change no bit of the
            training and take about 1 % of its time, after a one-off trace of a second train function.
        strategy: A `tf.distribute.Strategy`. A model built outside its scope is cloned into it for training and
            gets the trained weights at the end.
        run_dir: Folder for `model.keras`, `best.keras` (lowest validation loss), `history.csv`, `curves.png`,
            `run.json` and, while training, `backup.npz`. A run stopped by a `NonFiniteGuard`, which `monitor=True`
            brings, counts as unfinished and keeps the backup of its last good epoch.
        resume: Go on after the last finished epoch of `run_dir`, to the same number of epochs. Starts at the
            beginning when there is nothing to go on from; returns the run when it was finished.
        seed: Order of the examples and their augmentation. Weights and dropout are the model's own: call
            `keras.utils.set_random_seed` before building it.
        steps_per_epoch: Batches an epoch, for a data set that does not know its length or never ends.
        info: What `recipes.data.load` says of the data set; its classes are compared with the model's.
        verbose: As in `fit`; 0 is silent.

    Returns:
        A `Run` with `.model` (last weights; the best ones after early stopping), `.history`, `.findings`,
        `.record`.

    Raises:
        ValueError, TypeError: before training, with what to type instead: bad arguments, data that cannot be
            right in its first two seconds of examples, a `run_dir` that holds another run.
        tf.errors.InvalidArgumentError: in the first epoch, with the same words, for what only later images show.
    """
    settings = {
        name: value for name, value in locals().items() if name not in ("model", "train", "validation")
    }
    require_tensorflow("recipes.train", "for tf.function and tf.distribute; plain fit takes callbacks.Backup")
    check_arguments(model, **settings)
    compiled = model.compiled
    if compiled:
        refuse_compile_arguments(settings)
    reader_model = model
    if strategy is not None:
        refuse_several_machines(strategy)
        model = _inside(strategy, model)
    classes = _classes(model, loss, compiled, info)
    class_weight = _weight_of_each(class_weight, classes)
    source = open_source(
        train, "train", model=model, batch_size=batch_size, classes=classes, shuffle=True, seed=seed
    )
    held_out = None
    if validation is not None:
        held_out = open_source(
            validation,
            "validation",
            model=model,
            batch_size=batch_size,
            classes=classes,
            shuffle=False,
            seed=seed,
        )
    steps = _steps(source, steps_per_epoch)
    folder = open_folder(run_dir, resume, epochs=epochs, seed=seed)
    if folder is not None and resume and is_finished(folder):
        return _finished_run(folder, reader_model, verbose)

    pipeline, augmentation = choose_pipeline(augment, source, info, classes, seed)
    check = checked("train", classes)

    @tf.function(autograph=False)  # traced once for the look, the checks, the statistics and the training
    def prepare(batch, place):
        batch = check(batch)
        return (
            pipeline(*batch, seed=pipeline.batch_seed(place[0], place[1])) if pipeline is not None else batch
        )

    label_spec = stream(source, first_epoch=0, epochs=1, steps=1, transform=prepare).element_spec[1]
    rows_wanted = label_spec.shape.rank == 2
    if compiled:
        _refuse_rows_for_sparse_loss(model, label_spec, source)
    else:
        rows_wanted |= compile_model(model, source, label_spec, settings, strategy)
    rows_of = one_hot(classes) if rows_wanted and classes is not None else None
    peak = rate_of(model.optimizer)
    backup = folder / "backup.npz" if folder is not None else None
    first_epoch, rows = 0, []
    if resume and backup is not None and backup.exists():
        first_epoch, rows = restore_run(backup, model, epochs)
    rate, schedule = rate_callbacks(model, schedule, warmup, snapshots, average, folder, resume, verbose)
    average_callbacks = averaging(
        average, steps * epochs, lambda: statistics_data(source.aside, steps, prepare)
    )
    every = [*average_callbacks, *stopping(early_stopping, held_out), *rate, *callbacks]

    def prepared(batch, place):
        return with_rows(prepare(batch, place), rows_of)

    validation_data = validation_batches(held_out, classes, rows_of)
    look = stream(source.aside, first_epoch=0, epochs=1, steps=steps, transform=prepared)
    validation_look = validation_batches(held_out and held_out.aside, classes, rows_of)
    facts = None
    if preflight and first_epoch == 0:
        facts = preflight_facts(model, look, validation_look, verbose)
    if monitor:
        every += watching(every, facts, look, validation_look, verbose)
    keeper = RunBackup(folder, backup, every, rows)
    if verbose != 0:
        _announce(model, source, held_out, steps, peak, schedule, augmentation, first_epoch)
    described = describe(settings, model, source, steps)
    if folder is not None:
        write_settings(folder, {**described, "finished": False})

    # With nothing left to do this still runs on_train_end, where best or averaged weights are put back.
    try:
        model.fit(
            stream(
                source,
                first_epoch=min(first_epoch, epochs - 1),
                epochs=epochs,
                steps=steps,
                transform=prepared,
            ),
            epochs=epochs,
            initial_epoch=first_epoch,
            steps_per_epoch=steps,
            shuffle=False,
            validation_data=validation_data,
            class_weight=class_weight,
            callbacks=[*every, keeper],
            verbose=verbose,
        )
    except BaseException:
        let_go(every)
        raise
    if model is not reader_model:
        reader_model.set_weights(model.get_weights())
    taken = next((callback for callback in rate if snapshots), None)
    run = Run(
        model=model,
        history=history_of(keeper.rows),
        findings=findings_of(every, history_of(keeper.rows), model),
        record=next((callback.record for callback in every if isinstance(callback, Monitor)), None),
        settings=described,
        snapshots=taken,
        validation=validation,
        class_names=tuple(info.class_names) if info is not None else None,
    )
    if folder is not None:
        run.write(folder, finished=not keeper.broken)
        if not keeper.broken:
            backup.unlink(missing_ok=True)
    return run


def _inside(strategy, model):
    """The model itself when it lives in the strategy, else a clone of it that does."""
    if getattr(model, "distribute_strategy", None) is strategy:
        return model
    if model.compiled:
        raise ValueError(
            f"recipes.train expects a model compiled inside the scope of strategy=. Received {model.name!r}, "
            "compiled outside it. Build and compile it under `with strategy.scope():`."
        )
    try:
        with strategy.scope():
            clone = rebuild(model)
    except ValueError as error:
        raise ValueError(
            f"recipes.train expects a model that Keras can clone into strategy=. {error}. "
            "Build it under `with strategy.scope():`."
        ) from error
    clone.set_weights(model.get_weights())
    return clone


def _classes(model, loss, compiled, info):
    """Number of classes that labels must fit, or None where they are not class labels."""
    outputs = getattr(model, "outputs", None)
    if not outputs or len(outputs) > 1 or len(outputs[0].shape) != 2:
        return None
    width = outputs[0].shape[-1]
    classes = 2 if width == 1 else width
    if info is not None and len(info.class_names) != classes:
        raise ValueError(
            f"recipes.train expects one output per class, {len(info.class_names)} for {info.source}. Received a "
            f"model with {width}. Build it with classes={len(info.class_names)}."
        )
    judged = model.loss if compiled else loss
    if not compiled and judged == "auto":
        return classes
    name = judged if isinstance(judged, str) else getattr(judged, "name", getattr(judged, "__name__", ""))
    return classes if "crossentropy" in str(name) else None


def _weight_of_each(class_weight, classes):
    """Keras wants a weight for every class from 0 on."""
    if not class_weight:
        return None
    count = max(class_weight) + 1 if classes is None else classes
    if min(class_weight) < 0 or max(class_weight) >= count:
        wrong = min(class_weight) if min(class_weight) < 0 else max(class_weight)
        raise ValueError(
            f"recipes.train expects class numbers in 0..{count - 1} as keys of class_weight. Received {wrong}. "
            "Give weights of classes that the model has."
        )
    return {number: float(class_weight.get(number, 1.0)) for number in range(count)}


def _steps(source, steps_per_epoch):
    if steps_per_epoch is not None:
        if source.steps is not None and steps_per_epoch > source.steps:
            raise ValueError(
                f"recipes.train expects at most the {source.steps} batches of train in an epoch. Received "
                f"steps_per_epoch={steps_per_epoch}. Use train.repeat()."
            )
        return int(steps_per_epoch)
    if source.steps is None:
        kind = "never ends" if source.endless else "does not know its length"
        raise ValueError(
            f"recipes.train expects to know how long an epoch is, for the schedule. Received a data set that {kind}. "
            "Give steps_per_epoch=, or apply tf.data.experimental.assert_cardinality(n)."
        )
    return source.steps


def _finished_run(folder, model, verbose):
    run = Run.load(folder)
    (folder / "backup.npz").unlink(missing_ok=True)  # of a process killed between its last two lines
    if verbose != 0:
        print(f"recipes.train: the run in {folder} is finished; nothing to resume.")
    model.set_weights(run.model.get_weights())
    return run


def _refuse_rows_for_sparse_loss(model, label_spec, source):
    if (
        label_spec.shape.rank == 2
        and source.label_spec.shape.rank == 1
        and "sparse" in str(model.loss).lower()
    ):
        raise ValueError(
            "recipes.train expects a loss that takes rows of class weights where augmentation mixes labels. Received "
            f"a model compiled with {model.loss}. Compile it with 'categorical_crossentropy'."
        )


def _announce(model, source, held_out, steps, peak, schedule, augmentation, first_epoch):
    shape = "x".join(str(side) for side in source.image_shape or ())
    images = f"{source.examples} images" if source.examples else "images"
    against = f", {held_out.examples} to validate" if held_out is not None and held_out.examples else ""
    rate = f"rate {peak:.3g}, schedule {schedule}" if peak is not None else "its own schedule"
    print(
        f"recipes.train: {images} of {shape}{against}; {steps} steps an epoch; "
        f"{type(model.optimizer).__name__} at {rate}; augmentation {augmentation}."
    )
    if source.batched:
        print(
            "recipes.train: the data set comes batched; its own batches and order are used, batch_size is not."
        )
    if first_epoch:
        print(f"recipes.train: going on after epoch {first_epoch}.")
