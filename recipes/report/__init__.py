"""One self-contained HTML page about a training run."""

from recipes.report.write import write_report as write_report

__all__ = ["write_report"]
