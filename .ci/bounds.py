"""Constraints for pip: `oldest`, each requirement at the lowest version that pyproject.toml admits; `newest`, none."""

import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
groups = [project["dependencies"], *project["optional-dependencies"].values()]
bounds = set()
for requirement in map(Requirement, (line for group in groups for line in group)):
    for bound in requirement.specifier:
        if bound.operator == ">=" and requirement.name != "torch":  # its CPU build is there in one version only
            bounds.add(f"{requirement.name}=={bound.version}")
if sys.argv[1] == "oldest":
    sys.stdout.writelines(f"{bound}\n" for bound in sorted(bounds))
