"""Models in safetensors files: weights by name in Keras's shapes, and the architecture as JSON beside them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastconv.errors import ArgumentTypeError, FastconvError, MissingExtraError, ModelFileError
from fastconv.geometry.arguments import shown
from fastconv.nn import initializers, layers, losses, optimizers
from fastconv.nn.layers import parameters

if TYPE_CHECKING:
    from fastconv.nn.model import Sequential

FORMAT = "fastconv.nn"
VERSION = 1
# Keys of the metadata, all of them strings.
_FORMAT, _VERSION, _MODEL = "format", "format_version", "model"
# What a description that is not ours comes to.
_NO_MODEL = (FastconvError, ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError, RecursionError)


def _safetensors() -> Any:
    try:
        import safetensors
        import safetensors.numpy
    except ImportError as error:
        raise MissingExtraError('safetensors is missing; pip install "fastconv[nn]"') from error
    return safetensors


def save(model: Sequential, path: str | Path) -> None:
    """Write a model's layers and weights; see `Sequential.save`."""
    target = _path("save", path)
    library = _safetensors()
    tensors = {
        f"{layer.name}/{p.name}": p.get("HWIO")
        for layer in model.require_built("save").layers
        for p in layer.parameters
    }
    text = json.dumps(_description(model))
    metadata = {_FORMAT: FORMAT, _VERSION: str(VERSION), _MODEL: text}
    # Under another name until it is whole: what stood there stays if the disk is full.
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    try:
        library.numpy.save_file(tensors, partial, metadata=metadata)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def _description(model: Sequential) -> dict[str, Any]:
    described = [{"class": type(layer).__name__, "config": layer.get_config()} for layer in model.layers]
    compiled: dict[str, Any] | None = None
    if model.loss is not None and model.optimizer is not None:
        both: dict[str, Any] = {"optimizer": model.optimizer, "loss": model.loss}
        compiled = {key: {"class": type(a).__name__, "config": a.get_config()} for key, a in both.items()}
        compiled["metrics"] = model.metric_names
    shape = model.layers[0].input_shape[1:]
    return {"name": model.name, "input_shape": shape, "layers": described, "compiled": compiled}


def load_model(path: str | Path) -> Sequential:
    """Return the model of a file that `Sequential.save` wrote, compiled as it was, with a new state of the optimizer.

    Parameters
    ----------
    path : str or Path

    Raises
    ------
    ModelFileError
        The file is cut short or damaged, of another format or version, or its weights do not fit its layers.
    FileNotFoundError
        There is none.
    MissingExtraError
        safetensors is not installed.
    """
    source = _path("load_model", path)
    tensors, metadata = _read(source, _safetensors())
    if metadata.get(_FORMAT) != FORMAT:
        raise ModelFileError(f"load_model: {source} has the format {metadata.get(_FORMAT)!r}, expected {FORMAT!r}")
    if metadata.get(_VERSION) != str(VERSION):
        version = metadata.get(_VERSION)
        raise ModelFileError(f"load_model: {source} has the format version {version}, this release reads {VERSION}")
    try:
        # Whose sizes are wrong would else be seen after memory was taken for them.
        with parameters.limited(source.stat().st_size):
            model = _described(json.loads(metadata[_MODEL]))
    except _NO_MODEL as error:
        reason = " ".join(str(error).split())
        raise ModelFileError(f"load_model: {source} describes no model of this release: {reason}") from error
    _fill(source, model, tensors)
    return model


def _read(source: Path, library: Any) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the arrays and the metadata of a file."""
    if not source.is_file():
        raise FileNotFoundError(f"load_model: there is no file {source}")
    try:
        with library.safe_open(source, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (library.SafetensorError, ValueError, TypeError, OSError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise ModelFileError(f"load_model: {source} is no whole safetensors file: {reason}") from error


def _described(description: dict[str, Any]) -> Sequential:
    from fastconv.nn.model import Sequential

    model = Sequential([layers.Input(description["input_shape"])], name=description["name"])
    for item in description["layers"]:
        model.add(_made(layers, layers.Layer, item))
    compiled = description["compiled"]
    if compiled is not None:
        optimizer = _made(optimizers, optimizers.Optimizer, compiled["optimizer"])
        model.compile(optimizer, _made(losses, losses.Loss, compiled["loss"]), compiled["metrics"])
    return model


def _made(module: Any, base: type, item: dict[str, Any]) -> Any:
    """Return an object of a class of a module, from what `_description` wrote."""
    kind = getattr(module, item["class"]) if item["class"] in module.__all__ else None
    if not (isinstance(kind, type) and issubclass(kind, base)):
        raise ValueError(f"there is no class {shown(item['class'])}")
    config = {
        name: initializers.from_config(value) if name.endswith("_initializer") else _tuples(value)
        for name, value in item["config"].items()
    }
    return kind(**config)


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _fill(source: Path, model: Sequential, tensors: dict[str, np.ndarray]) -> None:
    """Set the weights of a model from a file's arrays."""
    named = {f"{layer.name}/{p.name}": p for layer in model.layers for p in layer.parameters}
    if named.keys() != tensors.keys():
        missing, more = sorted(named.keys() - tensors.keys()), sorted(tensors.keys() - named.keys())
        raise ModelFileError(f"load_model: {source} lacks the weights {missing} and has {more} too many")
    kept = {}
    for name, parameter in named.items():
        array = tensors[name]
        if array.shape != parameter.shape or array.dtype != parameter.value.dtype:
            found, expected = f"{array.shape} {array.dtype}", f"{parameter.shape} {parameter.value.dtype}"
            raise ModelFileError(f"load_model: {source}: {name} is {found}, expected {expected}")
        kept[name] = parameter.checked(array, "HWIO")
    for name, parameter in named.items():
        parameter.set(kept[name])


def _path(function: str, path: Any) -> Path:
    if not isinstance(path, (str, os.PathLike)):
        raise ArgumentTypeError(f"{function}: path = {shown(path)}, expected a string or a Path")
    return Path(path)
