"""Checkpoints: whole training states, in directories that are complete or absent.

checkpoints/<iteration>/ holds state/ (orbax), about.json (counters of the run) and
manifest.json, the SHA-256 of every other file. It is written under another name and renamed
when complete, so that a killed process leaves no incomplete checkpoint. A damaged checkpoint does
not match its manifest; it is skipped with a warning, and the previous one is used.
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

# orbax logs every step of a save, and the traceback of each exception that it raises
logging.getLogger("absl").setLevel(logging.CRITICAL)


class Checkpoint(NamedTuple):
    state: Any  # the pytree that was saved
    about: dict[str, Any]
    path: Path


def save(run: Path, iteration: int, state: Any, about: dict[str, Any], keep: int) -> Path:
    """Writes checkpoints/<iteration>, then deletes all but the newest `keep`.

    Raises:
      OSError: it cannot be written (a full disk); earlier checkpoints remain.
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
        if final.exists():  # damaged; otherwise the run would have continued from it
            shutil.rmtree(final)
        writing.rename(final)
        for old in checkpoints(run)[keep:]:
            shutil.rmtree(old, ignore_errors=True)
    hosts.wait("written")
    return run / "checkpoints" / str(iteration)


def checkpoints(run: Path) -> list[Path]:
    """Returns complete checkpoints, newest first; they may be damaged."""
    found = [path for path in (run / "checkpoints").glob("*") if path.name.isdigit()]
    return sorted(found, key=lambda path: int(path.name), reverse=True)


def newest_good(
    run: Path, like: Any, within: str = "", warn: Callable[[str], None] = warnings.warn
) -> Checkpoint | None:
    """Returns the newest good checkpoint; None: there are no checkpoints.

    Args:
      run: the run's directory.
      like: the pytree to restore, as shapes and types, with shardings where necessary.
      within: path of `like` in the saved state, such as "0.learner.params."; "": the whole state.
      warn: called for each damaged checkpoint.

    Raises:
      Failed: all checkpoints are damaged or of another version.
    """
    found = next(good(run, like, within, warn), None)
    if found is None and (num := len(checkpoints(run))):
        raise Failed(f"no good checkpoint in {run / 'checkpoints'}: all {num} are damaged")
    return found


def good(
    run: Path, like: Any, within: str = "", warn: Callable[[str], None] = warnings.warn
) -> Iterator[Checkpoint]:
    """Yields good checkpoints, newest first, and reads each on demand; warns about the others."""
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
    """Restores `target` only, a part of the saved state."""
    where = ocp.checkpoint_utils.construct_restore_args(target)
    part = ocp.args.PyTreeRestore(item=target, restore_args=where, partial_restore=True)
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        saved = checkpointer.metadata(state).item_metadata.tree
        for name, leaf in target.items():  # orbax would fill in missing leaves
            if name not in saved or saved[name].shape != leaf.shape:
                raise ValueError(f"it holds no {name} of shape {leaf.shape}")
        return checkpointer.restore(state, args=part)


def _arrays(state: Any) -> dict[str, Any]:
    """Returns {name: array}, with random keys as their data."""
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
    """Returns the fault of a checkpoint; "": none."""
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
    """Returns the SHA-256 of every file under `folder` except the manifest."""
    digests = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != "manifest.json":
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            digests[path.relative_to(folder).as_posix()] = digest
    return digests


def _write(path: Path, text: str) -> None:
    """Flushes a file to the disk itself, beyond its cache."""
    with path.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _reason(error: BaseException) -> str:
    """Returns the first informative line of an error."""
    text = str(error)
    return "no space left on device" if "No space left" in text else text.split("\n")[0][:200]
