import subprocess
import sys
from importlib import import_module

import pytest

from mmseek.embed import FAMILIES, load_encoder
from mmseek.errors import ConfigError, SpecError


def test_every_family_has_its_loader() -> None:
    for name, family in FAMILIES.items():
        module, _, function = family.loader.partition(":")
        assert family.name == name
        assert callable(getattr(import_module(module), function))


def test_the_table_loads_no_torch() -> None:
    code = "import sys, mmseek.embed; mmseek.embed.FAMILIES; print({'torch', 'transformers'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


def test_an_unknown_spec() -> None:
    with pytest.raises(SpecError, match="mini"):
        load_encoder("nonsense:model")


@pytest.mark.parametrize("device", ["cuda:99", "warp"])
def test_an_unknown_device(device: str) -> None:
    with pytest.raises(ConfigError, match=r"cpu"):
        load_encoder("mini", device=device)
