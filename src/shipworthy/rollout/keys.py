"""The key with which ids of predictions are sealed: one for a registry, so that every server makes ids that every other
one, and whoever brings labels later, can read."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from sqlalchemy import insert, select

from ..predict.ids import KEY_BYTES
from ..registry.tables import settings

if TYPE_CHECKING:
    from ..registry import Registry

_NAME = "prediction-key"


def prediction_key(registry: Registry) -> bytes:
    """The registry's own, made by whoever asks first. RegistryError where it cannot be read."""
    asked = select(settings.c.value).where(settings.c.key == _NAME)
    with registry.database.read() as connection:
        found = connection.execute(asked).scalar()
    if found is None:
        with registry.database.write() as connection:
            found = connection.execute(asked).scalar()
            if found is None:
                found = secrets.token_hex(KEY_BYTES)
                connection.execute(insert(settings).values(key=_NAME, value=found))
    return bytes.fromhex(found)
