"""On real data: a student that is taught beats the same student trained alone.

Few digits have labels and many have none, which the teacher answers. Alone, the student has the few with labels, and as
many steps in all; both start from the same weights."""

from __future__ import annotations

import numpy as np
import pytest
from residual_net import built, digits_contract, digits_data
from scipy import stats

from shipworthy.compress.distillation import distill
from shipworthy.compress.methods import Distill, Training
from shipworthy.compress.training import default_step, train, validator
from shipworthy.data import Chunk, Dataset

pytestmark = pytest.mark.usefixtures("single_threaded")

LABELLED = 100
STUDENT = (4, 8, 8)


@pytest.mark.long
def test_a_taught_student_beats_the_same_student_alone(effort: float) -> None:
    """In full over five seeds, with the 95 % interval of the mean gain (paired t); else one seed, smaller."""
    full = effort == 1
    size, teacher = (900, (16, 24, 32)) if full else (500, (8, 12, 16))
    contract, pool = digits_contract(), digits_data(0, size)
    score = validator(contract, digits_data(1200, 1797))
    assert score is not None
    master = built(teacher)
    settings = Training(epochs=12 if full else 4, lr=3e-3, batch=64, patience=None)
    train(master, default_step(contract), pool, settings, validate=None, checkpoint=None, told=lambda _: None)
    few = pool.chunks[0].rows(0, LABELLED)
    mixed = Dataset((few, Chunk(pool.chunks[0].rows(LABELLED, size).inputs)))
    epochs, gains = 10 if full else 3, []
    print(f"teacher {score(master):.4f}")
    for seed in range(5 if full else 1):
        short = Training(epochs=epochs, lr=3e-3, batch=32, seed=seed, patience=None)
        long = short.model_copy(update={"epochs": epochs * -(-size // 32) // -(-LABELLED // 32)})
        alone = built(STUDENT, seed + 1)
        train(alone, default_step(contract), Dataset((few,)), long, validate=None, checkpoint=None, told=lambda _: None)
        found = distill(
            master, built(STUDENT, seed + 1), contract, Distill(training=short), train=mixed, progress=False
        )
        assert found.model.module is not None
        with_teacher, without = score(found.model.module), score(alone)
        gains.append(with_teacher - without)
        print(f"seed {seed}: alone {without:.4f}, taught {with_teacher:.4f}")
    if full:
        mean, reach = np.mean(gains), float(stats.t.ppf(0.975, 4) * np.std(gains, ddof=1) / 5**0.5)
        print(f"mean gain {mean:.4f}, 95 % interval [{mean - reach:.4f}, {mean + reach:.4f}]")
        assert mean - reach > 0
    assert min(gains) > 0
