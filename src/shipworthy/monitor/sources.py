"""Where views are looked at from outside: a server that runs, or the place where its monitor remembers."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

from ..errors import MonitorError
from .alarms import Acknowledgement
from .merging import merged
from .options import check_baseline
from .record import view_of_record
from .samples import Sample
from .store import States
from .view import Alarm, View

SECONDS = 30.0
LARGEST = 64_000_000
"""Bytes of an answer that are read."""


class Source(Protocol):
    """Something that can be asked what is watched."""

    def models(self) -> Sequence[str]: ...

    def views(self, model: str) -> list[View]:
        """One for each version, merged over its nodes; empty where nothing of the model is watched."""

    def samples(self, model: str) -> Mapping[str, list[Sample]]:
        """What is kept, by version."""

    def acknowledge(self, model: str, alarm: str, who: str, why: str, new_baseline: int = 0) -> Alarm:
        """The alarm that was; so many of the next rows are the reference from then on. Raises MonitorError where none
        of that id stands."""


class Remembered:
    """What monitors have written into a place; those that run write every ten seconds."""

    def __init__(self, states: States) -> None:
        self._states = states

    def models(self) -> Sequence[str]:
        return self._states.models()

    def views(self, model: str) -> list[View]:
        found = []
        for version in self._states.versions(model):
            each = self._states.views(model, version)
            if each:
                found.append(merged(each, time.time()))
        return found

    def samples(self, model: str) -> Mapping[str, list[Sample]]:
        by_version: dict[str, list[Sample]] = {}
        for version, samples in self._states.samples(model):
            by_version.setdefault(version, []).extend(samples)
        return by_version

    def acknowledge(self, model: str, alarm: str, who: str, why: str, new_baseline: int = 0) -> Alarm:
        view, found = standing(self.views(model), model, alarm)
        if new_baseline:
            check_baseline(new_baseline)
        said = Acknowledgement(alarm, who, why, time.time(), new_baseline)
        self._states.acknowledge(model, view.version, said)
        return found


class Served:
    """A server that runs, asked over HTTP."""

    def __init__(self, url: str, token: str | None = None) -> None:
        """Raises MonitorError where that is no address of HTTP."""
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise MonitorError(url, "is no address of a server", "give one such as http://127.0.0.1:8000")
        self._url = url.rstrip("/")
        self._token = token
        self._opener = urllib.request.build_opener(_NoRedirect)

    def models(self) -> Sequence[str]:
        return [str(model["name"]) for model in self._ask("/models")["models"]]

    def views(self, model: str) -> list[View]:
        path = f"/models/{quote(model, safe='')}/monitor"
        versions = self._ask(path)["versions"]
        try:
            return [view_of_record(version) for version in versions]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            reason = f"does not answer with views: {' '.join(str(error).split())[:200]}"
            raise MonitorError(self._url + path, reason, "use the version of shipworthy that it runs") from None

    def samples(self, model: str) -> Mapping[str, list[Sample]]:
        """None: a server does not hand out what it was asked."""
        return {}

    def acknowledge(self, model: str, alarm: str, who: str, why: str, new_baseline: int = 0) -> Alarm:
        _, found = standing(self.views(model), model, alarm)
        if new_baseline:
            check_baseline(new_baseline)
        said = {"alarm": alarm, "who": who, "why": why, "new_baseline": new_baseline}
        self._ask(f"/models/{quote(model, safe='')}/monitor/acknowledge", json.dumps(said).encode())
        return found

    def _ask(self, path: str, body: bytes | None = None) -> Any:
        request = urllib.request.Request(self._url + path, body)
        if body is not None:
            request.add_header("content-type", "application/json")
        if self._token is not None:
            request.add_unredirected_header("authorization", f"Bearer {self._token}")
        try:
            with self._opener.open(request, timeout=SECONDS) as answer:
                return json.loads(answer.read(LARGEST))
        except urllib.error.HTTPError as error:
            raise MonitorError(self._url + path, _told(error), _remedy(error.code)) from None
        except urllib.error.URLError as error:
            raise MonitorError(self._url, f"does not answer: {error.reason}", "is the server running?") from None
        except (OSError, ValueError) as error:
            raise MonitorError(self._url + path, f"does not answer as it should: {error}", "is it a server?") from None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The token is for the server that was named."""

    def redirect_request(self, *args: Any) -> None:
        return None


def standing(views: Sequence[View], model: str, alarm: str) -> tuple[View, Alarm]:
    """The alarm of that id, with its version's view. Raises MonitorError where it does not stand."""
    found = [(view, one) for view in views for one in view.alarms if one.acknowledged is None]
    for view, one in found:
        if one.id == alarm:
            return view, one
    others = ", ".join(dict.fromkeys(one.id for _, one in found))
    remedy = f"these stand: {others}" if others else "no alarm of this model stands"
    raise MonitorError(f"alarm {alarm}", f"is none of {model} that stands", remedy)


def _told(error: urllib.error.HTTPError) -> str:
    """What a problem document says; else the status alone."""
    try:
        detail = json.loads(error.read(LARGEST)).get("detail")
    except (OSError, ValueError, AttributeError):
        detail = None
    return f"answers {error.code}" + (f": {detail}" if isinstance(detail, str) else "")


def _remedy(status: int) -> str:
    if status in (401, 403):
        return "give the server's token with --token-file"
    return "see what is served: shipworthy monitor status --server URL" if status == 404 else "see the server's log"
