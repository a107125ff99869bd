"""Progress of a run, with time left."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


@contextmanager
def progress_bar(show: bool, label: str, chains: int, draws: int) -> Iterator[Callable | None]:
    """Yield a callback for the sampler that moves a bar over the draws of all chains."""
    if not show:
        yield None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[detail]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress:
        task = progress.add_task(label, total=chains * draws, detail="")

        def update(states) -> None:
            done = sum(state.finished_draws for state in states)
            divergences = sum(state.divergences for state in states)
            steps = max((state.latest_num_steps for state in states), default=0)
            progress.update(
                task, completed=done, detail=f"{steps} steps a draw, {divergences} divergences"
            )

        yield update
        progress.update(task, completed=chains * draws)
