"""What monitors remember, in a folder or a bucket: for each model, version and node a state, a view and samples, and
for each version what was acknowledged.

    <place>/<model>/<version>/<node>/state, view.json, samples
    <place>/<model>/<version>/acknowledged/<alarm>.json

Each file is whole or not there. A folder can be looked into by its user alone: it may hold what was asked."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from urllib.parse import quote, unquote

from ..errors import MonitorError
from .alarms import Acknowledgement, answered
from .files import Files
from .options import check_baseline
from .record import text_of, view_of_text
from .samples import Sample
from .samples_file import Kept, read_samples
from .view import View

STATE, VIEW, SAMPLES, ACKNOWLEDGED = "state", "view.json", "samples", "acknowledged"
_LONGEST_NAME = 200


def part_of(name: str) -> str:
    """A name as one part of a path: nothing in it leads elsewhere, and no two names become one. Raises MonitorError
    for a name that is empty or too long."""
    part = quote(name, safe="")
    part = part.replace(".", "%2E") if part.startswith(".") else part
    if not part or len(part) > _LONGEST_NAME or part == ACKNOWLEDGED:
        raise MonitorError(
            repr(name[:80]), "cannot be the name of a state", "give a shorter name of letters and digits"
        )
    return part


class States:
    """A place: a folder, or what fsspec knows by a URL. May be used by several processes; of a node one writes."""

    def __init__(self, place: str | Path) -> None:
        """Nothing is opened before the first use. Raises MonitorError where no place can be called that."""
        self._files = Files(str(place))
        self.place = self._files.place
        # Nodes that have gone stay, and what they have said is not read again and again.
        self._views: dict[str, tuple[str, View]] = {}
        self._said: dict[str, Acknowledgement] = {}

    def models(self) -> list[str]:
        return [unquote(name) for name in self._files.folders("")]

    def versions(self, model: str) -> list[str]:
        return [unquote(name) for name in self._files.folders(part_of(model))]

    def nodes(self, model: str, version: str) -> list[str]:
        folders = self._files.folders(_path(model, version))
        return [unquote(name) for name in folders if name != ACKNOWLEDGED]

    def write(
        self,
        model: str,
        version: str,
        node: str,
        *,
        state: bytes | None = None,
        view: View | None = None,
        samples: bytes | None = None,
    ) -> None:
        """What is given, each file whole. Empty samples remove those that were kept."""
        folder = _path(model, version, node)
        if samples is not None:
            if samples:
                self._files.put(f"{folder}/{SAMPLES}", samples)
            else:
                self._files.remove(f"{folder}/{SAMPLES}")
        if view is not None:
            self._files.put(f"{folder}/{VIEW}", text_of(view))
        if state is not None:
            self._files.put(f"{folder}/{STATE}", state)

    def state(self, model: str, version: str, node: str) -> bytes | None:
        """None where there is none."""
        return self._files.get(f"{_path(model, version, node)}/{STATE}")

    def view(self, model: str, version: str, node: str) -> View | None:
        """None where there is none. Raises MonitorError where it is damaged."""
        path = f"{_path(model, version, node)}/{VIEW}"
        stamp = self._files.stamp(path)
        if stamp and path in self._views and self._views[path][0] == stamp:
            return self._views[path][1]
        self._views.pop(path, None)
        text = None if stamp is None else self._files.get(path)
        if text is None:
            return None
        view = view_of_text(text, self._files.shown(path))
        self._views[path] = stamp or "", view
        return view

    def views(self, model: str, version: str | None = None, *, without: str | None = None) -> list[View]:
        """Of all nodes, or all `without` one, of one version or of all, with what was acknowledged since they were
        written, perhaps of a node that runs no more. Raises MonitorError where one is damaged."""
        found = []
        for each in self.versions(model) if version is None else [version]:
            said = self.acknowledgements(model, each)
            views = [self.view(model, each, node) for node in self.nodes(model, each) if node != without]
            found += [replace(view, alarms=answered(view.alarms, said)) for view in views if view is not None]
        return found

    def sample_bytes(self, model: str, version: str, node: str) -> bytes | None:
        """None where nothing is kept."""
        return self._files.get(f"{_path(model, version, node)}/{SAMPLES}")

    def kept(self, model: str, version: str | None = None) -> list[tuple[str, Kept]]:
        """The samples of all nodes, with their version, the newest last. Raises MonitorError where a file is
        damaged."""
        found = []
        versions = sorted(self.versions(model), key=_age) if version is None else [version]
        for each in versions:
            for node in self.nodes(model, each):
                data = self.sample_bytes(model, each, node)
                if data is not None:
                    found.append((each, read_samples(data, self._files.shown(f"{_path(model, each, node)}/{SAMPLES}"))))
        return found

    def samples(self, model: str, version: str | None = None) -> list[tuple[str, list[Sample]]]:
        """The same without what the files say beside."""
        return [(each, kept.samples) for each, kept in self.kept(model, version)]

    def acknowledge(self, model: str, version: str, said: Acknowledgement) -> None:
        """Every node learns of it when it looks next."""
        path = f"{_path(model, version)}/{ACKNOWLEDGED}/{part_of(said.alarm)}.json"
        self._files.put(path, json.dumps(asdict(said)).encode())

    def acknowledgements(self, model: str, version: str) -> list[Acknowledgement]:
        """Raises MonitorError where one is damaged."""
        folder = f"{_path(model, version)}/{ACKNOWLEDGED}"
        paths = self._files.files(folder)
        for path in paths:
            # Each is written once; that which came first counts.
            if path not in self._said and (text := self._files.get(path)) is not None:
                self._said[path] = _acknowledgement(text, self._files.shown(path))
        found = [self._said[path] for path in paths if path in self._said]
        return sorted(found, key=lambda said: (said.at, said.alarm))

    def forget(self, model: str, version: str, node: str | None = None) -> None:
        """Remove all that is remembered of a version, or of one node of it."""
        folder = _path(model, version) if node is None else _path(model, version, node)
        self._files.remove_all(folder)


def _path(*names: str) -> str:
    return "/".join(map(part_of, names))


def _age(version: str) -> tuple[bool, int, str]:
    """Numbers of a registry in their order, behind the digests of files."""
    return (version.isdecimal(), int(version) if version.isdecimal() else 0, version)


def _acknowledgement(text: bytes, where: str) -> Acknowledgement:
    try:
        record = json.loads(text)
        new_baseline = int(record.get("new_baseline", 0))
        if new_baseline:
            check_baseline(new_baseline)
        who, why, at = str(record["who"]), str(record["why"]), float(record["at"])
        if not math.isfinite(at):
            raise ValueError("it was at no time")
        return Acknowledgement(str(record["alarm"]), who, why, at, new_baseline)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError, MonitorError):
        raise MonitorError(where, "is no acknowledgement", "remove it, and acknowledge the alarm again") from None
