"""Model classes come without scikit-learn and SciPy, and transformers is left as it was."""

from __future__ import annotations

import subprocess
import sys


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


LEAN = """
import sys
from tasks.clip.lean import model_class
model_class("CLIPModel")
print(sorted({"sklearn", "scipy", "pandas"} & sys.modules.keys()))
try:
    model_class("Nothing")
except AttributeError:
    print("no such attribute")
from transformers import utils
print(utils.is_sklearn_available(), utils.is_scipy_available())
"""


def test_extras_are_not_imported_and_transformers_knows_afterwards_what_is_installed() -> None:
    assert run(LEAN).splitlines() == ["[]", "no such attribute", "True True"]
    # The measure: the same class as transformers gives it.
    assert run("import sys\nfrom transformers import CLIPModel\nprint('sklearn' in sys.modules)") == "True"
