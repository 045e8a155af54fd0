"""The environment of a process that trains: libraries read it once, at import, so it is there before that."""

from __future__ import annotations

import os

KERNELS = "OPENBLAS_CORETYPE"
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS",
               "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")  # fmt: skip


def lane_environment(kernels: str) -> dict[str, str]:
    """Of a lane, and of what is measured in place of one.

    Args:
        kernels: OpenBLAS' (`blas.fastest`); empty for those that it takes by itself.
    """
    chosen = {KERNELS: kernels} if kernels else {}
    return {**os.environ, **dict.fromkeys(_ONE_THREAD, "1"), **chosen, "TF_CPP_MIN_LOG_LEVEL": "2"}
