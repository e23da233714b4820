"""The proof that padding changes no answer, on the golden cases of a package."""

from __future__ import annotations

from ..contract import Array, Arrays
from ..encode import Padding
from ..errors import GoldenMismatch
from ..package import Golden, Variant, replay
from ..runtime.protocol import Kernel, Runner


def prove_padding(runner: Runner, variant: Variant, golden: Golden, padding: Padding) -> None:
    """Replay each golden case padded to the next rung, where its sizes are not the largest ones already.

    Raises GoldenMismatch where an answer is then further from eager's than the variant's tolerance."""
    cases = tuple(case for case in golden.cases if padding.grown(case.inputs) is not None)
    try:
        replay(_Padded(runner, padding), variant, Golden(cases))
    except GoldenMismatch as error:
        raise GoldenMismatch(
            error.culprit,
            f"padded as the contract says (inputs.*.pad), {error.reason}",
            "the model reads its padding: remove pad from the contract, or mask it in the model; then build it again",
        ) from error


class _Padded:
    """A runner whose feeds are padded on the way in, and whose outputs are cut on the way out."""

    def __init__(self, runner: Runner, padding: Padding) -> None:
        self.signature = runner.signature
        self._runner, self._padding = runner, padding

    def run(self, feeds: Arrays) -> dict[str, Array]:
        larger = self._padding.grown(feeds)
        assert larger is not None, "cases at their largest sizes are left out"
        return self._padding.unpad(self._runner.run(larger), feeds)

    def kernels(self) -> tuple[Kernel, ...]:
        return self._runner.kernels()

    def close(self) -> None:
        self._runner.close()
