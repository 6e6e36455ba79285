"""How a structure is built (`Spec`) and how one search uses it (`Params`): frozen dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

from vecindex.errors import SpecError


def _check_positive(owner: object, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise SpecError(f"{type(owner).__name__}.{name} must be an int >= 1, not {value!r}")


@dataclass(frozen=True)
class FlatSpec:
    """Exact search over the stored vectors: nothing to build, recall 1."""

    kind: ClassVar[str] = "flat"


@dataclass(frozen=True)
class HnswSpec:
    """A navigable small-world graph over the stored vectors.

    Parameters
    ----------
    m : int
        Links per row and layer (twice as many on the lowest). More: better recall, more memory.
    ef_construction : int
        Candidates kept while linking a row. More: a better graph, a longer build.

    References
    ----------
    Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using
    hierarchical navigable small world graphs", 2018.
    """

    kind: ClassVar[str] = "hnsw"
    m: int = 32
    ef_construction: int = 100

    def __post_init__(self) -> None:
        """Check the values."""
        _check_positive(self, "m", "ef_construction")
        if self.m < 2:
            raise SpecError(f"HnswSpec.m must be >= 2, not {self.m}")


@dataclass(frozen=True)
class IvfSpec:
    """Inverted lists around k-means centroids.

    Parameters
    ----------
    nlist : int or None
        The number of lists; None takes about the square root of the number of rows, times two.
    """

    kind: ClassVar[str] = "ivf"
    nlist: int | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        if self.nlist is not None:
            _check_positive(self, "nlist")


@dataclass(frozen=True)
class AutoSpec:
    """Let vecindex choose the structure."""

    kind: ClassVar[str] = "auto"


Spec = FlatSpec | HnswSpec | IvfSpec | AutoSpec

_SPECS: dict[str, type[FlatSpec] | type[HnswSpec] | type[IvfSpec] | type[AutoSpec]] = {
    cls.kind: cls for cls in (FlatSpec, HnswSpec, IvfSpec, AutoSpec)
}


@dataclass(frozen=True)
class FlatParams:
    """Per-call parameters of `flat`: there are none."""

    kind: ClassVar[str] = "flat"


@dataclass(frozen=True)
class HnswParams:
    """Per-call parameters of `hnsw`.

    Parameters
    ----------
    ef_search : int
        Candidates kept while walking the graph. More: better recall, more time.
    """

    kind: ClassVar[str] = "hnsw"
    ef_search: int = 64

    def __post_init__(self) -> None:
        """Check the values."""
        _check_positive(self, "ef_search")


@dataclass(frozen=True)
class IvfParams:
    """Per-call parameters of `ivf`.

    Parameters
    ----------
    nprobe : int
        Lists visited per query. More: better recall, more time.
    """

    kind: ClassVar[str] = "ivf"
    nprobe: int = 8

    def __post_init__(self) -> None:
        """Check the values."""
        _check_positive(self, "nprobe")


Params = FlatParams | HnswParams | IvfParams

_PARAMS: dict[str, type[FlatParams] | type[HnswParams] | type[IvfParams]] = {
    cls.kind: cls for cls in (FlatParams, HnswParams, IvfParams)
}


def parse_spec(spec: str | Spec) -> Spec:
    """Return the dataclass for a structure's name, or the dataclass itself.

    Parameters
    ----------
    spec : str or Spec
        `"flat"`, `"hnsw"`, `"ivf"`, `"auto"`, or one of the dataclasses of this module.

    Returns
    -------
    Spec
        A frozen dataclass.

    Raises
    ------
    SpecError
        If the structure is unknown.
    """
    if isinstance(spec, FlatSpec | HnswSpec | IvfSpec | AutoSpec):
        return spec
    if isinstance(spec, str) and spec in _SPECS:
        return _SPECS[spec]()
    names = ", ".join(repr(name) for name in _SPECS)
    raise SpecError(f"unknown structure {spec!r}; expected one of {names} or a spec dataclass")


def spec_to_dict(spec: Spec | Params) -> dict[str, Any]:
    """Return a plain dict that `spec_from_dict` or `params_from_dict` reads back."""
    return {"kind": spec.kind, **asdict(spec)}


def spec_from_dict(data: Mapping[str, Any]) -> Spec:
    """Return the spec that `spec_to_dict` wrote, unknown keys being an error."""
    values = dict(data)
    kind = values.pop("kind", None)
    if kind not in _SPECS:
        raise SpecError(f"unknown structure {kind!r}")
    spec: Spec = _checked(_SPECS[kind], values)
    return spec


def params_from_dict(kind: str, values: Mapping[str, Any]) -> Params:
    """Return the per-call parameters of the structure `kind`.

    Parameters
    ----------
    kind : str
        `"flat"`, `"hnsw"` or `"ivf"`.
    values : mapping
        Parameter names and values, as in `{"ef_search": 64}`; a `"kind"` entry is allowed.

    Returns
    -------
    Params
        A frozen dataclass.

    Raises
    ------
    SpecError
        If the structure has no such parameter, or the value is out of range.
    """
    values = {name: value for name, value in values.items() if name != "kind"}
    params: Params = _checked(_PARAMS[kind], values)
    return params


def _checked(cls: type[Any], values: dict[str, Any]) -> Any:
    known = [f.name for f in fields(cls)]
    for name in values:
        if name not in known:
            have = ", ".join(known) or "none"
            raise SpecError(f"{cls.kind} has no parameter {name!r}; it has: {have}")
    return cls(**values)
