"""The files that make a kept project agree with each other and with the package."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text())
JOBS = WORKFLOW["jobs"]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def pinned(name: str) -> dict[str, Version]:
    """The versions of a file of constraints by the names of the packages."""
    lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]
    found = [line.split("==") for line in lines]
    return {package.lower().replace("_", "-"): Version(version) for package, version in found}


def classified(prefix: str) -> list[str]:
    return [c.removeprefix(prefix) for c in PROJECT["classifiers"] if c.startswith(prefix)]


def test_the_citation_names_this_version_and_licence() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"] == "Apache-2.0"
    assert [author["name"].lower() for author in citation["authors"]] == [a["name"] for a in PROJECT["authors"]]
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert "Copyright 2026 the genlab developers" in text


def test_the_changelog_begins_with_what_is_unreleased_and_knows_this_version() -> None:
    versions = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == "Unreleased"
    assert versions[1] == PROJECT["version"]
    assert sorted(versions[1:], key=Version, reverse=True) == versions[1:]


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "README.md", ".github/pull_request_template.md"])
def test_every_make_target_that_a_page_names_exists(page: str) -> None:
    named = set(re.findall(r"^make ([a-z-]+)|`make ([a-z-]+)", (ROOT / page).read_text(), re.MULTILINE))
    missing = {a or b for a, b in named} - TARGETS
    assert named
    assert not missing


def test_every_make_target_and_file_of_constraints_in_the_workflow_exists() -> None:
    steps = [step.get("run", "") for job in JOBS.values() for step in job["steps"]]
    named = {target for run in steps for target in re.findall(r"^make ([a-z-]+)", run)}
    assert {"lint", "test"} <= named <= TARGETS
    made = {name for run in steps for name in re.findall(r"^touch (\S+)", run)}
    for entry in JOBS["versions"]["strategy"]["matrix"]["include"]:
        assert entry["constraints"] in made or (ROOT / entry["constraints"]).is_file()


def test_the_workflow_tests_the_pythons_that_the_package_declares() -> None:
    declared = [v for v in classified("Programming Language :: Python :: ") if re.fullmatch(r"3\.\d+", v)]
    assert JOBS["test"]["strategy"]["matrix"]["python"] == declared
    requires = SpecifierSet(PROJECT["requires-python"])
    assert all(f"{v}.0" in requires for v in declared)
    assert f"3.{int(declared[0].split('.')[1]) - 1}.99" not in requires
    runs = {entry["versions"]: entry["python"] for entry in JOBS["versions"]["strategy"]["matrix"]["include"]}
    assert runs == {"oldest": declared[0], "newest": declared[-1]}


def test_the_oldest_versions_are_the_lower_bounds_and_the_tested_ones_are_allowed() -> None:
    oldest, tested = pinned("constraints-oldest.txt"), pinned("constraints.txt")
    required = {r.name.lower(): r for r in map(Requirement, PROJECT["dependencies"])}
    bounds = {name: Version(str(r.specifier).removeprefix(">=")) for name, r in required.items()}
    assert oldest == bounds
    for name, requirement in required.items():
        assert tested[name] in requirement.specifier, name
    extras = [Requirement(r) for rs in PROJECT["optional-dependencies"].values() for r in rs if "genlab[" not in r]
    for requirement in extras:
        assert tested[requirement.name.lower()] in requirement.specifier, requirement


def test_forms_and_hooks_can_be_read() -> None:
    for form in ("bug.yml", "proposal.yml"):
        content = yaml.safe_load((ROOT / ".github/ISSUE_TEMPLATE" / form).read_text())
        assert {"name", "description", "body"} <= set(content)
        ids = [field["id"] for field in content["body"]]
        assert len(ids) == len(set(ids))
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    tools = [hook["entry"].split()[0] for hook in local["hooks"]]
    assert tools == [".venv/bin/ruff", ".venv/bin/ruff", ".venv/bin/mypy", ".venv/bin/lint-imports"]


def test_links_from_one_page_to_another_lead_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
            if not target.startswith(("http://", "https://")):
                assert (page.parent / target).exists(), f"{page.name}: {target}"
