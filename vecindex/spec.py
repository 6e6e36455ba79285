"""How a structure is built (`Spec`) and how one search uses it (`Params`): frozen dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

from vecindex.errors import SpecError

CODES = ("float32", "bf16", "sq8", "sq4", "pq4")
"""How a structure holds rows: as they are; 2 bytes, 1 byte or 4 bits a dimension; 4 bits for each
four."""


def _check_positive(owner: object, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise SpecError(f"{type(owner).__name__}.{name} must be an int >= 1, not {value!r}")


def _check_codes(owner: Spec, *known: str) -> None:
    codes = getattr(owner, "codes", None)
    if codes not in known:
        raise SpecError(f"{owner.kind} has codes {', '.join(known)}, not {codes!r}")


@dataclass(frozen=True)
class FlatSpec:
    """A scan of all rows.

    Parameters
    ----------
    codes : str
        `"float32"`: exact, nothing to build, recall 1. `"pq4"`: a fast scan over product
        quantization codes of 4 bits, an eighth of a byte a dimension, whose candidates are scored
        again from the stored vectors. `"bf16"`, `"sq8"`: a scan over 2 bytes or 1 byte a dimension.

    References
    ----------
    Jégou, Douze and Schmid, "Product quantization for nearest neighbor search", 2011.
    André, Kermarrec and Le Scouarnec, "Quicker ADC: unlocking the hidden potential of product
    quantization with SIMD", 2019.
    """

    kind: ClassVar[str] = "flat"
    codes: str = "float32"

    def __post_init__(self) -> None:
        """Check the value."""
        _check_codes(self, "float32", "bf16", "sq8", "pq4")


@dataclass(frozen=True)
class HnswSpec:
    """A navigable small-world graph over the stored vectors.

    Parameters
    ----------
    m : int
        Links per row and layer (twice as many on the lowest). More: better recall, more memory.
    ef_construction : int
        Candidates kept while linking a row. More: a better graph, a longer build.
    codes : str
        What the walk measures distances with: `"float32"`, the stored vectors themselves;
        `"bf16"`, `"sq8"` or `"sq4"`, codes of the graph's own, of 16, 8 or 4 bits a dimension,
        whose candidates are scored again.

    References
    ----------
    Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using
    hierarchical navigable small world graphs", 2018.
    """

    kind: ClassVar[str] = "hnsw"
    m: int = 32
    ef_construction: int = 150
    codes: str = "float32"

    def __post_init__(self) -> None:
        """Check the values."""
        _check_positive(self, "m", "ef_construction")
        _check_codes(self, "float32", "bf16", "sq8", "sq4")
        if self.m < 2:
            raise SpecError(f"HnswSpec.m must be >= 2, not {self.m}")


@dataclass(frozen=True)
class IvfSpec:
    """Inverted lists around k-means centroids.

    Parameters
    ----------
    nlist : int or None
        The number of lists; None lets the number of rows decide.
    codes : str
        `"float32"`: lists of row numbers, the stored vectors are scored. `"bf16"`, `"sq8"`: lists
        of codes. `"pq4"`: lists of 4-bit codes in which each row stands twice, and beside them the
        codes of all rows for a scan; see `vecindex.ann.ivf_pq`.
    """

    kind: ClassVar[str] = "ivf"
    nlist: int | None = None
    codes: str = "float32"

    def __post_init__(self) -> None:
        """Check the values."""
        _check_codes(self, "float32", "bf16", "sq8", "pq4")
        if self.nlist is not None:
            _check_positive(self, "nlist")


@dataclass(frozen=True)
class AutoSpec:
    """Let vecindex choose the structure by measuring the few that can fit."""

    kind: ClassVar[str] = "auto"


@dataclass(frozen=True)
class OptimizeBudget:
    """What `auto` may spend on a structure.

    Parameters
    ----------
    build_s : float
        Seconds of building, measured or predicted, for each structure that is tried.
    memory_bytes : int or None
        Bytes of the structure in memory, without the stored vectors; None for no limit.
    """

    build_s: float = 120.0
    memory_bytes: int | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        if isinstance(self.build_s, bool) or not isinstance(self.build_s, int | float):
            raise SpecError(f"OptimizeBudget.build_s must be a number, not {self.build_s!r}")
        if not self.build_s > 0:
            raise SpecError(f"OptimizeBudget.build_s must be above 0, not {self.build_s!r}")
        if self.memory_bytes is not None:
            _check_positive(self, "memory_bytes")


StructureSpec = FlatSpec | HnswSpec | IvfSpec
Spec = StructureSpec | AutoSpec

_SPECS: dict[str, type[FlatSpec] | type[HnswSpec] | type[IvfSpec] | type[AutoSpec]] = {
    cls.kind: cls for cls in (FlatSpec, HnswSpec, IvfSpec, AutoSpec)
}


@dataclass(frozen=True)
class FlatParams:
    """Per-call parameters of `flat`.

    Parameters
    ----------
    rescore : int or None
        Candidates that are scored again from the stored vectors, as a multiple of `k`. More:
        better recall, more time. None takes what suits the codes. Without codes it has no effect.
    """

    kind: ClassVar[str] = "flat"
    rescore: int | None = None

    def __post_init__(self) -> None:
        """Check the value."""
        _check_rescore(self)


@dataclass(frozen=True)
class HnswParams:
    """Per-call parameters of `hnsw`.

    Parameters
    ----------
    ef_search : int
        Candidates kept while walking the graph. More: better recall, more time.
    rescore : int or None
        As for `flat`.
    """

    kind: ClassVar[str] = "hnsw"
    ef_search: int = 64
    rescore: int | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        _check_positive(self, "ef_search")
        _check_rescore(self)


@dataclass(frozen=True)
class IvfParams:
    """Per-call parameters of `ivf`.

    Parameters
    ----------
    nprobe : int
        Lists visited per query. More: better recall, more time.
    rescore : int or None
        As for `flat`.
    """

    kind: ClassVar[str] = "ivf"
    nprobe: int = 8
    rescore: int | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        _check_positive(self, "nprobe")
        _check_rescore(self)


def _check_rescore(params: Params) -> None:
    if params.rescore is not None:
        _check_positive(params, "rescore")


Params = FlatParams | HnswParams | IvfParams

_PARAMS: dict[str, type[FlatParams] | type[HnswParams] | type[IvfParams]] = {
    cls.kind: cls for cls in (FlatParams, HnswParams, IvfParams)
}


def parse_spec(spec: str | Spec) -> Spec:
    """Return the dataclass for a structure's name, or the dataclass itself.

    Parameters
    ----------
    spec : str or Spec
        `"flat"`, `"hnsw"`, `"ivf"` or `"auto"`; with codes as in `"flat/pq4"`; or one of the
        dataclasses of this module.

    Returns
    -------
    Spec
        A frozen dataclass.

    Raises
    ------
    SpecError
        If the structure or the codes are unknown, or the structure has no such codes.
    """
    if isinstance(spec, FlatSpec | HnswSpec | IvfSpec | AutoSpec):
        return spec
    kind, slash, codes = spec.partition("/") if isinstance(spec, str) else (None, "", "")
    if kind in _SPECS and not slash:
        return _SPECS[kind]()
    if kind in _SPECS and kind != AutoSpec.kind:
        coded: Spec = _checked(_SPECS[kind], {"codes": codes})
        return coded
    names = ", ".join(repr(name) for name in _SPECS)
    raise SpecError(
        f"unknown structure {spec!r}; expected one of {names}, with codes as in 'flat/pq4', "
        "or a spec dataclass"
    )


def spec_name(spec: Spec) -> str:
    """Return the short name that `parse_spec` reads, as in `"ivf/pq4"`."""
    codes = getattr(spec, "codes", "float32")
    return spec.kind if codes == "float32" else f"{spec.kind}/{codes}"


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


def structure_spec(data: Mapping[str, Any]) -> StructureSpec:
    """Return the spec that `spec_to_dict` wrote, which says what to build: `auto` is an error."""
    spec = spec_from_dict(data)
    if isinstance(spec, AutoSpec):
        raise SpecError("auto is no structure")
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
