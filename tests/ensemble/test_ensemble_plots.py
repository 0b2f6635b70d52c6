import numpy as np
import pytest

from recipes import plot, schedules


def test_rates_are_drawn_step_by_step_with_marks_at_the_step_before(tmp_path):
    values = np.asarray(schedules.CosineRestarts(0.4, 5)(np.arange(20)))
    figure = plot.learning_rates(values, [5, 20], steps_per_epoch=10)
    line, marks = figure.axes[0].lines
    np.testing.assert_allclose(line.get_xydata(), np.c_[np.arange(20) / 10, values])
    np.testing.assert_allclose(marks.get_xydata(), [[0.5, values[4]], [2.0, values[19]]])
    figure.savefig(tmp_path / "rates.png")
    with pytest.raises(ValueError, match="marks between 1"):
        plot.learning_rates(values, [0])


def test_rates_of_some_steps_stand_at_those_steps():
    figure = plot.learning_rates([0.1, 0.2, 0.1], steps=[0, 10, 40])
    assert figure.axes[0].lines[0].get_xdata().tolist() == [0, 10, 40]
    with pytest.raises(ValueError, match="one increasing step per rate"):
        plot.learning_rates([0.1, 0.2], steps=[3, 3])


def test_disagreement_shows_every_pair_and_the_errors(tmp_path):
    shares = np.array([[0, 0.25], [0.25, 0]])
    figure = plot.disagreement(shares, member_errors=[0.1, 0.2], ensemble_errors=[0.1, 0.05])
    table, _, errors = sorted(figure.axes, key=lambda axes: len(axes.texts), reverse=True)
    errors = next(axes for axes in figure.axes if len(axes.lines) == 2)
    assert [text.get_text() for text in table.texts] == ["0.0", "25.0", "25.0", "0.0"]
    np.testing.assert_allclose(errors.lines[1].get_ydata(), [10, 5])
    figure.savefig(tmp_path / "disagreement.png")
    assert len(plot.disagreement(shares).axes) == 2
    with pytest.raises(ValueError, match="as many errors as members"):
        plot.disagreement(shares, member_errors=[0.1])
