"""`mmseek ask`: a question, answered from a collection by a chat endpoint, with its sources."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmseek.cli.options import CollectionOption, DeviceOption, JsonOption, ModeChoice, collection_path
from mmseek.cli.output import Output, clean, count, one_line, say, verb_output
from mmseek.cli.queries import build_query
from mmseek.cli.reranking import DepthsOption, RerankersOption, reranking_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mmseek.pipeline.asking import Answer, Event
    from mmseek.pipeline.context import Source


def ask(
    collection: CollectionOption,
    llm_url: Annotated[
        str, typer.Option("--llm-url", metavar="URL", help="A chat API as OpenAI's: http://localhost:8000/v1, say.")
    ],
    model: Annotated[str, typer.Option("--model", metavar="NAME", help="The model, by the name the endpoint knows.")],
    question: Annotated[
        str | None, typer.Argument(metavar="QUESTION", help="What you want to know.", show_default=False)
    ] = None,
    image: Annotated[
        Path | None, typer.Option("--image", "-i", metavar="FILE", help="A picture that the question is about.")
    ] = None,
    api_key_file: Annotated[
        Path | None,
        typer.Option("--api-key-file", metavar="FILE", help="A file with the endpoint's key. [default: the setting's]"),
    ] = None,
    k: Annotated[int, typer.Option("-k", metavar="N", help="How many documents to answer from.")] = 5,
    mode: Annotated[ModeChoice, typer.Option("--mode", help="By vector, in words, or by both.")] = ModeChoice.DENSE,
    condition: Annotated[
        str | None, typer.Option("--filter", metavar="EXPR", help="Condition on metadata, as for mmseek search.")
    ] = None,
    instruction: Annotated[
        str | None, typer.Option("--instruction", metavar="TEXT", help="What the encoder is to look for.")
    ] = None,
    rerank: RerankersOption = None,
    rerank_depth: DepthsOption = None,
    threshold: Annotated[
        str | None,
        typer.Option("--threshold", metavar="N|FILE", help="Answer from no hit below; FILE is of mmseek calibrate."),
    ] = None,
    requery: Annotated[
        bool, typer.Option("--requery", help="Let the model write the question anew for the search.")
    ] = False,
    context_chars: Annotated[
        int, typer.Option("--context-chars", metavar="N", min=0, help="Characters of documents that are sent.")
    ] = 12_000,
    pictures: Annotated[
        int, typer.Option("--pictures", metavar="N", min=0, help="Pictures of documents that are sent.")
    ] = 6,
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", metavar="N", min=1, help="How long the answer may be.")
    ] = 1024,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Answer a question from a collection, with citations.

    The best documents are sent to a chat endpoint, which answers from them alone; [1] in the answer is the first of the
    sources listed below it. Where nothing is found, or nothing reaches --threshold, the endpoint is not asked, and the
    answer is "not in the corpus".

    \b
    mmseek ask "when is low water at the harbour?" -c my.index --llm-url http://localhost:8000/v1 --model qwen3-vl
    """
    with verb_output(as_json) as out:
        place = collection_path(collection)
        query = build_query(
            question, image, instruction=instruction, k=k, exclude=(), mode=mode.value, condition=condition
        )
        from mmseek.pipeline.chat import Chat, read_key

        chat = Chat(llm_url, model, read_key(api_key_file), max_tokens=max_tokens)
        from mmseek.cli.opening import open_retriever

        with open_retriever(place, device=device, rerank=rerank or (), rerank_depth=rerank_depth) as retriever:
            from mmseek.pipeline.asking import Asking, stream_answer
            from mmseek.pipeline.context import Budget

            how = Asking(
                reranking=reranking_of(retriever, threshold=threshold, fusion=None, budget=None),
                budget=Budget(chars=context_chars, pictures=pictures),
                requery=requery,
            )
            events = stream_answer(retriever, query, chat, how)
            _tell(out, _followed(events, as_json=as_json))


def _followed(events: Iterable[Event], *, as_json: bool) -> Answer:
    """The answer; its words are printed as they come, unless the answer is JSON."""
    from mmseek.pipeline.asking import Answer, Piece

    for event in events:
        if isinstance(event, Answer):
            return event
        if isinstance(event, Piece) and not as_json:
            sys.stdout.write("\n".join(map(clean, event.text.split("\n"))))
            sys.stdout.flush()
    raise AssertionError("an answer ends with an Answer")


def _tell(out: Output, answer: Answer) -> None:
    from mmseek.pipeline.asking import answer_json

    out.json(answer_json(answer))
    out.show("", *(_line(source) for source in answer.cited))
    if answer.below and not answer.sources:
        say(f"note: of {count(answer.below, 'hit')} that were found none reaches the threshold")
    if answer.invented:
        numbers = ", ".join(f"[{number}]" for number in answer.invented)
        say(f"note: the answer cites {numbers}, which are no sources: do not trust what stands there")
    if answer.found and not answer.cited:
        say("note: the answer cites no source: look before you trust it")


def _line(source: Source) -> Any:
    """One source for the terminal: where to look."""
    from rich.text import Text

    where = one_line(source.document, 80)
    if source.page is not None:
        where += f", page {source.page}"
        if source.region is not None:
            left, top, right, bottom = source.region
            where += f", at {left:g},{top:g} to {right:g},{bottom:g} pt"
    elif source.passage is not None:
        where += f", passage {source.passage}"
    return Text(f"[{source.number}] {where}  ({source.hit.score:.4f})")
