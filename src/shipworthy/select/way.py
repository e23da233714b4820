"""How one candidate comes to be: its recipe, the module that the recipe shaped, and what was found on the way."""

from __future__ import annotations

from dataclasses import dataclass, field

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
    """The same engine's graph in fp32, which a quantization starts from."""

    @property
    def key(self) -> list[object]:
        """All that the candidate's results depend on beside the build."""
        if self.recipe == UNCHANGED:
            return []
        parts = (self.recipe.shaping, self.recipe.quantization)
        made = [self.shaped.key if self.shaped is not None else None]
        return [*(None if part is None else part.model_dump(mode="json") for part in parts), *made]

    def source(self, unchanged: ModelSource) -> ModelSource:
        """The model that is exported."""
        shaped = self.shaped
        return unchanged if shaped is None or shaped.source is None else shaped.source


def artifact_of(exported: Exported) -> Artifact:
    assert exported.reply is not None, "only an export that succeeded is taken further"
    return exported.reply.artifact
