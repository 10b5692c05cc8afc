"""Rows of the steps to come, read and prepared in threads while the model trains."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Final, Generic, TypeVar

from mmseek.errors import DatasetError, MmseekError
from mmseek.training.data.rows import Source, TrainingRow
from mmseek.training.sampling import BatchPlan, Pick

__all__ = ["RowsAhead"]

_AHEAD: Final = 2
# A row whose files are gone gives way to the next of its source, so often before the run ends.
_TRIES: Final = 20

Drawn = TypeVar("Drawn")


class RowsAhead(ABC, Generic[Drawn]):
    """What is drawn from the rows of each step.

    Args:
        plan: which rows.
        sources: where they are.
        steps: of the whole run.
        workers: threads.
        skip_bad_rows: take the next row in place of one that cannot be used.

    `start` is the step that iteration begins with; `skipped` says what was left out and why.
    """

    def __init__(
        self, plan: BatchPlan, sources: Sequence[Source], *, steps: int, workers: int, skip_bad_rows: bool
    ) -> None:
        self._plan, self._sources = plan, sources
        self._steps, self._workers, self._skip = steps, workers, skip_bad_rows
        self.start = 0
        self.skipped: dict[str, str] = {}

    def __len__(self) -> int:
        return self._steps

    @abstractmethod
    def drawn(self, row: TrainingRow, pick: Pick) -> Drawn:
        """What a step needs of a row; called in threads.

        Raises:
            MmseekError: the row cannot be used.
        """

    def drawn_ahead(self) -> Iterator[list[Drawn]]:
        """The rows of steps `start` to the last.

        Raises:
            DatasetError: a row cannot be used, and rows are not to be skipped.
        """
        waiting: deque[list[Future[Drawn]]] = deque()
        with ThreadPoolExecutor(self._workers, "mmseek-rows") as pool:
            try:
                for picks in islice(self._plan, self.start, self._steps):
                    waiting.append([pool.submit(self._draw, pick) for pick in picks])
                    if len(waiting) > _AHEAD:
                        yield [future.result() for future in waiting.popleft()]
                while waiting:
                    yield [future.result() for future in waiting.popleft()]
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _draw(self, pick: Pick) -> Drawn:
        source = self._sources[pick.source]
        for attempt in range(_TRIES):
            number = (pick.row + attempt) % len(source)
            try:
                return self.drawn(source.row(number), pick)
            except MmseekError as error:
                reason = f"row {number} of {source.name}: {error}"
                if not self._skip:
                    raise DatasetError(
                        f"{reason}; repair it, or go on without such rows with --set data.skip_bad_rows=true"
                    ) from error
                self.skipped[f"{source.name}:{number}"] = reason
        raise DatasetError(f"{_TRIES} rows of {source.name} in a row cannot be used, the last because {reason}")
