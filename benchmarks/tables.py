"""Markdown tables that the benchmarks print, and that `python -m benchmarks` writes into docs/benchmarks.md."""


def heading(*columns, title=None):
    """Begin a table; the first column is text, the others are numbers."""
    print(f"\n**{title}**\n" if title else "")
    row(*columns)
    print("|" + "|".join(["---", *["---:"] * (len(columns) - 1)]) + "|", flush=True)


def row(*cells):
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)
