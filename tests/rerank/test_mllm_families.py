"""Every family on a random checkpoint made here: its prompt byte for byte, the scores of plain transformers calls."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from mmseek._types import Content, Image, Pair
from mmseek.errors import InputError, ModelError
from mmseek.rerank import load_reranker
from mmseek.rerank.mllm.engine import Memory, MllmReranker

Make = Callable[..., Path]
Draw = Callable[[int, int], Image]

QWEN = "<|vision_start|><|image_pad|><|vision_end|>"
SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
END = "<|im_end|>\n<|im_start|>assistant\n"
VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the user's questions. USER: {} ASSISTANT:"
)
# What each backbone writes around the user's words, and for a picture before them.
CHATS = {
    "llava": (VICUNA, "<image>\n"),
    "llava_next": ("[INST] {} [/INST]", "<image>\n"),
    "internvl": (f"<|im_start|>user\n{{}}{END}", "<img><IMG_CONTEXT></img>\n"),
    "qwen2_vl": (f"{SYSTEM}<|im_start|>user\n{{}}{END}", QWEN),
    "qwen2_5_vl": (f"{SYSTEM}<|im_start|>user\n{{}}{END}", QWEN),
}
CAPTIONED = (
    "Image Caption: a red boat\nQuestion: what is on the sea?\nBased on the image and its caption, "
    "is the image relevant to the question? Answer 'Yes' or 'No'."
)
PLAIN = "Question: what is on the sea?\nIs this image relevant to the question? Answer 'Yes' or 'No'."
CAPTION = "Image Caption: a boat\nIs the image relevant to the caption? Answer 'Yes' or 'No'."
MONO = (
    "Assert the relevance of the previous image document to the following query, answer True or False. The query is: "
)
LAMRA = (
    "I will provide you with a query and a candidate. Please evaluate whether the candidate meets the requirements of "
    "the query. If it does, respond with 'Yes'; if it doesn't, responed with 'No'."
)


def load(spec: str) -> MllmReranker:
    reranker = load_reranker(spec, device="cpu")
    assert isinstance(reranker, MllmReranker)
    return reranker


def two(logits: torch.Tensor, folder: Path, positive: str, negative: str) -> float:
    """The first entry of the softmax over two answers' logits."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    numbers = [tokenizer.token_to_id(word) for word in (positive, negative)]
    return float(torch.softmax(logits[numbers].float(), dim=0)[0])


def score(reranker: MllmReranker, pair: Pair) -> float:
    (outcome,) = reranker.stream([pair])
    assert outcome.score is not None, outcome.error
    return outcome.score


def check(reranker: MllmReranker, folder: Path, pair: Pair, prompt: str, answers: tuple[str, str], plain: Any) -> None:
    sent = reranker.sent(pair)
    assert sent.prompt == prompt
    images = reranker.prompt(pair).images
    assert len(sent.picture_tokens) == len(images)
    expected = two(plain(folder, prompt, images), folder, *answers)
    np.testing.assert_allclose(score(reranker, pair), expected, atol=1e-4)


@pytest.mark.parametrize("kind", CHATS)
def test_ragllava(tiny_vlm: Make, draw: Draw, plain_logits: Any, kind: str) -> None:
    folder = tiny_vlm(kind)
    reranker = load(f"ragllava:{folder}")
    asked = Content.of("what is on the sea?")
    turn, picture = CHATS[kind]
    image = draw(90, 60)
    for pair, words in [
        (Pair(asked, Content.of(image, "a red boat")), picture + CAPTIONED),
        (Pair(asked, Content.of(draw(40, 90))), picture + PLAIN),
        (Pair(Content.of("a boat"), Content.of(image, "not used"), "task:caption"), picture + CAPTION),
        (Pair(asked, Content.of("a red boat")), CAPTIONED),
        (Pair(Content.of("what is on the sea?", draw(50, 50)), Content.of(image)), 2 * picture + PLAIN),
    ]:
        check(reranker, folder, pair, turn.format(words), ("Yes", "No"), plain_logits)
    with pytest.raises(InputError, match="add words"):
        reranker.score(Content.of(image), [Content.of(image)])


def test_mm_embed_zero_shot(tiny_vlm: Make, draw: Draw, plain_logits: Any) -> None:
    folder = tiny_vlm("llava_next")
    reranker = load(f"mm-embed-zero-shot:{folder}")
    one, two_ = draw(90, 60), draw(40, 90)
    daily = "Does the above daily-life image match the caption? True or False"
    changed = "Is the second image above the first one with the change that the query asks for? True or False"
    text, other = Content.of("a boat"), Content.of("a red boat")
    for pair, words in [
        (Pair(text, Content.of(one)), f"<image>\nCaption: a boat\n{daily}"),
        (Pair(Content.of(one), text), f"<image>\nCaption: a boat\n{daily}"),
        (
            Pair(text, other),
            "Query: a boat\nDocument: a red boat\nDoes the above document answer the query? True or False",
        ),
        (
            Pair(Content.of(one, "in blue"), Content.of(two_)),
            f"<image>\nQuery: in blue\n<image>\n{changed}",
        ),
        (
            Pair(Content.of(one), Content.of(two_), "Same street? True or False"),
            "<image>\n<image>\nSame street? True or False",
        ),
    ]:
        check(reranker, folder, pair, f"[INST] {words} [/INST]", ("True", "False"), plain_logits)


@pytest.mark.parametrize("kind", ["qwen2_vl", "qwen2_5_vl"])
def test_lamra(tiny_vlm: Make, draw: Draw, plain_logits: Any, kind: str) -> None:
    folder = tiny_vlm(kind, tied=False)
    reranker = load(f"lamra:{folder}")
    one, other = draw(90, 60), draw(40, 90)
    for pair, words in [
        (Pair(Content.of(one, "in blue"), Content.of(other)), f"{LAMRA}Query:{QWEN}in blueCandidate:{QWEN}"),
        (Pair(Content.of("it"), Content.of("a boat", one), "Find"), f"{LAMRA}Query:Find itCandidate:{QWEN}a boat"),
    ]:
        check(reranker, folder, pair, CHATS[kind][0].format(words), ("Yes", "No"), plain_logits)


def test_lamra_listwise(tiny_vlm: Make, draw: Draw, plain_logits: Any) -> None:
    from mmseek.rerank.lamra_listwise import LamraListwiseReranker

    folder = tiny_vlm("qwen2_vl")
    reranker = load(f"lamra-listwise:{folder}")
    assert isinstance(reranker, LamraListwiseReranker)
    one, other = draw(90, 60), draw(40, 90)
    candidates = [Content.of(one, "a boat"), Content.of("a dog"), Content.of(other)]
    asked = (
        "I will provide you with a query followed by multiple candidates in the format: (1) cand1 (2) cand2, etc. Each "
        "candidate is independent of the others. Evaluate each candidate against the query, and respond with the "
        "number corresponding to the candidate that best meets the requirements of the query."
    )
    prompt = f"{asked}Query:the seaCandidates:(1) {QWEN}a boat(2) a dog(3) {QWEN}"
    prompt = f"{CHATS['qwen2_vl'][0].format(prompt)}Ans: ("
    assert reranker.list_prompt(Content.of("the sea"), candidates).text(QWEN) == prompt
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    plain = plain_logits(folder, prompt, [one, other])[[tokenizer.token_to_id(digit) for digit in "123"]]
    np.testing.assert_allclose(reranker.logits(Content.of("the sea"), candidates), plain, atol=1e-4)
    scores = reranker.score(Content.of("the sea"), candidates)
    assert np.argsort(-scores).tolist() == np.argsort(-plain.numpy(), kind="stable").tolist()


def test_the_best_of_a_long_list_wanders_to_the_front(tiny_vlm: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from mmseek.rerank.lamra_listwise import LamraListwiseReranker

    reranker = load(f"lamra-listwise:{tiny_vlm('qwen2_vl')}")
    asked: list[int] = []

    def by_number(self: object, query: Content, candidates: list[Content]) -> list[float]:
        asked.append(len(candidates))
        return [float(candidate.text) for candidate in candidates]

    monkeypatch.setattr(LamraListwiseReranker, "logits", by_number)
    numbers = [3, 9, 1, 7, 12, 5, 0, 8, 4, 11, 2]
    scores = reranker.score(Content.of("q"), [Content.of(str(number)) for number in numbers])
    assert int(np.argmax(scores)) == numbers.index(12)
    assert len(set(scores.tolist())) == len(numbers)
    assert max(asked) == 5
    assert reranker.score(Content.of("q"), [Content.of("1")]).tolist() == [1.0]


def test_jina_m0(tiny_vlm: Make, draw: Draw, tmp_path: Path) -> None:
    import transformers

    folder = tmp_path / "jina"
    shutil.copytree(tiny_vlm("qwen2_vl"), folder)
    weights = load_file(folder / "model.safetensors")
    torch.manual_seed(1)
    network = torch.nn.Sequential(torch.nn.Linear(32, 32), torch.nn.ReLU(), torch.nn.Linear(32, 1))
    save_file(
        weights | {f"score.{name}": weight.detach() for name, weight in network.state_dict().items()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    reranker = load(f"jina-m0:{folder}")
    image, query = draw(90, 60), draw(56, 84)
    model = transformers.Qwen2VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    for pair, prompt in [
        (Pair(Content.of("the sea"), Content.of(image)), f"**Document**:\n{QWEN}\n**Query**:\nthe sea"),
        (Pair(Content.of(query), Content.of("a boat")), f"**Document**:\na boat\n**Query**:\n{QWEN}"),
        (Pair(Content.of(query), Content.of(image)), f"**Document**:\n{QWEN}\n**Query**:\n{QWEN}"),
        (Pair(Content.of("the sea"), Content.of("a boat")), "**Document**:\na boat\n**Query**:\nthe sea"),
    ]:
        assert reranker.sent(pair).prompt == prompt
        images = reranker.prompt(pair).images
        inputs, expanded = {}, prompt
        if images:
            inputs, expanded = _jina_pictures(images, prompt)
        ids = torch.tensor([[*tokenizer.encode(expanded, add_special_tokens=False).ids, 100]])
        with torch.no_grad():
            states = model(
                input_ids=ids,
                mm_token_type_ids=(ids == model.config.image_token_id).int(),
                output_hidden_states=True,
                **inputs,
            ).hidden_states[-1]
            expected = torch.sigmoid(network(states[:, -1]).squeeze(-1) - 2.65)
        np.testing.assert_allclose(score(reranker, pair), float(expected), atol=1e-4)
    with pytest.raises(ModelError, match="is no jina-reranker-m0"):
        load(f"jina-m0:{tiny_vlm('qwen2_vl')}")


def _jina_pictures(images: tuple[Image, ...], prompt: str) -> tuple[dict[str, Any], str]:
    import io

    import PIL.Image
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    processor = Qwen2VLImageProcessorPil(
        image_mean=[0.5, 0.4, 0.3],
        image_std=[0.2, 0.3, 0.4],
        size={"shortest_edge": 3136, "longest_edge": 602112},
    )
    opened = [PIL.Image.open(io.BytesIO(image.data or b"")) for image in images]
    inputs = dict(processor(images=opened, return_tensors="pt"))
    for grid in inputs["image_grid_thw"]:
        prompt = prompt.replace("<|image_pad|>", "<placeholder>" * (int(grid.prod()) // 4), 1)
    return inputs, prompt.replace("<placeholder>", "<|image_pad|>")


@pytest.fixture
def adapter(tiny_vlm: Make, tmp_path: Path) -> Path:
    """A LoRA adapter on the tiny Qwen2-VL, with the names that an older transformers gave its layers."""
    torch.manual_seed(2)
    weights = {}
    for name, (out, inner) in {"q_proj": (32, 32), "v_proj": (16, 32)}.items():
        for layer in range(2):
            path = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            weights[f"{path}.lora_A.weight"] = torch.randn(4, inner) * 0.3
            weights[f"{path}.lora_B.weight"] = torch.randn(out, 4) * 0.3
    save_file(weights, tmp_path / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "base_model_name_or_path": str(tiny_vlm("qwen2_vl"))}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    return tmp_path


def test_monoqwen_is_a_base_with_its_adapter(adapter: Path, tiny_vlm: Make, draw: Draw, plain_logits: Any) -> None:
    base = tiny_vlm("qwen2_vl")
    merged = adapter / "merged"
    shutil.copytree(base, merged)
    weights, lora = load_file(base / "model.safetensors"), load_file(adapter / "adapter_model.safetensors")
    for name in [name for name in lora if name.endswith("lora_A.weight")]:
        path = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        (key,) = [key for key in weights if key.endswith(f"{path.removeprefix('model.')}.weight")]
        weights[key] = weights[key] + 2 * lora[name.replace("lora_A", "lora_B")] @ lora[name]
    save_file(weights, merged / "model.safetensors", metadata={"format": "pt"})
    reranker = load(f"monoqwen:{adapter}")
    pair = Pair(Content.of("what is on the sea?"), Content.of(draw(90, 60)))
    prompt = f"{SYSTEM}<|im_start|>user\n{QWEN}{MONO}what is on the sea?{END}"
    check(reranker, merged, pair, prompt, ("True", "False"), plain_logits)
    without, whole = load(f"monoqwen:{base}"), load(f"monoqwen:{merged}")
    assert abs(score(load(f"monoqwen:{base}#{adapter}"), pair) - score(reranker, pair)) < 1e-6
    assert abs(score(without, pair) - score(reranker, pair)) > 1e-3
    assert abs(score(whole, pair) - score(reranker, pair)) < 1e-5
    assert len({each.identity.fingerprint for each in (without, whole, reranker)}) == 3


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"peft_type": "IA3"}, "only plain LoRA"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"base_model_name_or_path": None}, "does not name its base model"),
        ({"base_model_name_or_path": "/no/where"}, "is a LoRA adapter of /no/where"),
    ],
)
def test_an_adapter_that_is_refused(adapter: Path, change: dict[str, Any], sentence: str) -> None:
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ModelError, match=sentence):
        load(f"monoqwen:{adapter}")


def test_an_adapter_of_another_model_or_in_a_pickle(adapter: Path) -> None:
    weights = load_file(adapter / "adapter_model.safetensors")
    save_file(
        {name.replace("layers.1", "layers.7"): weight for name, weight in weights.items()},
        adapter / "adapter_model.safetensors",
    )
    with pytest.raises(ModelError, match=r"layers\.7.* does not have"):
        load(f"monoqwen:{adapter}")
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(ModelError, match="is a pickle"):
        load(f"monoqwen:{adapter}")


def test_an_answer_of_several_tokens_is_refused(tiny_vlm: Make, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    shutil.copytree(tiny_vlm("qwen2_vl"), folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["added_tokens"] = [token for token in tokenizer["added_tokens"] if token["content"] != "No"]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ModelError, match="cuts 'No' into 2 tokens"):
        load(f"lamra:{folder}")


FAMILIES = [
    ("ragllava", "llava"),
    ("ragllava", "llava_next"),
    ("ragllava", "internvl"),
    ("ragllava", "qwen2_5_vl"),
    ("mm-embed-zero-shot", "llava_next"),
    ("lamra", "qwen2_vl"),
    ("monoqwen", "qwen2_vl"),
    ("qwen3-vl-reranker", "qwen3_vl"),
]


@pytest.mark.parametrize(("family", "kind"), FAMILIES)
def test_the_clever_way_is_the_plain_way(tiny_vlm: Make, draw: Draw, family: str, kind: str) -> None:
    """Pictures kept, beginnings shared, batches: against one pair at a time with nothing kept."""
    clever = load(f"{family}:{tiny_vlm(kind)}")
    plain = type(clever)(clever.backbone, clever.head, identity=clever.identity, memory=Memory(0, 0, 0))
    queries = [Content.of("what is on the sea?", draw(56, 56)), Content.of("is it a dog, or is it one of the two?")]
    documents = [
        Content.of(draw(90, 60), "a red boat"),
        Content.of(draw(40, 90)),
        Content.of("a red boat on the blue sea, and a street"),
        Content.of(draw(90, 60), "a dog", draw(50, 50)),
        Content.of(""),
    ]
    pairs = [Pair(query, document) for query in queries for document in documents]
    expected = [score(plain, pair) for pair in pairs]
    assert len({round(each, 3) for each in expected}) > 5
    for _ in range(2):  # the second time pictures and beginnings are there already
        scores = [each.score for each in clever.stream(pairs)]
        np.testing.assert_allclose(scores, expected, atol=1e-5)
    np.testing.assert_allclose([each.score for each in clever.stream(pairs[::-1])], expected[::-1], atol=1e-5)
    assert len(clever._seen)
    assert len(clever._pasts)
    for query in queries:
        assert clever.score(query, documents).shape == (len(documents),)
