"""Makes the pictures of docs/gallery.md from the examples, and the page itself.

    python docs/gallery.py                        # runs every example that a picture comes from: about half an hour
    python docs/gallery.py --only fancy_pca       # one of them
    python docs/gallery.py --runs runs            # uses what the examples have written to runs/NAME/
    python docs/gallery.py --page                 # writes only docs/gallery.md, no picture

Each picture is what an example writes, made small enough to be kept beside the sources.
"""

import argparse
import io
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "examples" / "pictures"
PAGE = ROOT / "docs" / "gallery.md"
LARGEST = 36_000
#: One picture a line: file in examples/pictures, example and its arguments, what that writes (several go below one
#: another; `:0.5` is the upper half of a picture), caption.
TABLE = """
## Train, and see how it goes
quickstart_curves.png | quickstart | curves.png | Loss, accuracy and learning rate of a run
existing_project_before.png | existing_project | before.png | A Keras script as it was
existing_project_after.png | existing_project | after.png | The same script with warm-up and decay
early_stopping_refit.png | early_stopping_refit | curves.png | Where early stopping stops
snapshot_ensemble_rates.png | snapshot_ensemble | rates.png | A cyclic rate, with a snapshot per cycle
snapshot_ensemble_disagreement.png | snapshot_ensemble | disagreement.png | How much the snapshots differ
seven_steps_range_test.png | seven_steps | range_test.png | Range test: where the loss falls fastest
seven_steps_search.png | seven_steps | search.png | A hyperparameter search, coarse and then fine
initialization_tanh.png | initialization | tanh.png | Ten layers of tanh before training
initialization_relu.png | initialization | relu.png | Ten layers of ReLU before training

## See why it does not learn
two_catches_finding.png | two_catches | finding.png | What the doctor says about a learning rate of 30
watch_training_healthy_updates.png | watch_training | healthy_updates.png | Updates of a healthy run
watch_training_rate_too_high_updates.png | watch_training | rate_too_high_updates.png | Updates at too high a rate
watch_training_sigmoid_stack_gradients.png | watch_training | sigmoid_stack_gradients.png | Vanishing gradients
watch_training_sigmoid_stack_activations.png | watch_training | sigmoid_stack_activations.png | Saturated sigmoids
dead_relus_deadly_rate.png | dead_relus | deadly_rate.png | ReLUs that die, layer by layer
dead_relus_deadly_rate_warm-up.png | dead_relus | deadly_rate_warm-up.png | The same rate after a warm-up
why_slow.png | why_slow | augmentation_in_Python.png | Where the time of a slow step goes
loss_landscape_resnet56.png | loss_landscape | plane.png | The loss around a ResNet-56, with and without shortcuts
debug_broken_training_report.jpg | debug_broken_training | 1.html | The report of a broken run

## Augment
augmentation_geometry.jpg | augmentation_gallery | page_geometry.png:0.5 | Geometry, from weak to strong
augmentation_color.jpg | augmentation_gallery | page_color.png:0.5 | Colors, from weak to strong
augmentation_filters.jpg | augmentation_gallery | page_filters.png:0.8 | Blur, sharpness, noise and erasing
augmentation_policies.jpg | augmentation_gallery | page_policies.png:0.67 | Policies: RandAugment, AugMix and others
augmentation_mixing.jpg | augmentation_gallery | page_mixing.png:0.6 | MixUp, CutMix and random choices
augmentation_plain.jpg | augmentation_gallery | page_without_a_strength.png:0.67 | Flips, crops, tone curves and gray
augmentation_elastic.jpg | augmentation_gallery | Elastic.png | Elastic distortion
augmentation_photos.jpg | augmentation_gallery | standard_photos_medium.png | The standard list for photos
augmentation_symbols.png | augmentation_gallery | standard_symbols_medium.png | The standard list for digits
augmentation_mixup.png | augmentation_gallery | MixUp.png | MixUp: two images in one
augmentation_rotate.png | augmentation_gallery | Rotate.png | Rotation
fancy_pca_axes.jpg | fancy_pca | axes.png | A photo moved along the color axes of a data set

## See what a network looks at
photos_answers.jpg | photos | answers.png | Answers about new photos, and the evidence for them
two_catches_time_stamp.png | two_catches | time_stamp.png | Cats classified as coffee because of a time stamp
classify_photo.jpg | classify_photo | looked_at.png | Where an ImageNet network looked
quickstart_grad_cam.png | quickstart | grad_cam.png | Grad-CAM of correct and of wrong predictions
explain_photo.png | explain_photo | maps.png | Attribution methods on one photo, and their scores
explain_more.jpg | explain_photo --methods HiResCAM XGrad-CAM Eigen-CAM Ablation-CAM Finer-CAM LRP | maps.png | Others
why_wrong.jpg | why_wrong | mistakes.png | The most confident mistakes, and what decided them
attention_maps.jpg | attention_maps | maps.png | Where a vision transformer looks
other_targets.jpg | other_targets | mask_score.jpg box_score.jpg similarity_to.jpg | Segmentation, box, similarity
fooled.png | fooling | fooled.png | An invisible change, and another answer
fooling_noise.png | fooling | noise.png | What a network sees in noise

## See what a network has learned
class_images.jpg | class_images | classes.jpg | Images of classes, made from gray noise
what_neurons_like.png | what_neurons_like | stage4_block2_expand_norm.png | Channels, and the patches that excite them
what_neurons_like_filters.png | what_neurons_like | filters.png | The filters of a first layer
what_neurons_like_maps.jpg | what_neurons_like | maps.png | Activations of these filters for a photo
feature_map_tsne.png | feature_map | tsne.png | Digits laid out by the features of a network
feature_map_pca.png | feature_map | pca.png | The same along two principal components
feature_map_neighbors.png | feature_map | neighbors.png | Nearest neighbors, by pixels and by features
deep_dream.jpg | deep_dream | dream.png | A photo, and what a layer sees in it
style_transfer.jpg | style_transfer | styles.png | A photo in the style of another
"""


@dataclass(frozen=True)
class Picture:
    """A line of the table: `command` is the example's name and its arguments."""

    file: str
    command: str
    written: tuple[str, ...]
    caption: str

    @property
    def example(self) -> str:
        return self.command.split()[0]


def sections():
    """`{heading: [Picture]}`, in the order of the page."""
    found: dict[str, list[Picture]] = {}
    for line in TABLE.strip().splitlines():
        if line.startswith("## "):
            found[heading := line[3:]] = []
        elif line:
            file, command, written, caption = (part.strip() for part in line.split("|"))
            found[heading].append(Picture(file, command, tuple(written.split()), caption))
    return found


def page():
    """The text of docs/gallery.md."""
    lines = ["# Gallery", "", "An example makes each picture. Click on a picture to see the code.", ""]
    for heading, pictures in sections().items():
        lines += [f"## {heading}", "", '<div class="grid cards" markdown>', ""]
        for one in pictures:
            picture = f"![{one.caption}](pictures/{one.file})"
            lines += [f"-   [{picture}](../examples/{one.example}.py)", f"    {one.caption}", ""]
        lines += ["</div>", ""]
    return "\n".join(lines)


def shrink(images, target):
    """Images below one another as one file of at most 36 kB: fewer colors, then coarser, then smaller."""
    from PIL import Image  # noqa: PLC0415 - where the site is built, Pillow is not needed

    width = max(image.width for image in images)
    images = [image.resize((width, round(image.height * width / image.width))) for image in images]
    whole = Image.new("RGB", (width, sum(image.height for image in images)), "white")
    for place, image in enumerate(images):
        whole.paste(image, (0, sum(one.height for one in images[:place])))
    for side in (1000, 900, 800, 700, 600, 500, 420, 360):
        fitting = whole.copy()
        fitting.thumbnail((side, side * 1.4), Image.Resampling.LANCZOS)
        for strength in (256, 128, 64, 32) if target.suffix == ".png" else (85, 75, 65, 55, 45):
            stream = io.BytesIO()
            if target.suffix == ".png":
                fitting.quantize(strength, dither=Image.Dither.NONE).save(stream, "png", optimize=True)
            else:
                fitting.save(stream, "jpeg", quality=strength, optimize=True, progressive=True)
            if stream.tell() <= LARGEST:
                target.write_bytes(stream.getvalue())
                return
    raise ValueError(f"{target.name} does not fit into {LARGEST} bytes. Show less in it.")


def read(written, folder):
    """A picture or its upper part, or a page as a browser shows it."""
    from PIL import Image  # noqa: PLC0415 - where the site is built, Pillow is not needed

    name, _, share = written.partition(":")
    path = folder / name
    if path.suffix != ".html":
        image = Image.open(path).convert("RGB")
        return image.crop((0, 0, image.width, round(image.height * float(share or 1))))
    browser = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))))
    with tempfile.TemporaryDirectory() as place:
        shot = Path(place) / "page.png"
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1000,1300"]
        subprocess.run(
            [browser, *flags, f"--screenshot={shot}", path.resolve().as_uri()],
            check=True,
            capture_output=True,
        )
        return Image.open(shot).convert("RGB")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", help="names of examples")
    parser.add_argument("--runs", type=Path, help="a folder with what the examples have written")
    parser.add_argument("--page", action="store_true", help="write the page alone")
    arguments = parser.parse_args()
    PAGE.write_text(page())
    pictures = [one for group in sections().values() for one in group]
    if arguments.only:
        pictures = [one for one in pictures if one.example in arguments.only]
    with tempfile.TemporaryDirectory() as folder:
        for one in () if arguments.page else pictures:
            name = re.sub(r"\W+", "_", one.command)
            out = (arguments.runs or Path(folder)) / name
            if not out.exists() and not arguments.runs:
                example, *options = one.command.split()
                script = ROOT / "examples" / f"{example}.py"
                subprocess.run([sys.executable, script, *options, "--out", out], check=True)
            if all((out / written.split(":")[0]).exists() for written in one.written):
                shrink([read(written, out) for written in one.written], PICTURES / one.file)
                print(one.file, (PICTURES / one.file).stat().st_size)
            else:
                print(f"{one.file}: {out} holds no {' '.join(one.written)}")


if __name__ == "__main__":
    main()
