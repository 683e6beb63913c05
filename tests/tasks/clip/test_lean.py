"""Model classes come without scikit-learn and SciPy, and transformers is left as it was."""

from __future__ import annotations

import subprocess
import sys


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_extras_are_not_imported() -> None:
    code = "import sys\n{}\nprint(sorted({{'sklearn', 'scipy', 'pandas'}} & sys.modules.keys()))"
    assert run(code.format("from tasks.clip.lean import model_class\nmodel_class('CLIPModel')")) == "[]"
    # The measure: the same class as transformers gives it.
    assert "sklearn" in run(code.format("from transformers import CLIPModel"))


def test_transformers_knows_afterwards_what_is_installed() -> None:
    code = "from tasks.clip.lean import model_class\nmodel_class('CLIPModel')\nfrom transformers import utils\n"
    assert run(f"{code}print(utils.is_sklearn_available(), utils.is_scipy_available())") == "True True"


def test_an_unknown_class_is_an_attribute_error() -> None:
    code = "from tasks.clip.lean import model_class\ntry: model_class('Nothing')\nexcept AttributeError: print('none')"
    assert run(code) == "none"
