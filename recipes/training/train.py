"""`recipes.train`: one call from a model and a data set to a trained network, with every trick switched on."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Any, Literal

import keras
import tensorflow as tf

from recipes.callbacks.monitor import Monitor
from recipes.checkpoints.backup_file import read_backup, restore_variables
from recipes.checkpoints.comparison import architecture, differences
from recipes.common.datasets import pairs_of
from recipes.common.history_table import history_of
from recipes.common.memory import forget_train_functions
from recipes.common.models import build_for_training, build_metrics
from recipes.common.optimizers import rate_of, rates_of
from recipes.common.types import Data, Verbose
from recipes.distribution.lost import lost_workers_told
from recipes.training.before_training import BeforeTraining, before_training
from recipes.training.begun_by import command
from recipes.training.callbacks import (
    TrainingCallbacks,
    clean_up,
    examples_of,
    findings_of,
    first_of,
    rate_by_step,
    times_of,
    training_callbacks,
    watching_callbacks,
)
from recipes.training.changes_in_short import begins_anew, in_short
from recipes.training.compiling import compile_model, in_strategy
from recipes.training.data_fingerprint import NOT_FIXED, fingerprint
from recipes.training.epoch_stream import blank_batch
from recipes.training.interruption import SkippingCallbackList
from recipes.training.longer_runs import go_on_longer
from recipes.training.mended_labels import mended
from recipes.training.run import Run
from recipes.training.run_backup import Progress, RunBackup
from recipes.training.run_description import check_checksums, describe
from recipes.training.run_folder import FORMAT, open_folder
from recipes.training.settings import (
    LossLike,
    MetricsLike,
    OptimizerName,
    ScheduleName,
    Settings,
    carried_out_by,
    check_arguments,
)
from recipes.training.training_data import TrainingData, open_data
from recipes.training.unfreezing import with_unfreezing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from recipes.augment import Pipeline
    from recipes.checkpoints.kept_backups import KeepOptions
    from recipes.data.load import DatasetInfo
    from recipes.diagnose import LabelIssues


def _train(model: keras.Model, train: Data, validation: Data | None, settings: Settings) -> Run:
    """The plan of `recipes.train`."""
    check_arguments(model, settings)
    settings = with_unfreezing(model, settings.for_backend(keras.backend.backend()))
    trained = in_strategy(model, settings.strategy, settings.verbose)
    train, validation = pairs_of(train), pairs_of(validation)
    used, kept = mended(train, trained, settings.drop, settings.relabel)
    data = open_data(trained, used, validation, settings).keeping(kept)
    with open_folder(settings) as folder:
        if folder is not None:
            folder.check_epochs(settings.epochs)
        prints = _fingerprints(train, validation, folder)
        asked = describe(settings, trained, data, prints)  # before compiling and unfreezing change it
        asked["command"] = command() or ((folder and folder.before) or {}).get("command")
        changes = folder.compare(asked) if folder is not None else []
        if changes and settings.verbose:
            print(f"recipes.train: goes on with other arguments than before: {in_short(changes)}.")
        if folder is not None and folder.finished and not _goes_on_longer(folder, settings):
            return _finished_run(folder, model, settings)

        data = data.for_loss(compile_model(trained, data.source, data.label_spec, settings))
        _whole_executions(trained, data.steps, settings)
        peak = rate_of(trained.optimizer)
        # Before a backup puts its lowered rate back.
        described = describe(settings, trained, data, prints) | asked
        progress = _restored(folder, trained, data, peak, settings)
        acting = training_callbacks(trained, data, settings, folder)
        if progress.file is None:
            before = before_training(trained, data, settings)
        else:
            before = BeforeTraining(kept=folder.before.get("before_training"))
        watching = watching_callbacks(trained, acting.callbacks, before.facts, data, settings)
        backup = RunBackup(folder, [*acting.callbacks, *watching], progress, settings)

        described |= before.describe()
        if folder is not None:
            described |= go_on_longer(folder, acting.callbacks, progress, data.steps, settings)
            described |= _history_of_changes(folder, changes, progress)
            folder.write_settings({**described, "finished": False})
        _announce(trained, data, peak, acting, progress, described, settings)
        _fit(trained, data, settings, backup)
        if trained is not model:
            model.set_weights(trained.get_weights())
        run = _run_of(trained, train, validation, settings, acting, backup, described, before)
        if folder is not None:
            backup.finish()
            run.write(folder.written, finished=not backup.broken)
        return run


@carried_out_by(_train)
def train(
    model: keras.Model,
    train: Data,
    validation: Data | None = None,
    *,
    epochs: int = 30,
    batch_size: int = 128,
    loss: LossLike = "auto",
    metrics: MetricsLike = ("accuracy",),
    class_weight: Mapping[int, float] | None = None,
    optimizer: OptimizerName | keras.optimizers.Optimizer = "auto",
    learning_rate: float | Literal["auto"] | keras.optimizers.schedules.LearningRateSchedule = "auto",
    rates: float | Mapping[str, float] | None = None,
    unfreeze: Literal["auto"] | int | Mapping[int, str | Sequence[str]] | None = "auto",
    schedule: ScheduleName | keras.optimizers.schedules.LearningRateSchedule | None = "cosine",
    warmup: float = 0.05,
    weight_decay: float = 5e-4,
    label_smoothing: float = 0.0,
    augment: Literal["standard"] | Pipeline | None = "standard",
    average: Literal["auto", "ema", "swa"] | None = None,
    snapshots: int = 0,
    early_stopping: int | keras.callbacks.EarlyStopping | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    preflight: Literal["data", "try"] | bool = "data",
    monitor: bool = True,
    strategy: tf.distribute.Strategy | None = None,
    run_dir: str | PathLike[str] | None = None,
    resume: bool | Literal["force"] = False,
    keep: int | KeepOptions = 1,
    backup_every: str | int | None = None,
    seed: int = 0,
    steps_per_epoch: int | None = None,
    drop: LabelIssues | Sequence[int] | None = None,
    relabel: LabelIssues | Mapping[int, int] | None = None,
    info: DatasetInfo | None = None,
    verbose: Verbose = "auto",
) -> Run:
    """Train a model with the settings that work for most image networks, and keep what happened.

    A model that is not compiled gets `optimizers.MuonSGD`, a warm-up over 5 % of the steps and cosine decay to zero. A
    compiled model keeps its optimizer, loss and metrics; its rate is the peak of the warm-up and decay.

    Source: He et al. 2019, "Bag of tricks", sections 3.1 and 5.1, https://arxiv.org/abs/1812.01187.

    Args:
        model: `keras.Model` whose first output gives one number per class, for the image or, with masks for labels, for
            every pixel. Trained in place.
        train: `tf.data.Dataset` of `(image, label)`, or `(image, label, weight)`, batched or not, or arrays
            `(x, y)`. Labels are class numbers, one-hot or soft rows; or masks `(height, width)` of class numbers, which
            are augmented with their images; the weight may then be one for every pixel. Un-batched data is shuffled
            anew in every epoch (within 256 MB of images; images of `data.load` over the whole set, before they are
            read) and batched; a batched data set is used as it comes.
        validation: Validation data in the same forms, never shuffled or augmented; None leaves validation out.
        epochs: Passes over the training data, >= 1.
        batch_size: Images per step, over all devices, for data that comes un-batched.
        loss: "auto" picks by the last activation and the labels: softmax or logits with class numbers or rows,
            one sigmoid, several sigmoids. Else anything `compile` takes; labels are then not checked.
        metrics: As in `compile`. With masks the default also includes the mean IoU of the classes.
        class_weight: dict from class number to weight, as in `fit`; classes that are not in it weigh 1.
        optimizer: "auto" is `optimizers.MuonSGD`, ten percentage points better than SGD after six short epochs
            (benchmarks/defaults.py). It is Adam for models of `models.transfer` and where only a new classifier learns;
            "sgd", "adam", "adamw", another Keras name, or a `keras.optimizers.Optimizer`.
        learning_rate: Peak rate, > 0. "auto" follows from model and batch: 0.2 x sqrt(batch / 128) for MuonSGD, 0.2 x
            batch / 128 for SGD (scaled as in Goyal et al. 2017, section 2.1), and 1e-3 for others. A network without
            normalization layers gets half of that with MuonSGD and a quarter of it with SGD.
        rates: Factors of that rate per layer, for fine-tuning: by names or patterns, `{"head": 1.0, "backbone": 0.1}`,
            or the decay from one layer to the layer below, 0.75; see `optimizers.rate_factors`. Weight decay follows
            them. With a compiled model they are put into its optimizer.
        unfreeze: When frozen layers begin to learn, as `callbacks.Unfreeze` takes it; None for never. "auto" acts on a
            model of `models.transfer` that is not compiled and of which only the head learns, with an optimizer by
            name. All of it except its batch normalization then learns from the first step on, at rates that decay by
            0.75 from layer to layer unless `rates` says otherwise (benchmarks/fine_tuning.py).
        schedule: "cosine", "linear", "step", "inverse_sqrt", a `LearningRateSchedule` or None for a constant rate.
        warmup: Steps until the peak rate, or, below 1, a fraction of the run.
        weight_decay: On kernels only, never on biases or normalization. For SGD and MuonSGD it means the L2
            coefficient of the papers (gradient plus weight_decay x weight); Keras' SGD decays the weight itself, so
            both are given weight_decay / (1 - momentum), which shrinks weights at the same pace. Other optimizers get
            it as it is, but AdamW by name keeps its own default, 0.004, unless this argument is given.
        label_smoothing: Share of every label spread evenly over the classes, in [0, 1).
        augment: "standard" (`augment.standard`, light, for symbols when images have one channel or `info` says so,
            else for photos; none, with a message, for pixels outside 0..255), an `augment.Pipeline`, or None.
        average: None, "ema" (`callbacks.ExponentialMovingAverage`, over the last tenth of the run or 1000 steps,
            whichever is less) or "swa" (`callbacks.StochasticWeightAveraging` over the last quarter of the epochs). The
            run is then validated, and ends, with the averaged weights. "auto" is "ema" where the rate stays constant
            (`schedule=None`), and none where it decays, because an average changed nothing there
            (`benchmarks/averages.py`).
        snapshots: Number of cycles of `callbacks.SnapshotEnsemble`, whose cyclic rate replaces `schedule`; 0 for
            none. The members are in `run_dir/snapshots`, and in `Run.snapshots`.
        early_stopping: Epochs without a better validation loss (training loss without validation) until training
            stops, or an `EarlyStopping`. The best weights are put back.
        callbacks: More Keras callbacks.
        preflight: "data" checks data, labels and model and the first loss on a few batches, and prints their table;
            True runs all checks of `diagnose.preflight` for about five seconds, including two that train a copy of the
            model: overfitting a few batches, and the range test of learning rates; "try" also tries the remedies of an
            error on copies of the model, see `diagnose.try_remedies`, for at most 30 seconds (then `Run.findings` and
            the report tell what helped); False checks only what training cannot do without. The checks leave model,
            optimizer and data as they were.
        monitor: Put `callbacks.default_monitors` and a `TrainingDoctor` into the run, and gather the margin of every
            example from the steps, for `diagnose.label_issues(run)`. They change no bit of the training and take about
            1 % of its time, after a one-off trace of a second train function.
        strategy: A `tf.distribute.Strategy`. A model built outside its scope is cloned into it for training and
            gets the trained weights at the end. For several machines `distribution.MultiWorkerStrategy`.
        run_dir: Folder for `model.keras`, `best.keras` (lowest validation loss), `history.csv`, `curves.png`,
            `run.json`, while training `backup.npz`, and `last.npz` when it is finished. One process at a time may
            write to it. On SIGTERM the step is finished, or the validation where that is running, a backup is
            written that resumes at the next batch, and the process leaves with status 143. A run stopped by a
            `NonFiniteGuard`, which `monitor=True` brings, counts as unfinished and keeps the backup of its last good
            epoch.
        resume: Go on where the newest backup in `run_dir` was written, inside an epoch too. Starts at the beginning
            when there is nothing to go on from; returns the run when it was finished. True refuses to go on when an
            argument, the model, the optimizer, the data or a version differs from the interrupted run, and names each
            difference; "force" takes the new ones, restores what fits by its path, and writes the history of changes
            into `run.json`. More epochs than before are always allowed: the rest of the schedule is stretched over
            them. A finished run goes on at its place in the schedule of the longer run. Fewer epochs than are done are
            refused in any case.
        keep: Number of backups to keep, >= 1. When the newest is damaged, the run goes on from the one before and says
            so. `{"last": 2, "best": 3, "metric": "val_accuracy"}` also keeps the backups of the best epochs,
            `best-12.npz` and so on, for `recipes.checkpoints.load_backup`; `backups.json` lists them with their
            metrics. `"mode": "min"` or `"max"` where the metric's name does not say which is best.
        backup_every: Also write a backup within an epoch: "10 min", "1 h" or a number of steps.
        seed: Integer that sets the order of the examples and their augmentation. It does not set the initial weights
            and dropout: call `keras.utils.set_random_seed` before building the model.
        steps_per_epoch: Batches per epoch, for a data set that does not know its length or never ends.
        drop: Examples to leave out: what `diagnose.label_issues` returned (its mislabelled examples), or their numbers,
            which are places in `train` as it is given here.
        relabel: Labels to set: what `diagnose.label_issues` returned (its suggestions), or a dict from the number of an
            example to its class.
        info: What `recipes.data.load` says about the data set; its classes are compared with the model's.
        verbose: As in `fit`; 0 is silent; "auto" prints one line per epoch in a notebook.

    Returns:
        A `Run` with `.model` (last weights; the best ones after early stopping), `.history`, `.findings`,
        `.record`.

    Raises:
        LostWorkerError: where another worker of a `distribution.MultiWorkerStrategy` has ended or does not answer.
        ValueError, TypeError: before training, with what to type instead: for bad arguments, for data whose examples of
            the first two seconds cannot be right, for a `run_dir` that holds another run.
        tf.errors.InvalidArgumentError: in the first epoch, with the same words, when only later examples are wrong.
    """


def _fit(model: keras.Model, data: TrainingData, settings: Settings, backup: RunBackup) -> None:
    """Train, and leave the model without our hooks whatever happens."""
    epochs, progress = settings.epochs, backup.progress
    # With nothing left to do this still runs on_train_end, where best or averaged weights are put back.
    first_read = min(progress.epoch, epochs - 1)
    callbacks = [*backup.others, backup]
    batches = data.training(first_epoch=first_read, first_step=progress.batch, epochs=epochs)
    blank = blank_batch(batches.element_spec)
    build_for_training(model, blank)
    if progress.batch:
        build_metrics(model, blank)
        options = {"add_history": True, "add_progbar": settings.verbose != 0, "verbose": settings.verbose}
        callbacks = SkippingCallbackList(
            callbacks, skipped=progress.batch, model=model, epochs=epochs, steps=data.steps, **options
        )
    if settings.verbose != 0:
        print(
            "recipes.train: tracing the training step, which may take a minute; the steps after it are fast.",
            flush=True,
        )
    try:
        with lost_workers_told():
            model.fit(
                batches,
                epochs=epochs,
                initial_epoch=progress.epoch,
                steps_per_epoch=data.steps,
                shuffle=False,
                validation_data=data.validation_batches(),
                class_weight=data.fit_class_weight,
                callbacks=callbacks,
                verbose=settings.verbose,
            )
    except BaseException:
        clean_up(backup.others)
        raise
    finally:
        backup.release()
        forget_train_functions()


def _run_of(
    model: keras.Model,
    train: Data,
    validation: Data | None,
    settings: Settings,
    acting: TrainingCallbacks,
    backup: RunBackup,
    described: dict[str, Any],
    before: BeforeTraining,
) -> Run:
    history, times = history_of(backup.rows), times_of(backup.others)
    rates = (
        rate_by_step(backup.others, described["steps"] * len(backup.rows)) if described.get("steps") else {}
    )
    monitor = first_of(backup.others, Monitor)
    return Run(
        model=model,
        history=history,
        findings=before.told(findings_of(backup.others, history, model)),
        record=monitor.record if monitor is not None else None,
        settings={
            **described,
            **({"times": times} if times else {}),
            **({"rate_by_step": rates} if rates else {}),
        },
        snapshots=acting.snapshots if settings.snapshots else None,
        train=train,
        validation=validation,
        examples=examples_of(backup.others, train),
        class_names=tuple(settings.info.class_names) if settings.info is not None else None,
    )


def _whole_executions(model, steps, settings):
    """Have the steps of an epoch end with an execution: Keras would take the rest of the last from the next epoch."""
    told = model.steps_per_execution
    if told == 1 or steps % told == 0:
        return
    model.steps_per_execution = max(one for one in range(1, told) if steps % one == 0)
    if settings.verbose != 0:
        print(
            f"recipes.train: steps_per_execution is {model.steps_per_execution} and not {told}, so that it divides the "
            f"{steps} steps of an epoch."
        )


def _goes_on_longer(folder, settings):
    """Whether a finished run is asked for more epochs, and has kept the state that they begin with."""
    epochs = folder.before.get("epochs")
    longer = isinstance(epochs, int) and settings.epochs > epochs and folder.before.get("format") == FORMAT
    file = folder.newest_backup() if longer else None
    return file is not None and not read_backup(file)["stopped"]


def _finished_run(folder, model, settings):
    run = Run.load(folder.path)
    folder.keep_last()  # of a process killed between its last two lines
    if settings.verbose != 0:
        print(f"recipes.train: the run in {folder.path} is finished; nothing to resume.")
    # Layers may have been freed within the run.
    ours, theirs = (architecture(one, frozen=False) for one in (model, run.model))
    if ours != theirs:
        named = "; ".join(differences(theirs, ours, "model")[:6])
        raise ValueError(
            f"resume expects the model of the finished run in {folder.path}. Received another: {named}. "
            "Build it as in that run, read the run with recipes.load_run(folder), or give another run_dir."
        )
    model.set_weights(run.model.get_weights())
    return run


def _fingerprints(train, validation, folder):
    """Fingerprints of the data, for later runs to compare theirs with; empty without a run_dir."""
    if folder is None:
        return {}
    before = folder.before or {}
    return {
        name: fingerprint(data, before.get(name))
        for name, data in (("train_data", train), ("validation_data", validation))
    }


def _restored(folder, model, data, peak, settings):
    """How far the run has come, after the model was restored from the newest backup."""
    if folder is None:
        return Progress()
    if folder.finished:
        check_checksums(folder.path, folder.before)
    folder.check_files()
    file = folder.newest_backup()
    if file is None:
        return Progress()
    if not model.built:  # a subclassed model makes its variables when it is called
        model(blank_batch(data.training(first_epoch=0, first_step=0, epochs=1).element_spec[0]))
    force = settings.resume == "force"
    missing = restore_variables(file, model, force=force)
    if missing and settings.verbose != 0:
        print(f"recipes.train: {begins_anew(missing)}.")
    about, rate = read_backup(file), peak if force else None
    if about["stopped"] or about["epoch"] >= settings.epochs:
        return Progress(file, settings.epochs, 0, about["history"], rate)
    return Progress(file, about["epoch"], about["batch"], about["history"], rate)


def _history_of_changes(folder, changes, progress):
    """The changes of `resume="force"` so far, with the changes of this call."""
    earlier = (folder.before or {}).get("changes")
    earlier = earlier if isinstance(earlier, list) else []
    now = (
        [{"after_epoch": progress.epoch, "after_batch": progress.batch, "changes": changes}]
        if changes
        else []
    )
    return {"changes": [*earlier, *now]}


def _announce(model, data, peak, acting, progress, described, settings):
    if settings.verbose == 0:
        return
    source, held_out = data.source, data.validation
    shape = "x".join(str(side) for side in source.image_shape or ())
    images = f"{source.examples} images" if source.examples else "images"
    against = f", {held_out.examples} to validate" if held_out is not None and held_out.examples else ""
    mended = [f"{len(settings.drop)} left out by drop"] if settings.drop else []
    mended += [f"{len(settings.relabel)} with the label of relabel"] if settings.relabel else []
    images += f" ({', '.join(mended)})" if mended else ""
    several = "rates " + ", ".join(f"{rate:.3g}" for rate in rates_of(model.optimizer))
    rate = f"{several if peak is None else f'rate {peak:.3g}'}, schedule {acting.schedule}"
    print(
        f"recipes.train: {images} of {shape}{against}; {data.steps} steps per epoch; "
        f"{type(model.optimizer).__name__} at {rate}; augmentation {data.augmentation}."
    )
    if source.batched:
        print(
            "recipes.train: the data set comes batched; its own batches and order are used, batch_size is not."
        )
    if progress.file is not None:
        within = f" and {progress.batch} batches" if progress.batch else ""
        print(f"recipes.train: going on after epoch {progress.epoch}{within}.")
    elif settings.resume:
        print(f"recipes.train: nothing was kept in {settings.run_dir} to go on from; it begins with epoch 1.")
    if progress.batch and (data.source.endless or described["train_data"].get("sha256") == NOT_FIXED):
        print(
            "recipes.train: two passes over train differ, so the rest of this epoch may repeat some examples and "
            "leave out others."
        )
