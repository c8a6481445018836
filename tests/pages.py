"""The Python in Markdown pages, for the tests that run it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch

__all__ = ["python_blocks", "run_blocks"]


def python_blocks(text: str) -> list[str]:
    """The code of the blocks marked ``python``, in order."""
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def run_blocks(blocks: Sequence[str]) -> dict[str, Any]:
    """Run the blocks one after another in one namespace, and return it."""
    torch.manual_seed(0)
    names: dict[str, Any] = {}
    for number, code in enumerate(blocks, start=1):
        exec(compile(code, f"python block {number}", "exec"), names)
    return names
