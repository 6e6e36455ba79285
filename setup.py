"""The one thing that `pyproject.toml` cannot say without setuptools calling it experimental."""

from setuptools import Extension, setup


def compiled(name: str) -> Extension:
    """Return a module that is left out where there is no compiler: FAISS serves then."""
    return Extension(
        f"vecindex.ann.{name}",
        [f"vecindex/ann/{name}.c"],
        depends=["vecindex/ann/_best.h", "vecindex/ann/_products.h"],
        extra_compile_args=["-O3", "-fno-math-errno"],
        optional=True,
        py_limited_api=True,  # one build for all Pythons from 3.11 on
    )


setup(
    ext_modules=[compiled("_walk"), compiled("_scan"), compiled("_scores")],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
