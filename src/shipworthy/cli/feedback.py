"""`shipworthy feedback`: labels of predictions from a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from .registry_option import AsJson, RegistryUrl, opened
from .tables import print_table, table

if TYPE_CHECKING:
    from ..rollout.bulk import Received
    from ..rollout.remembering import Outcome

NAME = "feedback"

_MEANINGS: dict[Outcome, str] = {
    "accepted": "remembered, with the evidence that it gives",
    "duplicate": "the same label was taken before",
    "late": "remembered; its rollout has ended, or the prediction is too old to give evidence",
    "contradictory": "another label was taken before, and stays",
    "forged": "the id is none of this registry's",
    "unknown-model": "the id is of another model",
    "unusable": "no label of this model",
}


def command(
    file: Annotated[Path, typer.Argument(help="CSV or Parquet with the columns prediction_id, and label or loss.")],
    model: Annotated[str | None, typer.Option(help="Whose predictions they are; by default each id says it.")] = None,
    registry: RegistryUrl = None,
    as_json: AsJson = False,
) -> None:
    """Take labels of predictions from a file, and judge running rollouts by them.

    A label is a class (name or index), classes with ; between them, or a number; a loss is from 0 (right) to 1. A file
    may be sent again: each label counts once. Exit code 2 where no row was usable."""
    from ..rollout.bulk import take_file
    from ..rollout.keys import prediction_key

    with opened(registry) as opened_registry, _progress() as tell:
        received = take_file(opened_registry, prediction_key(opened_registry), file, model=model, tell=tell)
    if as_json:
        typer.echo(json.dumps(_data(received), indent=2))
    else:
        _print(received)
    if not received.usable:
        raise typer.Exit(2)


@contextmanager
def _progress() -> Iterator[Callable[[int], None] | None]:
    """How many rows are done, on a terminal only."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    with console.status("reading") as status:
        yield lambda rows: status.update(f"{rows:,} rows")


def _data(received: Received) -> dict[str, object]:
    wrong = [{"line": line, "outcome": one.outcome, "reason": one.reason} for line, one in received.wrong]
    return {"rows": received.rows, "outcomes": dict(received.outcomes), "wrong": wrong}


def _print(received: Received) -> None:
    made = table(f"{received.rows:,} rows", "outcome", "rows", "what it means", right=("rows",), whole=("outcome",))
    for outcome, meaning in _MEANINGS.items():
        if number := received.outcomes[outcome]:
            made.add_row(Text(outcome), Text(f"{number:,}"), Text(meaning))
    print_table(made)
    console = Console(stderr=True, soft_wrap=True)
    for line, one in received.wrong:
        console.print(Text.assemble((f"line {line}: ", "bold"), (one.outcome, "yellow"), f": {one.reason}"))
    if (more := _wrong(received) - len(received.wrong)) > 0:
        console.print(Text(f"and {more:,} more rows that were not taken", style="dim"))


def _wrong(received: Received) -> int:
    from ..rollout.bulk import WRONG

    return sum(number for outcome, number in received.outcomes.items() if outcome in WRONG)
