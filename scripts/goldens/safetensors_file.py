#!/usr/bin/env python3
"""Writes tests/goldens/safetensors_reference.safetensors with the reference library: types and shapes of every kind.

    scripts/goldens/safetensors_file.py

Values are exact in every type, so tests/safetensors_test.cpp states them by formula.
"""

import pathlib

import torch
from safetensors.torch import save_file

matrix = (torch.arange(35, dtype=torch.float32) * 0.375 - 4).reshape(5, 7)
tensors = {
    "scalar": torch.tensor(0.15625),
    "matrix.f32": matrix,
    "matrix.bf16": matrix.to(torch.bfloat16),
    "matrix.f16": matrix.to(torch.float16),
    "vector.i64": torch.arange(4) - 2,
    "cube.f32": (torch.arange(24, dtype=torch.float32) / 8).reshape(2, 3, 4),
    "mask": torch.tensor([True, False, True]),
    "empty": torch.zeros(0, 3),
    'naïve "name"': torch.ones(1, dtype=torch.bfloat16),
}
root = pathlib.Path(__file__).resolve().parents[2]
path = root / "tests/goldens/safetensors_reference.safetensors"
save_file(tensors, path, metadata={"format": "pt", "by": "safetensors"})
path.chmod(0o644)
