"""What an explanation costs, compared with captum, pytorch-grad-cam and zennit on the same networks in PyTorch.

    python benchmarks/explain_torch.py                   MobileNetV2(0.35) 96 px and ResNet50 224 px: five minutes
    python benchmarks/explain_torch.py --only mobilenet  the first only
    python benchmarks/explain_torch.py --quick           one round of three methods

Nothing else in this project needs PyTorch. `pip install torch captum grad-cam zennit` gives all rows; rows of packages
that are not installed are left out. Weights are random, and the batch size is 1. Their methods and ours take turns in
one process, with one thread each, so that other load affects all alike. `passes` is the CPU time divided by that of a
forward pass in the same framework (ours is compiled, theirs runs under `no_grad`); `times` is their CPU time divided by
ours.
"""

import argparse
import contextlib
import os
import sys
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf
from explain import METHODS, compiled_forward, interleave, mobilenet, pictures, resnet
from tables import heading, row

try:
    import torch
    from torch import nn
except ImportError:
    sys.exit(
        "explain_torch expects PyTorch. It is not installed. Run pip install torch captum grad-cam zennit."
    )

QUICK = ("saliency", "grad_cam", "finer_cam")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=["mobilenet", "resnet"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    torch.manual_seed(0)
    networks = {"mobilenet": (mobilenet, MobileNetV2), "resnet": (resnet, ResNet50)}
    for name, (build, their_build) in networks.items():
        if arguments.only in (None, name) and not (arguments.quick and name == "resnet"):
            wanted = arguments.methods or (QUICK if arguments.quick else list(METHODS))
            table(*build(), their_build().eval(), wanted, 2 if arguments.quick else arguments.rounds)


def table(model, size, theirs, wanted, rounds):
    images = pictures(size, 1)
    picture = torch.tensor(images.transpose(0, 3, 1, 2))
    forward = compiled_forward(model)

    def their_forward():
        with torch.no_grad():
            theirs(picture)

    passes = interleave({"ours": lambda: forward(tf.constant(images)), "theirs": their_forward}, rounds)
    our_pass, their_pass = passes["ours"][0], passes["theirs"][0]
    heading(
        *("", "theirs, ms", "ours, ms", "theirs, passes", "ours, passes", "times"),
        title=f"{model.name} at {size} pixels, batch 1: a forward pass takes {our_pass * 1e3:.1f} ms, in PyTorch "
        f"{their_pass * 1e3:.1f} ms of CPU",
    )
    for library, title, run in peers(theirs, picture, size):
        if title not in wanted:
            continue
        method, options, _, _ = METHODS[title]
        options = {**options, "verbose": 0}
        if title.startswith("expected"):
            options["background"] = pictures(size, 8)

        def ours(method=method, options=options):
            method(model, images, 3, **options)

        def quiet(run=run):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                run()

        try:
            quiet()
        except Exception as error:  # a peer that does not run here is named, not hidden
            row(f"{library} {title}", f"does not run here: {type(error).__name__}", "", "", "", "")
            continue
        ours()
        costs = interleave({"theirs": quiet, "ours": ours}, rounds)
        their_cpu, cpu = costs["theirs"][0], costs["ours"][0]
        milliseconds = f"{their_cpu * 1e3:.1f}", f"{cpu * 1e3:.1f}"
        in_passes = f"{their_cpu / their_pass:.1f}", f"{cpu / our_pass:.1f}"
        row(f"{library} {title}", *milliseconds, *in_passes, f"{their_cpu / cpu:.1f}")


def peers(network, picture, size):
    """`(library, name of our method, run)` for each method of the installed libraries."""
    found, last = [], network.maps
    with contextlib.suppress(ImportError):
        from captum import attr

        noisy, black = attr.NoiseTunnel(attr.Saliency(network)), torch.zeros_like(picture)
        path, at_layer = attr.IntegratedGradients(network), attr.LayerIntegratedGradients(network, last)
        sampled, background = attr.GradientShap(network), torch.randn(8, *picture.shape[1:])
        runs = {
            "saliency": lambda: attr.Saliency(network).attribute(picture.clone(), 3),
            "smooth_grad(25)": lambda: noisy.attribute(picture.clone(), target=3, nt_samples=25, stdevs=0.15),
            "integrated_gradients(50)": lambda: path.attribute(picture.clone(), black, 3, n_steps=50),
            "expected_gradients(50)": lambda: sampled.attribute(
                picture.clone(), background, n_samples=50, target=3
            ),
            "layer_integrated_gradients(50)": lambda: at_layer.attribute(
                picture.clone(), black, 3, n_steps=50
            ),
        }
        found += [("captum", name, run) for name, run in runs.items()]
    with contextlib.suppress(ImportError):
        import pytorch_grad_cam as cams
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        target = [ClassifierOutputTarget(3)]
        kinds = {
            "grad_cam": cams.GradCAM,
            "grad_cam_plus_plus": cams.GradCAMPlusPlus,
            "layer_cam": cams.LayerCAM,
            "hires_cam": cams.HiResCAM,
            "xgrad_cam": cams.XGradCAM,
            "eigen_cam": cams.EigenCAM,
        }
        for name, kind in kinds.items():
            one = kind(model=network, target_layers=[last])
            found.append(("pytorch-grad-cam", name, lambda one=one: one(picture, targets=target)))
        finer = cams.FinerCAM(model=network, target_layers=[last])
        found.append(("pytorch-grad-cam", "finer_cam", lambda: finer(picture, target_idx=3)))
    with contextlib.suppress(ImportError):
        from zennit.attribution import Gradient
        from zennit.composites import EpsilonPlus

        def share():
            with Gradient(model=network, composite=EpsilonPlus()) as attributor:
                attributor(picture.clone(), torch.eye(1000)[[3]])

        found.append(("zennit", "lrp", share))
    return found


def convolution(inputs, outputs, size, stride=1, groups=1, rectifier=None):
    """A convolution without bias, followed by batch normalization."""
    parts = [
        nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*parts, *([rectifier()] if rectifier else []))


class Residual(nn.Module):
    """`after(skip(x) + branch(x))`."""

    def __init__(self, branch, skip, after):
        super().__init__()
        self.branch, self.skip, self.after = branch, skip, after

    def forward(self, x):
        return self.after(self.skip(x) + self.branch(x))


class Network(nn.Module):
    """A network that makes feature maps, then global average pooling and a Dense head of 1000 classes."""

    def __init__(self, parts, width):
        super().__init__()
        self.below, self.maps = nn.Sequential(*parts[:-1]), parts[-1]
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 1000))

    def forward(self, x):
        return self.head(self.maps(self.below(x)))


def ResNet50():
    """He et al. 2015, table 1."""
    parts, inputs = [convolution(3, 64, 7, 2, rectifier=nn.ReLU), nn.MaxPool2d(3, 2, 1)], 64
    for width, blocks, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for number in range(blocks):
            step = stride if number == 0 else 1
            branch = nn.Sequential(
                convolution(inputs, width, 1, step, rectifier=nn.ReLU),
                convolution(width, width, 3, rectifier=nn.ReLU),
                convolution(width, 4 * width, 1),
            )
            skip = nn.Identity() if number else convolution(inputs, 4 * width, 1, step)
            parts.append(Residual(branch, skip, nn.ReLU()))
            inputs = 4 * width
    return Network(parts, inputs)


def MobileNetV2(alpha=0.35):
    """Sandler et al. 2018, table 2, with widths as Keras rounds them."""

    def rounded(width):
        near = max(8, int(width * alpha + 4) // 8 * 8)
        return near + 8 if near < 0.9 * width * alpha else near

    inputs = rounded(32)
    parts = [convolution(3, inputs, 3, 2, rectifier=nn.ReLU6)]
    table = (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )
    for expansion, width, blocks, stride in table:
        for number in range(blocks):
            step, wide, outputs = stride if number == 0 else 1, expansion * inputs, rounded(width)
            branch = [convolution(inputs, wide, 1, rectifier=nn.ReLU6)] if expansion > 1 else []
            branch += [
                convolution(wide, wide, 3, step, groups=wide, rectifier=nn.ReLU6),
                convolution(wide, outputs, 1),
            ]
            branch = nn.Sequential(*branch)
            parts.append(Residual(branch, nn.Identity(), nn.Identity()) if number else branch)
            inputs = outputs
    parts.append(convolution(inputs, 1280, 1, rectifier=nn.ReLU6))
    return Network(parts, 1280)


if __name__ == "__main__":
    main()
