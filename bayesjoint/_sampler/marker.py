"""What makes a folder a store of ours: a marker that says what it must hold, whole or not at all.

The marker lies in the attributes of the root and is replaced in one step, so that writing it is
what makes draws count.  It names every group and array with a digest of its description; the values
have checksums of their own.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from bayesjoint._sampler.plain import from_json, to_json

KEY, FORMAT, FILE = "bayesjoint", 1, "zarr.json"
DESCRIBED = ("shape", "data_type", "chunk_grid", "chunk_key_encoding", "attributes")
CURE = "restore the folder from a copy, or sample anew into another store"


@dataclass(frozen=True)
class Group:
    """What a group must hold.

    Attributes
    ----------
    digest : str
        Of its attributes.
    arrays : dict
        Digest of the description of each array.
    grows : str
        The dim along which it grows; empty where it does not.
    step : int
        Every how many draws it has one.
    """

    digest: str
    arrays: dict[str, str]
    grows: str = ""
    step: int = 1


@dataclass(frozen=True)
class Marker:
    """State of a store.

    Attributes
    ----------
    draws, checkpoints : int
        What is recorded of each chain.
    seconds : float
        Sampling time until then.
    finished : int
        Draws that were asked for and made; 0 while the run is not finished.
    told : dict
        Attributes of the posterior that are known of these draws.
    labels : dict
        Attributes of the tree.
    groups : dict of Group
    """

    draws: int = 0
    checkpoints: int = 0
    seconds: float = 0.0
    finished: int = 0
    told: dict[str, Any] = field(default_factory=dict)
    labels: dict[str, Any] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)

    def rows(self, name: str) -> int:
        """Return how many entries a group has along the dim in which it grows."""
        group = self.groups[name]
        return self.checkpoints if group.grows == "checkpoint" else -(-self.draws // group.step)

    def with_group(self, name: str, group: Group) -> "Marker":
        """Return the marker with one more group."""
        return replace(self, groups={**self.groups, name: group})


def damaged(path: Path, what: str) -> ValueError:
    """Return the error of a store that is not as it was written."""
    return ValueError(f"store {str(path)!r} is damaged: {what}; {CURE}")


def read(path: Path) -> Marker | None:
    """Return the marker of a store; None where there is none: another's folder, or nothing.

    Raises
    ------
    ValueError
        When it is not as it was written.
    """
    try:
        attributes = json.loads((path / FILE).read_bytes())["attributes"]
        told = attributes.pop(KEY)
    except (FileNotFoundError, NotADirectoryError):
        _require_another(path, "its 'zarr.json' is missing")
        return None
    except (ValueError, KeyError, TypeError, AttributeError):
        _require_another(path, "its 'zarr.json' has no readable marker")
        return None
    if not isinstance(told, dict) or told.pop("digest", None) != _digest([told, attributes]):
        raise damaged(path, "its 'zarr.json' has changed")
    if told.pop("format") != FORMAT:
        raise ValueError(
            f"store {str(path)!r} was written by bayesjoint {told['version']}, in another format; "
            "read it with that version"
        )
    del told["version"]
    told = from_json(told)
    groups = {name: Group(**group) for name, group in told.pop("groups").items()}
    return Marker(**told, groups=groups, labels=from_json(attributes))


def _require_another(path: Path, what: str) -> None:
    """Raise where a folder holds what only a store of ours does."""
    if all((path / name / FILE).exists() for name in ("sampler", "checkpoints", "posterior")):
        raise damaged(path, what)


def write(path: Path, marker: Marker) -> None:
    """Put a marker in the place of another, in one step."""
    from bayesjoint import __version__

    told = to_json(asdict(replace(marker, labels={})))
    del told["labels"]
    told |= {"format": FORMAT, "version": __version__}
    labels = to_json(marker.labels)
    told["digest"] = _digest([told, labels])
    document = {"attributes": {**labels, KEY: told}, "zarr_format": 3, "node_type": "group"}
    new = path / f"{FILE}.{os.getpid()}.partial"
    with open(new, "w", encoding="utf-8") as file:
        json.dump(document, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path / FILE)


def description(path: Path, group: str, names: Iterable[str], grows: str) -> Group:
    """Return what a group must hold, from what has been written of the arrays of these names."""
    arrays = {name: digest_of_array(path, group, name, grows) for name in names}
    return Group(digest_of_group(path, group), arrays, grows)


def digest_of_group(path: Path, group: str) -> str:
    """Return the digest of the attributes of a group."""
    return _digest(_document(path, group, f"group {group!r}")["attributes"])


def digest_of_array(path: Path, group: str, name: str, grows: str) -> str:
    """Return the digest of the description of an array, less its length where it grows."""
    what = f"group {group!r}, array {name!r}"
    document = _document(path, f"{group}/{name}", what)
    try:
        dims = document.get("dimension_names") or []
        told = {key: document[key] for key in DESCRIBED} | {"dims": dims}
        sizes = zip(dims, told["shape"], strict=True)
        told["shape"] = [None if dim == grows else size for dim, size in sizes]
    except (KeyError, TypeError, ValueError):
        raise damaged(path, f"{what}: its 'zarr.json' has changed") from None
    return _digest(told)


def _document(path: Path, node: str, what: str) -> dict[str, Any]:
    try:
        document = json.loads((path / node / FILE).read_bytes())
        return {"attributes": {}} | document
    except (FileNotFoundError, NotADirectoryError):
        raise damaged(path, f"{what} is missing") from None
    except (ValueError, TypeError):
        raise damaged(path, f"{what}: its 'zarr.json' cannot be read") from None


def _digest(told: Any) -> str:
    text = json.dumps(told, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
