"""disagreement: how often the members of an ensemble differ, and what averaging more of them gains."""

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from recipes.common.validation import as_numbers
from recipes.plot.canvas import new_figure


def disagreement(
    shares: ArrayLike, *, member_errors: ArrayLike | None = None, ensemble_errors: ArrayLike | None = None
) -> Figure:
    """Draw the disagreement of each pair of members and, beside it, the errors of members and averages.

    Args:
        shares: `(members, members)` in [0, 1], from `ensemble.disagreement`.
        member_errors: Error of each member alone, `(members,)` in [0, 1].
        ensemble_errors: Error of the average of the first 1, 2, ... members, `(members,)` in [0, 1].

    Returns:
        A matplotlib `Figure`.

    Raises:
        ValueError: when the numbers of members do not agree.
    """
    shares = as_numbers("plot.disagreement", "shares", shares)
    count = len(shares) if shares.ndim else 0
    curves = {"each member": member_errors, "average of the first": ensemble_errors}
    curves = {name: np.asarray(values, "float64") for name, values in curves.items() if values is not None}
    if shares.shape != (count, count) or any(values.shape != (count,) for values in curves.values()):
        raise ValueError(
            "plot.disagreement expects shares of shape (members, members) and as many errors as members. Received "
            f"shapes {shares.shape} and {[values.shape for values in curves.values()]}. "
            "Write ensemble.disagreement(np.stack([member.predict(images) for member in members]))."
        )
    figure = new_figure(8.4 if curves else 4.2, 3.6)
    axes = figure.add_subplot(1, 2 if curves else 1, 1)
    picture = axes.imshow(100 * shares, cmap="Blues", vmin=0)
    middle = 50 * shares.max()
    for row in range(count):
        for column in range(count):
            share = 100 * shares[row, column]
            axes.text(
                column,
                row,
                f"{share:.1f}",
                ha="center",
                va="center",
                color="white" if share > middle else "black",
                fontsize=min(10, 60 / count),
            )
    names = np.arange(1, count + 1)
    axes.set_xticks(np.arange(count), names)
    axes.set_yticks(np.arange(count), names)
    axes.set_title("members disagree on % of images")
    figure.colorbar(picture, ax=axes, shrink=0.8)
    if curves:
        axes = figure.add_subplot(1, 2, 2)
        for (name, values), style in zip(curves.items(), ("o", "o-"), strict=False):
            axes.plot(names, 100 * values, style, label=name)
        axes.set_xticks(names)
        axes.set_xlabel("member")
        axes.set_ylabel("error %")
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False, fontsize="small")
        axes.spines[["top", "right"]].set_visible(False)
    return figure
