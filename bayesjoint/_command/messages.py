"""What the command line prints: plain text, in which brackets of users stay what they are."""

from typing import Any


def say(text: str, *, title: str = "", style: str = "") -> None:
    """Print a line; ``title`` is set before it in bold."""
    from rich.console import Console
    from rich.text import Text

    parts = [(title, "bold"), (text, style)] if title else [(text, style)]
    Console(highlight=False, soft_wrap=True).print(Text.assemble(*parts))


def say_error(text: str) -> None:
    """Print a fault to the standard error."""
    from rich.console import Console
    from rich.text import Text

    line = Text.assemble(("error:", "red"), " ", text)
    Console(stderr=True, soft_wrap=True, highlight=False).print(line)


def show_table(frame: Any) -> None:
    """Print a table of estimates."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if frame.empty:
        say("fields only: the page shows them as maps")
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("parameter", no_wrap=True)
    for column in frame.columns:
        table.add_column(Text(str(column)), justify="right", no_wrap=True)
    for name, row in frame.iterrows():
        cells = [f"{v:.5g}" if isinstance(v, float) else str(v) for v in row]
        table.add_row(*(Text(cell) for cell in (str(name), *cells)))
    console = Console()
    console.width = max(console.width, 120)  # a long line is better than a cut number
    console.print(table)
