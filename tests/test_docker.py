"""What can be known of docker/ without an engine: the files parse, and keep the usual rules."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docker"


@pytest.fixture(scope="module")
def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions with their arguments, continued lines joined."""
    lines = [
        line
        for line in (FOLDER / "Dockerfile").read_text(encoding="utf-8").splitlines()
        if line.strip() and not line.lstrip().startswith("#")
    ]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines()
    split = [line.partition(" ") for line in joined]
    return [(word, " ".join(rest.split())) for word, _, rest in split]


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yml").read_text(encoding="utf-8"))
    return loaded


def test_instructions_are_known_and_begin_with_a_pinned_image(
    instructions: list[tuple[str, str]],
) -> None:
    assert {word for word, _ in instructions} <= {"FROM", "RUN", "COPY", "CMD", "HEALTHCHECK"}
    assert instructions[0][0] == "FROM"
    assert re.fullmatch(r"postgres:18(\.\d+)?-bookworm", instructions[0][1])


def test_packages_are_installed_without_leaving_lists_behind(
    instructions: list[tuple[str, str]],
) -> None:
    installing = [
        rest for word, rest in instructions if word == "RUN" and "apt-get install" in rest
    ]
    assert installing
    for command in installing:
        assert "--no-install-recommends" in command
        assert command.startswith("apt-get update &&")
        assert command.endswith("rm -rf /var/lib/apt/lists/*")


def test_copied_files_are_in_the_repository_and_in_the_context(
    instructions: list[tuple[str, str]],
) -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    kept = [line.removeprefix("!") for line in ignored if line.startswith("!")]
    for rest in (rest for word, rest in instructions if word == "COPY"):
        *sources, _ = shlex.split(rest)
        for source in sources:
            assert list(ROOT.glob(source)), f"nothing matches {source}"
            assert any(source.startswith(folder + "/") for folder in kept), source


def test_the_image_loads_what_the_installed_extension_needs(
    instructions: list[tuple[str, str]],
) -> None:
    command = next(rest for word, rest in instructions if word == "CMD")
    assert "shared_preload_libraries=pg_cron" in command


def test_services_are_pinned_healthy_and_on_loopback(compose: dict[str, Any]) -> None:
    assert set(compose["services"]) == {"postgres", "redis", "mariadb"}
    for name, service in compose["services"].items():
        assert re.search(r":\d", service["image"]), f"{name}: {service['image']} is not pinned"
        assert all(port.startswith("127.0.0.1:") for port in service["ports"]), name
        if "build" in service:
            context = (FOLDER / service["build"]["context"]).resolve()
            assert (context / service["build"]["dockerfile"]).is_file()
        else:
            assert service["healthcheck"]["test"][0] == "CMD", name


def test_no_password_is_written_down(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        for variable, value in service.get("environment", {}).items():
            if "PASSWORD" in variable:
                assert value.startswith(f"${{{variable}:?"), f"{name}: {variable}"
