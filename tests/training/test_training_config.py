"""Configurations: keys, types, changes; recipes; what a dry run says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mmseek.errors import ConfigError, MissingExtra
from mmseek.training.configuring import from_mapping, overridden, to_mapping
from mmseek.training.plan import plan
from mmseek.training.run import RECIPES, Run, load_config
from mmseek.training.settings import TrainConfig

LEAST = {"model": {"encoder": "mini"}, "data": {"sources": [{"path": "rows.jsonl"}]}}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("loss.temprature=1", r"unknown key loss\.temprature: did you mean loss\.temperature\?"),
        ("data.sources.0.colour=red", r"unknown key data\.sources\.0\.colour: the keys there are path"),
        ("surprise=1", r"unknown key surprise"),
        ("batch.size=many", r"batch\.size must be a whole number, not 'many'"),
        ("batch.size=0", r"batch\.size must be at least 1"),
        ("run.tensorboard=1", r"run\.tensorboard must be true or false"),
        ("model.freeze=all", r"model\.freeze must be a list"),
        ("model.freeze=['(']", r"model\.freeze .*no regular expression"),
        ("model.tune.method=prayer", r"model\.tune\.method must be full, lora or dora"),
        ("optimizer=fast", r"optimizer must hold keys and values"),
        ("data.sources.1.path=x", r"none of the list's places"),
        ("model.encoder.name=x", r"model\.encoder is a single value"),
        ("nonsense", r"write --set a\.b=value"),
        ("data.sources=[{path: a, weight: 2}, {path: b}]", r"data\.sources need a weight each"),
        ("data.sources=[]", r"data\.sources must name at least one"),
        ("data.sources=[{name: x}]", r"data\.sources\.0\.path is missing"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(change: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        from_mapping(TrainConfig, overridden(LEAST, [change]))


def test_without_the_extra_the_command_to_install_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmseek.training.base_run.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"mmseek\[train\]"):
        load_config("vlm2vec-v2")


def test_changes_are_applied_in_order_and_leave_the_settings_alone() -> None:
    changes = ["loss.temperature=0.1", "loss.temperature=2e-2", "data.sources.0.weight=2", "loss.matryoshka=[64, 32]"]
    config = from_mapping(TrainConfig, overridden(LEAST, changes))
    assert (config.loss.temperature, config.loss.matryoshka) == (0.02, (64, 32))
    assert config.data.sources[0].weight == 2.0
    assert "loss" not in LEAST
    assert from_mapping(TrainConfig, to_mapping(config)) == config


def test_a_file_and_a_recipe_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the recipes are .*vlm2vec-v2"):
        load_config("vlm2vec-v9")
    broken = tmp_path / "broken.yaml"
    broken.write_text("model: [")
    with pytest.raises(ConfigError, match="is not YAML"):
        load_config(broken)
    broken.write_text("just words")
    with pytest.raises(ConfigError, match="holds no settings"):
        load_config(broken)


@pytest.mark.parametrize("recipe", sorted(path.stem for path in RECIPES.glob("*.yaml")))
def test_recipes_parse(recipe: str) -> None:
    assert load_config(recipe).data.sources


def test_recipes_say_what_was_published() -> None:
    second = load_config("vlm2vec-v2")
    assert (second.batch.size, second.batch.sub_batch, second.optimizer.rate) == (1024, 64, 5e-5)
    assert (second.schedule.steps, second.schedule.warmup, second.model.tune.rank) == (5000, 100, 16)
    uniir = load_config("uniir-clip-sf")
    assert (uniir.batch.size, uniir.optimizer.betas, uniir.optimizer.weight_decay) == (840, (0.9, 0.98), 0.2)
    assert load_config("mm-embed-2-hard").data.negatives == 1
    assert not load_config("mme5").loss.others_negatives


@pytest.mark.parametrize("recipe", ["vlm2vec-v1", "vlm2vec-v2", "uniir-clip-sf"])
def test_recipes_plan_on_tiny_models(
    recipe: str, checkpoints: Callable[[str], Path], triples: Path, tmp_path: Path
) -> None:
    family = recipe.rpartition("-v")[0] if "-v" in recipe else recipe
    changes = [f"model.encoder={family}:{checkpoints(family)}", f"data.sources=[{{path: {triples}}}]", "run.device=cpu"]
    changes += ["batch.size=8", f"run.output={tmp_path}/out"]
    if load_config(recipe).batch.sub_batch:
        changes.append("batch.sub_batch=4")
    made = plan(Run(load_config(recipe, changes)))
    assert made.sources[0].rows == 12
    assert 0 < made.trained <= made.parameters
    assert (made.trained < made.parameters / 2) == (family == "vlm2vec")
    assert min(made.memory.values()) > 0
    assert made.steps == {"vlm2vec-v1": 2000, "vlm2vec-v2": 5000, "uniir-clip-sf": 30}[recipe]
    assert not (tmp_path / "out").exists()
