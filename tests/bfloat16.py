"""The mark of tests that compute in bfloat16."""

import pytest

from fedpolyp.processor import refuses_bfloat16

computes_in_bfloat16 = pytest.mark.skipif(
    refuses_bfloat16(), reason="ONEDNN_MAX_CPU_ISA limits oneDNN to instructions with which it refuses bfloat16"
)
MIXED = pytest.param("mixed_bfloat16", marks=computes_in_bfloat16)
