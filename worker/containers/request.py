"""A spec as the engine's create request. All that is not asked for is as narrow as containers get."""

from __future__ import annotations

import math
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from worker.containers.policy import Policy
from worker.context import Call
from worker.spec import about, bad, environment, text, trace

KEYS = (
    "image", "command", "environment", "workdir", "user", "memory", "cpus", "network", "pull",
    "mounts", "capabilities", "writable", "privileged",
)  # fmt: skip
PULLS = ("missing", "always", "never")
PIDS = 2048  # processes and threads of a container: a fork bomb stays inside
TMP = "rw,nosuid,nodev,exec,mode=1777,size=256m"  # counted as the container's memory
SECRET = 6  # characters: shorter values of an environment are words that an error text may well have
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./:@-]{0,511}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,254}")
_SIZE = re.compile(r"(\d{1,15})([bkmg]?)b?", re.IGNORECASE)
_UNITS = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30}


@dataclass(frozen=True, slots=True)
class Request:
    image: str
    pull: str
    body: dict[str, Any]
    secrets: tuple[str, ...] = field(repr=False)

    def masked(self, said: str) -> str:
        """What an engine said, without the values of the environment that it may have quoted."""
        for secret in self.secrets:
            said = said.replace(secret, "***")
        return said


def requested(call: Call, policy: Policy, labels: Mapping[str, str]) -> Request:
    """ExecutionFailed, not to be retried, for a spec that makes no container or asks for what is not allowed."""
    spec = call.spec
    if strangers := [key for key in spec if key not in KEYS]:
        raise bad(f"a container has {', '.join(KEYS)}", strangers[0])
    image = spec.get("image")
    if not isinstance(image, str) or not _IMAGE.fullmatch(image):
        raise bad('"image" must be the name of an image', image)
    policy.admit_image(image)
    pull = spec.get("pull") or "missing"
    if pull not in PULLS:
        raise bad(f'"pull" must be one of {", ".join(PULLS)}', pull)
    added = environment(spec.get("environment"))
    body: dict[str, Any] = {
        "Image": image,
        "Env": [f"{name}={value}" for name, value in {**trace(call), **added, **about(call)}.items()],
        "Labels": dict(labels),
        "AttachStdout": True,
        "AttachStderr": True,
        **_command(spec.get("command")),
        **_process(spec),
        "HostConfig": _host(spec, policy),
    }
    longest_first = sorted((value for value in added.values() if len(value) >= SECRET), key=len, reverse=True)
    return Request(image, pull, body, tuple(longest_first))


def _command(command: Any) -> dict[str, Any]:
    """An array is the image's command, which its entrypoint gets; a string is for the image's shell."""
    if command is None:
        return {}
    if isinstance(command, str) and command.strip():
        made: dict[str, Any] = {"Entrypoint": ["/bin/sh", "-c"], "Cmd": [command]}
    elif isinstance(command, list) and command and all(isinstance(word, str) for word in command):
        made = {"Cmd": command}
    else:
        raise bad('"command" must be a string, or an array of strings', command)
    if any("\0" in word for word in made["Cmd"]):
        raise bad('"command" must not contain a NUL character', command)
    return made


def _process(spec: Mapping[str, Any]) -> dict[str, Any]:
    made = {}
    if workdir := text(spec, "workdir"):
        made["WorkingDir"] = _path(workdir, "workdir")
    user = spec.get("user")
    if type(user) is int:
        user = str(user)
    if user is not None:
        if not isinstance(user, str) or not _NAME.fullmatch(user):
            raise bad('"user" must be a name or a number, or two with a colon between', user)
        made["User"] = user
    return made


def _host(spec: Mapping[str, Any], policy: Policy) -> dict[str, Any]:
    host: dict[str, Any] = {
        # An init process passes signals on, which a shell as the first process does not, and buries orphans.
        "Init": True,
        # The engine would keep all output in a file of its own besides, without a bound.
        "LogConfig": {"Type": "none"},
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "ReadonlyRootfs": True,
        "Tmpfs": {"/tmp": TMP},  # noqa: S108  inside the container
        "PidsLimit": PIDS,
    }
    if _flag(spec, "writable", policy):
        del host["ReadonlyRootfs"], host["Tmpfs"]
    if _flag(spec, "privileged", policy):
        del host["CapDrop"]
        host["Privileged"] = True
    if capabilities := _capabilities(spec.get("capabilities"), policy):
        host["CapAdd"] = capabilities
    if spec.get("memory") is not None:
        host["Memory"] = host["MemorySwap"] = _bytes(spec["memory"])  # both: no swap on top of it
    if spec.get("cpus") is not None:
        host["NanoCpus"] = _nanos(spec["cpus"])
    network = text(spec, "network")
    if network is not None:
        if not _NAME.fullmatch(network):
            raise bad('"network" must be the name of a network', network)
        policy.admit_network(network)
        host["NetworkMode"] = network
    if mounts := _mounts(spec.get("mounts"), policy):
        host["Mounts"] = mounts
    return host


def _flag(spec: Mapping[str, Any], key: str, policy: Policy) -> bool:
    value = spec.get(key)
    if value is not None and not isinstance(value, bool):
        raise bad(f'"{key}" must be true or false', value)
    if value:
        policy.admit(key)
    return bool(value)


def _capabilities(given: Any, policy: Policy) -> list[str]:
    if given is not None and not (isinstance(given, list) and all(isinstance(name, str) for name in given)):
        raise bad('"capabilities" must be an array of names', given)
    names = [name.upper().removeprefix("CAP_") for name in given or ()]
    for name in names:
        policy.admit(f"capability:{name}")
    return names


def _mounts(given: Any, policy: Policy) -> list[dict[str, Any]]:
    if given is not None and not (isinstance(given, list) and all(isinstance(mount, str) for mount in given)):
        raise bad('"mounts" must be an array of "SOURCE:TARGET" or "SOURCE:TARGET:ro"', given)
    return [_mount(mount, policy) for mount in given or ()]


def _mount(given: str, policy: Policy) -> dict[str, Any]:
    source, target, mode = [*given.split(":"), "rw"][:3] if 1 <= given.count(":") <= 2 else ("", "", "")  # noqa: PLR2004
    if mode not in ("rw", "ro") or not (source.startswith("/") or _NAME.fullmatch(source)):
        raise bad('a mount must be "SOURCE:TARGET" or "SOURCE:TARGET:ro"', given)
    is_path = source.startswith("/")
    if is_path:
        _path(source, "mounts")
    policy.admit_mount(source, read_only=mode == "ro")
    return {
        "Type": "bind" if is_path else "volume",
        "Source": source,
        "Target": _path(target, "mounts"),
        "ReadOnly": mode == "ro",
    }


def _path(given: str, key: str) -> str:
    """Absolute, and the shortest way to write it, so that what is compared is what is meant."""
    if not given.startswith("/") or posixpath.normpath(given) != given or not given.isprintable():
        raise bad(f'a path in "{key}" must be absolute, without "..", "." and a slash at its end', given)
    return given


def _bytes(given: Any) -> int:
    found = _SIZE.fullmatch(given) if isinstance(given, str) else None
    size = int(found[1]) * _UNITS[found[2].lower()] if found else given
    if type(size) is not int or not 0 < size < 2**63:
        raise bad('"memory" must be a size such as "256m"', given)
    return size


def _nanos(given: Any) -> int:
    if isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given):
        raise bad('"cpus" must be a number such as 0.5', given)
    nanos = round(given * 1e9)
    if not 0 < nanos < 2**63:
        raise bad('"cpus" must be a number such as 0.5', given)
    return nanos
