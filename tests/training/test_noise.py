"""Noise-injected training: the weights as they are written out, and a tiny model that learns with them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mmseek.training import noise
from mmseek.training.noise import (
    IGNORED,
    NoiseInjectedTrainer,
    noise_weighted_loss,
    noised,
    token_weights,
    with_irrelevant,
)
from mmseek.training.tiny import tiny_qwen_vl


def written_out(clean: Tensor, noisy: Tensor, labels: Tensor) -> tuple[list[list[float]], float]:
    """Weights and loss, number by number."""
    weights, total, mass = [], 0.0, 0.0
    for row in range(len(labels)):
        gains: list[float | None] = []
        for place, label in enumerate(labels[row].tolist()):
            gain = None if label == IGNORED else float(clean[row, place, label] - noisy[row, place, label])
            gains.append(None if gain is None else min(max(gain, 1.0), 5.0))
        smooth = []
        for place, gain in enumerate(gains):
            near = [each for each in gains[max(place - 1, 0) : place + 2] if each is not None]
            smooth.append(0.0 if gain is None else sum(near) / len(near))
        for place, label in enumerate(labels[row].tolist()):
            if label != IGNORED:
                total -= smooth[place] * float(clean[row, place].log_softmax(0)[label])
                mass += smooth[place]
        weights.append(smooth)
    return weights, total / mass


@pytest.fixture
def case() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    labels = torch.randint(1, 11, (3, 9))
    labels[:, :3] = IGNORED
    labels[1, 6:] = IGNORED
    return torch.randn(3, 9, 11) * 4, torch.randn(3, 9, 11) * 4, labels


def test_weights_and_loss_are_those_of_the_formula(case: tuple[Tensor, Tensor, Tensor]) -> None:
    weights, loss = written_out(*case)
    torch.testing.assert_close(token_weights(*case), torch.tensor(weights), atol=1e-5, rtol=1e-5)
    assert float(noise_weighted_loss(*case)) == pytest.approx(loss, abs=1e-5)


def test_weights_at_number_0_of_the_vocabulary_are_others(case: tuple[Tensor, Tensor, Tensor]) -> None:
    clean, noisy, labels = case
    at_zero = torch.where(labels == IGNORED, labels, torch.zeros_like(labels))
    weights, loss = written_out(*case)
    wrong = token_weights(clean, noisy, at_zero)
    assert (wrong - torch.tensor(weights)).abs().max() > 0.5
    losses = torch.nn.functional.cross_entropy(clean.transpose(1, 2), labels, ignore_index=IGNORED, reduction="none")
    assert abs(float((losses * wrong).sum() / wrong.sum()) - loss) > 1e-2


def test_weights_carry_no_gradient_and_without_noise_the_loss_is_the_plain_one(
    case: tuple[Tensor, Tensor, Tensor],
) -> None:
    clean, noisy, labels = case
    clean.requires_grad_()
    noisy.requires_grad_()
    noise_weighted_loss(clean, noisy, labels).backward()  # type: ignore[no-untyped-call]
    assert noisy.grad is None
    plain = torch.nn.functional.cross_entropy(clean.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
    torch.testing.assert_close(noise_weighted_loss(clean, clean, labels), plain)


def test_noise_is_that_of_the_500th_step() -> None:
    betas = [1 / (1 + math.exp(6 - 12 * n / 999)) * (0.5e-2 - 1e-5) + 1e-5 for n in range(1000)]
    kept = math.prod(1 - beta for beta in betas[: noise.STEP + 1])
    pixels = torch.full((200_000,), 2.0)
    made = noised(pixels, generator=torch.Generator().manual_seed(0))
    assert float(made.mean()) == pytest.approx(2 * math.sqrt(kept), abs=0.01)
    assert float(made.std()) == pytest.approx(math.sqrt(1 - kept), abs=0.01)
    assert 0.1 < kept < 0.9


def test_irrelevant_pictures_are_put_among_a_questions_own() -> None:
    rng = np.random.default_rng(0)
    mixed = with_irrelevant(["a", "b"], ["a", "b", "c", "d", "e"], 2, rng)
    assert len(mixed) == len(set(mixed)) == 4
    assert {"a", "b"} < set(mixed)
    assert sorted(with_irrelevant(["a"], ["a", "b"], 5, rng)) == ["a", "b"]
    orders = {with_irrelevant(["a", "b"], ["c"], 1, np.random.default_rng(seed)) for seed in range(20)}
    assert len(orders) > 2


def test_a_tiny_generator_learns_its_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    folder = tiny_qwen_vl(tmp_path / "model", words=("red", "blue", "What", "colour"))
    model = transformers.Qwen2VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    image = model.config.image_token_id
    rows: list[dict[str, Any]] = []
    for answer, value in ((1, 1.0), (2, -1.0)):
        # A picture of 4 by 4 patches is 4 tokens; then a question of two words and the answer.
        numbers = torch.tensor([image, image, image, image, 3, 4, answer])
        labels = torch.where(torch.arange(7) == 6, numbers, torch.tensor(IGNORED))
        patch = torch.full((16, 3 * 2 * 14 * 14), value)
        rows.append({"input_ids": numbers, "labels": labels, "pixel_values": patch})

    def collate(batch: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        numbers = torch.stack([row["input_ids"] for row in batch])
        return {
            "input_ids": numbers,
            "mm_token_type_ids": (numbers == image).int(),
            "labels": torch.stack([row["labels"] for row in batch]),
            "pixel_values": torch.cat([row["pixel_values"] for row in batch]),
            "image_grid_thw": torch.tensor([[1, 4, 4]] * len(batch)),
        }

    passes: list[bool] = []
    plain = noise.noised

    def counted(pixels: Tensor) -> Tensor:
        passes.append(torch.is_grad_enabled())
        return plain(pixels)

    monkeypatch.setattr(noise, "noised", counted)
    arguments = transformers.TrainingArguments(
        str(tmp_path / "run"), max_steps=30, per_device_train_batch_size=2, learning_rate=5e-3, report_to="none",
        save_strategy="no", logging_strategy="no", disable_tqdm=True, use_cpu=True, remove_unused_columns=False,
    )  # fmt: skip
    trainer = NoiseInjectedTrainer(model=model, args=arguments, train_dataset=rows, data_collator=collate)
    before = float(trainer.compute_loss(model, collate(rows)).detach())
    trainer.train()
    model.eval()
    with torch.no_grad():
        out = model(**{name: value for name, value in collate(rows).items() if name != "labels"})
    assert out.logits[:, 5].argmax(-1).tolist() == [1, 2]
    assert float(trainer.compute_loss(model, collate(rows)).detach()) < before / 4
    # One pass under noise a step, without gradients.
    assert len(passes) == 32
    assert not any(passes)
