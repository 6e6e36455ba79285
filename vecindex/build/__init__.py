"""From sources to an index, resumable and incremental."""

from vecindex.build.build import build
from vecindex.build.options import BuildOptions
from vecindex.build.plan import BuildPlan, plan_build
from vecindex.build.report import BuildReport

__all__ = ["build", "BuildOptions", "BuildReport", "plan_build", "BuildPlan"]
