"""One row: asked for, read, asked for again where that failed, reviewed, and written with where it comes from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mmseek._types import Content, EncodeRequest, Image, Role, Text
from mmseek.errors import MmseekError, StorageError
from mmseek.media import MediaLimits
from mmseek.pipeline.chat import Chat, Message
from mmseek.pipeline.context import picture_part
from mmseek.training.data.rows import TrainingRow
from mmseek.training.data.triples import row_to_json
from mmseek.training.synthesis import prompts
from mmseek.training.synthesis.answers import BadAnswer, Judged, read
from mmseek.training.synthesis.journal import Journal, LimitReached
from mmseek.training.synthesis.kinds import Job
from mmseek.training.synthesis.pool import Pool

__all__ = ["Maker", "Outcome"]


@dataclass(slots=True)
class Outcome:
    """What became of a job.

    Args:
        job: which.
        judged: the row as the model left it, if it gave one.
        at: when the last answer came.
        bad: answers that could not be used.
        error: why there is no answer.
        limit: the limit that forbade to ask.
    """

    job: Job
    judged: Judged | None = None
    at: str = ""
    bad: list[BadAnswer] = field(default_factory=list)
    error: MmseekError | None = None
    limit: str | None = None


@dataclass(frozen=True, slots=True)
class Maker:
    """Makes rows. Safe in threads.

    Args:
        pool: pictures.
        chat: who writes.
        journal: of the answers.
        limits: of pictures.
        seed: of the plan, for the rows' names.
        attempts, review, side: see `SynthesisOptions`.
    """

    pool: Pool
    chat: Chat
    journal: Journal
    limits: MediaLimits
    seed: int
    attempts: int
    review: bool
    side: int

    def name(self, job: Job) -> str:
        """The id of the job's row."""
        return f"synthetic-{self.seed}-{job.number}"

    def made(self, job: Job) -> Outcome:
        """Ask for a row.

        Raises:
            StorageError: the disk is full or read-only.
        """
        outcome = Outcome(job)
        try:
            pictures = [picture_part(self.pool.images[each], self.side, self.limits) for each in job.pictures]
            outcome.judged = self._tried(outcome, prompts.request(job, pictures), None)
            if outcome.judged is not None and outcome.judged.keep and self.review:
                first = outcome.judged
                second = self._tried(outcome, prompts.review(job, pictures, first.final), first)
                outcome.judged = second and replace(
                    second, descriptions=first.descriptions, revised=first.revised or second.revised
                )
        except LimitReached as limit:
            outcome.limit = str(limit)
        except StorageError:
            raise
        except MmseekError as error:
            outcome.error = error
        return outcome

    def _tried(self, outcome: Outcome, messages: list[Message], judged: Judged | None) -> Judged | None:
        job, asked = outcome.job, messages
        # The side changes what is seen as well, and is no part of the messages' texts.
        pictures = [f"{self.pool.digests[each]}@{self.side}" for each in job.pictures]
        about = {"row": self.name(job), "kind": job.kind.name, "prompt": prompts.PROMPT_VERSION}
        for _ in range(self.attempts):
            reply, outcome.at = self.journal.ask(self.chat, asked, pictures, about)
            try:
                return read(reply, job.kind, judged=None if judged is None else judged.final)
            except BadAnswer as error:
                outcome.bad.append(error)
                asked = prompts.again(messages, str(error))
        return None

    def line(self, outcome: Outcome, folder: Path) -> dict[str, Any]:
        """The JSON object of a row that was made; pictures below the folder are named relative to it."""
        job, judged = outcome.job, outcome.judged
        assert judged is not None
        kind, texts = job.kind, judged.final
        images = {role: self.pool.images[each] for role, each in zip(kind.roles, job.pictures, strict=True)}

        def request(side: str, role: Role) -> EncodeRequest:
            parts: tuple[Image | Text, ...] = (images[side],) if side in images else ()
            return EncodeRequest(Content((*parts, Text(texts[side])) if side in texts else parts), role)

        query = replace(request("query", "query"), instruction=texts["instruction"])
        row = TrainingRow(
            query,
            (request("positive", "document"),),
            (request("hard_negative", "document"),),
            id=self.name(job),
        )
        metadata = {
            "task": kind.name,
            "language": job.language,
            "model": self.chat.model,
            "prompt": prompts.PROMPT_VERSION,
            "at": outcome.at,
            "pictures": {role: self.pool.digests[each] for role, each in zip(kind.roles, job.pictures, strict=True)},
            "descriptions": list(map(dict, judged.descriptions)),
            "scores": dict(judged.scores),
            "revised": judged.revised,
            "reviewed": self.review,
        }
        return row_to_json(row, relative_to=folder) | {"metadata": metadata}
