"""How one candidate comes to be: its recipe, the module that the recipe shaped, and what was found on the way."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..evidence import Compression
from ..measure import ModelSource
from ..runtime.protocol import Artifact
from .recipes import FLOATS, PLAIN, Recipe
from .results import Exported, Shaped

UNCHANGED = Recipe(PLAIN, FLOATS)


@dataclass(frozen=True, slots=True)
class Way:
    recipe: Recipe = field(default=UNCHANGED)
    shaped: Shaped | None = None
    """What the recipe's shaping gave; None where it has none."""
    base: Artifact | None = None
    """The same engine's graph that a quantization starts from; its folder bears the key of what it came from."""
    base_report: Compression | None = None
    """What a quantization before this one did."""

    @property
    def key(self) -> list[object]:
        """All that the candidate's results depend on beside the build."""
        if self.recipe == UNCHANGED:
            # Each export of the unchanged model is its own beginning, though it may copy the file of another.
            return []
        parts = (self.recipe.shaping, self.recipe.quantization)
        made = [self.shaped.key if self.shaped is not None else None]
        origin = None if self.base is None else self.base.directory.name
        return [*(None if part is None else part.model_dump(mode="json") for part in parts), *made, origin]

    def source(self, unchanged: ModelSource) -> ModelSource:
        """The model that is exported."""
        shaped = self.shaped
        return unchanged if shaped is None or shaped.source is None else shaped.source


def artifact_of(exported: Exported) -> Artifact:
    assert exported.reply is not None, "only an export that succeeded is taken further"
    return exported.reply.artifact
