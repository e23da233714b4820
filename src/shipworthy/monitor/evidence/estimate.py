"""Accuracy without labels: an estimate, with an assumption that nothing here can test."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def atc(confidences: npt.ArrayLike, sure: float) -> float | None:
    """Average thresholded confidence, of confidences [n], NaN where missing: the share that is above `sure`, the
    confidence above which as many held-out answers lay as were right. A missing one is not. None where there are none.

    It is right if answers above that confidence are as often right as they were, which a shift may end. (Garg,
    Balakrishnan, Lipton, Neyshabur and Sedghi, "Leveraging unlabeled data to predict out-of-distribution performance",
    ICLR 2022.)"""
    values = np.asarray(confidences, np.float64)
    return float((values > sure).mean()) if len(values) else None
