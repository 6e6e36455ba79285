"""The one thing that `pyproject.toml` cannot say without setuptools calling it experimental."""

import sysconfig

from setuptools import Extension, setup

# One build for all Pythons from 3.11 on, but for those without a lock: these know no limited API.
LIMITED = not sysconfig.get_config_var("Py_GIL_DISABLED")


def compiled(name: str) -> Extension:
    """Return a module that is left out where there is no compiler: FAISS serves then."""
    return Extension(
        f"vecindex.ann.{name}",
        [f"vecindex/ann/{name}.c"],
        depends=["vecindex/ann/_best.h", "vecindex/ann/_products.h"],
        extra_compile_args=["-O3", "-fno-math-errno"],
        optional=True,
        py_limited_api=LIMITED,
    )


setup(
    ext_modules=[compiled("_walk"), compiled("_scan"), compiled("_scores")],
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if LIMITED else {},
)
