"""Checkpoints: whole training states in directories that are complete or not there.

checkpoints/<iteration>/ holds state/ (orbax), about.json (counters of the run) and
manifest.json, the SHA-256 of every other file. It is written under another name and renamed
when complete, so that being killed leaves no half checkpoint; one that was damaged later
does not match its manifest and is skipped, with a warning, in favour of the one before.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from taskbelief.runs import Failed, hosts

# orbax reports every step of a save, and prints the traceback of what it then raises anyway
logging.getLogger("absl").setLevel(logging.CRITICAL)


class Checkpoint(NamedTuple):
    state: Any  # the pytree that was saved
    about: dict[str, Any]
    path: Path


def save(run: Path, iteration: int, state: Any, about: dict[str, Any], keep: int) -> Path:
    """Writes checkpoints/<iteration>, then deletes all but the newest `keep`.

    Raises:
      OSError: it could not be written (a full disk); those before it stay.
    """
    folder = (run / "checkpoints").resolve()
    writing, final = folder / f".writing-{iteration}", folder / str(iteration)
    if hosts.first():
        folder.mkdir(exist_ok=True)
        for leftover in folder.glob(".writing-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        writing.mkdir()
    hosts.wait("writing")
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(writing / "state", _arrays(state))
    except Exception as error:  # tensorstore reports a full disk in a ValueError
        shutil.rmtree(writing, ignore_errors=True)
        raise OSError(f"writing a checkpoint failed: {_reason(error)}") from error
    if hosts.first():
        _write(writing / "about.json", json.dumps(about))
        _write(writing / "manifest.json", json.dumps(_digests(writing), indent=1))
        if final.exists():  # damaged, or it would have been resumed from
            shutil.rmtree(final)
        writing.rename(final)
        for old in checkpoints(run)[keep:]:
            shutil.rmtree(old, ignore_errors=True)
    hosts.wait("written")
    return run / "checkpoints" / str(iteration)


def checkpoints(run: Path) -> list[Path]:
    """Complete ones, newest first; they may be damaged."""
    found = [path for path in (run / "checkpoints").glob("*") if path.name.isdigit()]
    return sorted(found, key=lambda path: int(path.name), reverse=True)


def newest_good(
    run: Path, like: Any, within: str = "", warn: Callable[[str], None] = warnings.warn
) -> Checkpoint | None:
    """The newest checkpoint that is whole; None: there is none at all.

    Args:
      run: the run's directory.
      like: the pytree to restore, as shapes and types, with shardings where they matter.
      within: where `like` is in the state that was saved, "0.learner.params."; "": all of it.
      warn: is told of damaged ones.

    Raises:
      Failed: all are damaged, or of another version.
    """
    found = next(good(run, like, within, warn), None)
    if found is None and (num := len(checkpoints(run))):
        raise Failed(f"no good checkpoint in {run / 'checkpoints'}: all {num} are damaged")
    return found


def good(
    run: Path, like: Any, within: str = "", warn: Callable[[str], None] = warnings.warn
) -> Iterator[Checkpoint]:
    """Those that are whole, newest first, each read when it is asked for; warns about others."""
    for path in checkpoints(run):
        damage = _damage(path)
        if damage:
            warn(f"checkpoint {path} is damaged ({damage}): trying the one before")
            continue
        about = json.loads((path / "about.json").read_text())
        yield Checkpoint(_restore(path, like, within), about, path)


def _restore(path: Path, like: Any, within: str) -> Any:
    shapes = jax.eval_shape(_arrays, like)
    target = {}
    for name, leaf in zip(_names(like), jax.tree.leaves(like), strict=True):
        where = leaf.sharding or _here()
        target[within + name] = jax.ShapeDtypeStruct(
            shapes[name].shape, shapes[name].dtype, sharding=where
        )
    try:
        arrays = (_read_part if within else _read)(path.resolve() / "state", target)
    except (ValueError, KeyError) as error:
        raise Failed(f"checkpoint {path} does not fit this version: {_reason(error)}") from error
    leaves, structure = jax.tree.flatten(like)
    restored = [arrays[within + name] for name in _names(like)]
    return structure.unflatten(
        jax.random.wrap_key_data(array) if _is_key(leaf) else array
        for array, leaf in zip(restored, leaves, strict=True)
    )


def _read(state: Path, target: dict[str, Any]) -> dict[str, Any]:
    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(state, target)


def _read_part(state: Path, target: dict[str, Any]) -> dict[str, Any]:
    """Of what was saved, `target` alone."""
    where = ocp.checkpoint_utils.construct_restore_args(target)
    part = ocp.args.PyTreeRestore(item=target, restore_args=where, partial_restore=True)
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        saved = checkpointer.metadata(state).item_metadata.tree
        for name, leaf in target.items():  # orbax would make up what is not there
            if name not in saved or saved[name].shape != leaf.shape:
                raise ValueError(f"it holds no {name} of shape {leaf.shape}")
        return checkpointer.restore(state, args=part)


def _arrays(state: Any) -> dict[str, Any]:
    """{name: array}, random keys as their data."""
    return {
        name: jax.random.key_data(leaf) if _is_key(leaf) else leaf
        for name, leaf in zip(_names(state), jax.tree.leaves(state), strict=True)
    }


def _names(state: Any) -> list[str]:
    paths = jax.tree.flatten_with_path(state)[0]
    return [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in paths]


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _here() -> jax.sharding.Sharding:
    return jax.sharding.SingleDeviceSharding(jax.devices()[0])


def _damage(path: Path) -> str:
    """What is wrong with a checkpoint, "" if nothing."""
    try:
        manifest = json.loads((path / "manifest.json").read_text())
        digests = _digests(path)
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError) as error:
        return f"unreadable: {error}"
    for name, digest in manifest.items():
        if name not in digests:
            return f"{name} is missing"
        if digests[name] != digest:
            return f"{name} has changed"
    return ""


def _digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file under `folder` but the manifest."""
    digests = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != "manifest.json":
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            digests[path.relative_to(folder).as_posix()] = digest
    return digests


def _write(path: Path, text: str) -> None:
    """To the disk itself, not only to its cache."""
    with path.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _reason(error: BaseException) -> str:
    """The first line, of the first sentence that people can use."""
    text = str(error)
    return "no space left on device" if "No space left" in text else text.split("\n")[0][:200]
