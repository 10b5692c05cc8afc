"""LoRA adapters: merged equals unmerged, names of several versions, the fingerprint, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, pre_tokenizers
from tokenizers.models import BPE
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

from mmseek import Content, load_encoder
from mmseek.embed.adapters import load_adapters
from mmseek.embed.qwen_vl import QwenVLEncoder
from mmseek.errors import MissingExtra, ModelError, SpecError
from mmseek.models.adapters import put_on

# PEFT 0.21 asks transformers 5 for an attribute under its old name; here it is called directly.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

CONTENTS = [Content.of("A cat and a dog"), Content.of("another text, and a longer one")]


def tiny_model(folder: Path | None = None) -> Qwen2VLForConditionalGeneration:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(BPE({letter: number for number, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens([AddedToken("<|image_pad|>", special=True)])
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
    config = Qwen2VLConfig(
        text_config={
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "vocab_size": 257,
            "rope_parameters": rope,
        },
        vision_config={"depth": 1, "embed_dim": 16, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2},
        image_token_id=256,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    model = Qwen2VLForConditionalGeneration(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.normal_(0, 0.2)
    if folder is not None:
        model.save_pretrained(folder)
        tokenizer.save(str(folder / "tokenizer.json"))
        (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.5] * 3}))
    return model


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    tiny_model(folder)
    return folder


def make_adapter(folder: Path, base: Path | str, seed: int = 1, *, dora: bool = True) -> Path:
    """As VLM2Vec makes them: DoRA on attention and feed-forward."""
    config = LoraConfig(
        r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"], use_dora=dora, init_lora_weights="gaussian"
    )
    wrapped = get_peft_model(tiny_model(), config)
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, weight in wrapped.named_parameters():
            if "lora_" in name and "magnitude" not in name:
                weight.normal_(0, 0.2)
    wrapped.save_pretrained(folder)
    (folder / "README.md").unlink()
    settings = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(settings | {"base_model_name_or_path": str(base)}))
    return folder


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(tmp_path_factory.mktemp("adapter"), base)


def rows(spec: str) -> np.ndarray:
    return load_encoder(spec, device="cpu").encode_query(CONTENTS)


@pytest.mark.parametrize("dora", [True, False])
def test_merged_equals_unmerged(base: Path, tmp_path: Path, dora: bool) -> None:
    adapter = make_adapter(tmp_path / "a", base, dora=dora)
    encoder = load_encoder(f"vlm2vec:{base}#{adapter}", device="cpu")
    assert isinstance(encoder, QwenVLEncoder)
    wrapped = put_on(tiny_model(), {"default": adapter})
    with torch.no_grad():
        for content, vector in zip(CONTENTS, encoder.encode_document(CONTENTS), strict=True):
            ids = torch.tensor([Tokenizer.from_file(str(base / "tokenizer.json")).encode(content.text).ids])
            state = wrapped.model.model(input_ids=ids).last_hidden_state[0, -1]
            np.testing.assert_allclose(vector, torch.nn.functional.normalize(state, dim=0), atol=1e-5)
    assert np.abs(encoder.encode_query(CONTENTS) - rows(f"vlm2vec:{base}")).max() > 0.01


def test_an_adapter_alone_finds_its_base(base: Path, adapter: Path) -> None:
    alone = load_encoder(f"vlm2vec:{adapter}", device="cpu")
    named = load_encoder(f"vlm2vec:{base}#{adapter}", device="cpu")
    np.testing.assert_array_equal(alone.encode_query(CONTENTS), named.encode_query(CONTENTS))
    assert alone.identity.fingerprint == named.identity.fingerprint
    assert named.identity.spec == f"vlm2vec:{base.resolve()}#{adapter.resolve()}"
    again = load_encoder(named.identity.spec, device="cpu")  # what a collection remembers opens again
    assert again.identity == named.identity


def test_a_base_beside_the_adapter_is_found(base: Path, tmp_path: Path) -> None:
    (tmp_path / "model").symlink_to(base)
    adapter = make_adapter(tmp_path / "adapter", "model")
    np.testing.assert_array_equal(rows(f"vlm2vec:{adapter}"), rows(f"vlm2vec:{base}#{adapter}"))


def test_names_of_older_versions_are_read(base: Path, adapter: Path, tmp_path: Path) -> None:
    """Before transformers 5 the layers of Qwen2-VL had no `language_model` before them."""
    old = tmp_path / "old"
    old.mkdir()
    (old / "adapter_config.json").write_bytes((adapter / "adapter_config.json").read_bytes())
    weights = load_file(adapter / "adapter_model.safetensors")
    assert any(".language_model." in name for name in weights)
    renamed = {name.replace(".language_model.", "."): value for name, value in weights.items()}
    save_file(renamed, old / "adapter_model.safetensors")
    np.testing.assert_array_equal(rows(f"vlm2vec:{old}"), rows(f"vlm2vec:{adapter}"))


def test_the_fingerprint_changes_with_the_adapter(base: Path, adapter: Path, tmp_path: Path) -> None:
    def fingerprint(spec: str) -> str:
        return load_encoder(spec, device="cpu").identity.fingerprint

    other = make_adapter(tmp_path / "other", base, seed=2)
    scaled = make_adapter(tmp_path / "scaled", base)
    settings = json.loads((scaled / "adapter_config.json").read_text())
    (scaled / "adapter_config.json").write_text(json.dumps(settings | {"lora_alpha": 16}))
    found = {fingerprint(f"vlm2vec:{base}")} | {fingerprint(f"vlm2vec:{each}") for each in (adapter, other, scaled)}
    assert len(found) == 4


def test_adapters_are_swapped_by_name(base: Path, adapter: Path, tmp_path: Path) -> None:
    other = make_adapter(tmp_path / "other", base, seed=2)
    encoders = load_adapters(f"vlm2vec:{base}", {"one": str(adapter), "two": str(other)}, device="cpu")
    assert list(encoders) == ["one", "two"]
    for _ in range(2):
        for name, folder in (("one", adapter), ("two", other)):
            merged = load_encoder(f"vlm2vec:{base}#{folder}", device="cpu")
            np.testing.assert_allclose(encoders[name].encode_query(CONTENTS), merged.encode_query(CONTENTS), atol=1e-5)
            assert encoders[name].identity == merged.identity


def test_a_text_model_takes_an_adapter(model_folder: Path, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    plain = SentenceTransformer(str(model_folder), device="cpu")
    config = LoraConfig(r=4, target_modules=["query", "value"])
    wrapped = get_peft_model(plain[0].auto_model, config)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weight in wrapped.named_parameters():
            if "lora_" in name:
                weight.normal_(0, 0.05)
    wrapped.eval()
    expected = plain.encode([content.text for content in CONTENTS], normalize_embeddings=True)
    wrapped.save_pretrained(tmp_path / "adapter")
    encoder = load_encoder(f"st:{model_folder}#{tmp_path / 'adapter'}", device="cpu")
    np.testing.assert_allclose(encoder.encode_document(CONTENTS), expected, atol=1e-5)
    assert np.abs(rows(f"st:{model_folder}") - expected).max() > 0.01


def test_what_cannot_be_loaded_is_one_sentence(base: Path, adapter: Path, tmp_path: Path) -> None:
    lost = make_adapter(tmp_path / "lost", "/nowhere/model")
    with pytest.raises(ModelError, match=r"LoRA adapter of /nowhere/model, which is not .* write vlm2vec:BASE_MODEL#"):
        load_encoder(f"vlm2vec:{lost}", device="cpu")
    settings = json.loads((lost / "adapter_config.json").read_text())

    def configured(**changes: object) -> str:
        (lost / "adapter_config.json").write_text(json.dumps(settings | changes))
        return f"vlm2vec:{base}#{lost}"

    with pytest.raises(ModelError, match="of type IA3, and only LORA"):
        load_encoder(configured(peft_type="IA3"), device="cpu")
    with pytest.raises(ModelError, match="does not fit the model"):
        load_encoder(configured(target_modules=["q_proj"]), device="cpu")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_encoder(configured(target_modules=["no_such_layer"]), device="cpu")
    configured(base_model_name_or_path=None)
    with pytest.raises(ModelError, match="does not name its base"):
        load_encoder(f"vlm2vec:{lost}", device="cpu")
    configured()
    (lost / "adapter_model.safetensors").rename(lost / "adapter_model.bin")
    with pytest.raises(ModelError, match="is a pickle"):
        load_encoder(f"vlm2vec:{base}#{lost}", device="cpu")
    with pytest.raises(ModelError, match="whole models only"):
        load_encoder(f"clip:{base}#{adapter}", device="cpu")
    with pytest.raises(SpecError, match="no adapter after the #"):
        load_encoder(f"vlm2vec:{base}#", device="cpu")


def test_without_peft_the_command_is_named(base: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"mmseek\[lora\]"):
        put_on(tiny_model(), {"default": adapter})
