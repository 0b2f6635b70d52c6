"""What the library says in Python, in the words of the shell: `--resume`, not `resume=True`."""

import re

# No part of another word, and no key of a configuration that Keras prints.
OWN = r"(?<![\w'\"])"
# What a message says in Python, and what the same is in the shell.
_WORDS = (
    (r"recipes\.train\(\.\.\., run_dir=[^)]*, resume=True\)", "recipes train DATA --out FOLDER --resume"),
    (r"recipes\.load_run\(folder\)", "recipes predict FOLDER"),
    (r"type resume=(['\"])force\1", "type --resume --force"),
    (r"resume=(['\"])force\1", "--resume --force"),
    (r"resume=True", "--resume"),
    (r"resume=False", "no --resume"),
    (r"(?<![\w.-])resume expects", "--resume expects"),
    (r"a (new )?run_dir\b", r"a \1folder for --out"),
    (r"another run_dir\b", "another --out"),
    (r"run_dir=?", "--out"),
    (r"image_size=\(", "--image-size ("),
    (OWN + r"image_size\b(=(\d+))?", lambda match: f"--image-size {match[2] or ''}".rstrip()),
    (OWN + r"batch_size\b(=(\d+))?", lambda match: f"--batch-size {match[2] or ''}".rstrip()),
    (OWN + r"learning_rate\b(=([\d.e-]+))?", lambda match: f"--learning-rate {match[2] or ''}".rstrip()),
    (r"on_error=(['\"])skip\1", "--skip-bad"),
    (r"labels=lambda path: path\.parent\.name", "--labels '([^/]+)/[^/]+$'"),
    (r", or labels=\((image feature, label feature|'[^']*', '[^']*')\)", ""),
    (
        r"expects validation to be large enough to hold back an image\. Received validation=[\d.]+ of (\d+) images in "
        r"(\d+) classes\. (Give [^,]*(?:, two or more of them of one class)?), raise validation.*",
        r"expects enough images to hold one of them back for validation. Received \1 of \2 classes. \3.",
    ),
    (r"(?<![\w.])seed=(-?\d+)", r"--seed \1"),
    (r"expects seed to be", "expects --seed to be"),
    (r"; numbers that lost their leading zeros keep them if you read the table with dtype=str", ""),
    (r"give recipes\.train a data set of", "in Python give recipes.train a data set of"),
    (r"Give class_names= of classes", "In Python give class_names= of classes"),
    (r"expects labels and class_names with folders only", "expects --labels with folders only"),
    (
        r"Its intersection over union is in run\.history.*compiles this metric",
        "Its intersection over union on the images held back is in the history.csv of the run; recipes predict --png "
        "writes its masks",
    ),
    (r"see recipes\.diagnose", "see the findings in its report"),
    (
        r"trained without info=\. Give arrays .*what recipes\.data\.load returns",
        "trained without info=. Train it with recipes train, or in Python with info=",
    ),
    (
        r"without info=\. Train with recipes\.train\(.*what recipes\.data\.load returns",
        "without info=. Train it with recipes train, or in Python with info=",
    ),
    (r"what Run\.save writes", "model.keras in the run's folder"),
    (r"Load the folder, with cache='[^']*'", "Give recipes train the folder itself"),
    (
        r"Give them: calibrated='folder', \(images, labels\), or a tf\.data\.Dataset of such pairs",
        "Give them: --data FOLDER",
    ),
    (r"(?<![\w.])labels=", "--labels "),
    (r"(?<![\w.])fit=(['\"])(\w+)\1", r"--fit \2"),
    (r"(examples|calibrated)=\(images, labels\), or a tf\.data\.Dataset of such pairs", "--data FOLDER"),
    (r"int8=True", "--int8"),
    (r": give DeadReluDetector\(data=\)", ""),
    (r"retrained network \(recipes\.models\.transfer\)", "retrained network (--image-size 224)"),
    (r"best=True", "--best"),
    (r"calibrated=True", "--calibrate"),
    (r"recipes\.compare\(\['runs/a', 'runs/b'\]\)", "recipes compare runs/a runs/b"),
    (r"leave target out", "leave --target out"),
    (r"--labels r'", "--labels '"),
    (
        r", a data frame, a dictionary, a list, a function of the path or a regular expression",
        " or a regular expression",
    ),
    (r"((--labels )?'[^']*'), a function of the path, or a regular", r"\1 or a regular"),
    (r" or a function of the path,", ","),
    (r"\. Give one for each, or a dictionary from name to label", ". Give one for each"),
    (r"the function labels=", "--labels"),
    (r"labels=\(table, column\), call it", "call its column"),
    (r", or name the classes wanted: class_names=\[\.\.\.\]", ""),
    (r", or give both the same class_names=", ""),
    (r"class_names= names (.*), of which no image is in", r"No image of \1 is in"),
    (r"as class_names= does not name them", "as the run does not know them"),
    (r"data\.load(_run)? expects class_names among the", "expects names among the"),
    (
        r"Leave class_names out to call (them|the images) by their numbers",
        "Give the run that was trained on these classes",
    ),
    (
        r"expects image_shape=\(height, width, channels\) for",
        "expects a run that knows the size of its images for",
    ),
    (
        r"Repair, convert or delete them, or leave them out with --skip-bad",
        "Repair, convert or delete them, or leave them out with --skip-bad",
    ),
    (r"image_size expects", "--image-size expects"),
    (
        r" Type for example image_size=(\d+) or image_size=\((\d+), (\d+)\)",
        r" Type for example --image-size \1",
    ),
    (r", or image_size=\([^)]*\) for the most common one", ""),
    (r"\bimage_size is not given", "--image-size is not given"),
    (r"validation=(\d|\.)*", "the share held back"),
    (r"data\.load\(\(dataframe, folder\)\)", "the folder"),
    (r"with cache=(['\"])[^'\"]*\1", "instead"),
    (r"Give them to data\.pack", "Give them to recipes pack"),
    (r"data\.pack\b", "recipes pack"),
    (r"data\.read_image and pair them yourself", "data.read_image in Python"),
    (r"part='test'", "a test/ folder"),
    (r"recipes\.data\.load\b", "data.load"),
    (r"info\.skipped lists all", "in all"),
    (r" Run\.load expects", " expects"),
    (r"epochs=(\d+)", r"--epochs \1"),
    (r"Stop(\s+)at(\s+the\s+best\s+epoch)\s+\(early_stopping=\d+\)", r"Take\1the network of\2 (--best)"),
    (
        r"augment,(\s+)add(\s+)weight(\s+)decay(\s+)or(\s+)dropout",
        r"use\1a\2pretrained\3network\4(as\5at --image-size 224)",
    ),
    (
        r"Try(\s+)a(\s+)larger(\s+)model,(\s+)less(\s+)regularization, or(\s+)a(\s+)higher(\s+)learning\s+rate",
        r"Try\1a\2larger\3model,\4such\5as the pretrained one of --image-size 224, or\6a\7higher\8--learning-rate",
    ),
    (r"recipes\.diagnose\.learning_rate_range_test(\(model, data\)\.plot\(\)|(?!\())", "recipes check"),
    (r"recipes\.diagnose\.preflight\(model, data\)", "recipes check"),
    (r"model\.fit\(\.\.\., --batch-size (\d+)\)", r"--batch-size \1"),
    (r"\bdata\.load\((['\"])([^'\")]*)\1\)", r"\2"),
    (r"^((recipes|data|Run|evaluate)(\.\w+)*|export) (keeps|expects)", r"\4"),
)


def in_shell_lines(text: str) -> str:
    """A text, whose lines stay as they are, with options in place of arguments."""
    for pattern, words in _WORDS[:-1]:  # the last takes a name away from the beginning of an error
        text = re.sub(pattern, words, text)
    return text


def in_shell_words(error: BaseException | str) -> str:
    """A message as one line, with options in place of arguments: `--resume`, not `resume=True`."""
    text = " ".join(str(error).split()) or type(error).__name__
    for pattern, words in _WORDS:
        text = re.sub(pattern, words, text)
    return text
