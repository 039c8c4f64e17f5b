"""What can be known of docker/ without an engine: the files parse, and keep the usual rules."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import psycopg
import pytest
import yaml

from sqlkit import extension
from tests import servers
from tests.servers import Server

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


def test_rules_of_hadolint(instructions: list[tuple[str, str]]) -> None:
    """Those of them that can be broken here, by their numbers."""
    runs = [rest for word, rest in instructions if word == "RUN"]
    assert not any(
        re.search(r"\bsudo\b|\bcd \b|apt-get upgrade|\bapt install", run) for run in runs
    )
    words = [word for word, _ in instructions]
    assert "MAINTAINER" not in words  # DL4000
    assert words.count("CMD") == words.count("HEALTHCHECK") == 1  # DL4003, DL3012
    for word, rest in instructions:
        if word == "CMD":
            assert rest.startswith("["), "DL3025: arguments as JSON"
        if word == "FROM":
            assert ":" in rest, "DL3006: a tag"
            assert not rest.endswith(":latest"), "DL3007"
        assert not (word == "COPY" and rest.split()[-1].startswith(".")), "DL3021, DL3045"
    for run in runs:
        if "apt-get install" in run:
            assert "--yes" in run, "DL3014"
            assert "--no-install-recommends" in run, "DL3015"
            assert "rm -rf /var/lib/apt/lists/*" in run, "DL3009"


def test_the_image_has_what_create_extension_needs(instructions: list[tuple[str, str]]) -> None:
    copied = {
        path.name
        for word, rest in instructions
        if word == "COPY"
        for source in shlex.split(rest)[:-1]
        for path in ROOT.glob(source)
    }
    assert copied == {path.name for path in extension.files()}
    packages = next(rest for word, rest in instructions if word == "RUN")
    assert {"postgresql-18-pgtap", "postgresql-18-cron"} <= set(packages.split())


def test_the_fixture_hands_over_what_testcontainers_starts(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No engine is here: classes with the signatures of testcontainers stand in for its own."""
    told: dict[str, Any] = {}

    class DockerImage:
        def __init__(self, path: str, dockerfile_path: str = "Dockerfile", *, tag: str) -> None:
            told["dockerfile"] = Path(path) / dockerfile_path
            self._tag = tag

        def __enter__(self) -> DockerImage:
            return self

        def __exit__(self, *_: object) -> None:
            told["gone"] = [*told.get("gone", []), "image"]

        def __str__(self) -> str:
            return self._tag

    class PostgresContainer:
        def __init__(self, image: str, *, username: str, password: str, dbname: str) -> None:
            told.update(image=image, user=username, password=password, database=dbname)

        def with_command(self, command: list[str]) -> PostgresContainer:
            told["command"] = command
            return self

        def __enter__(self) -> PostgresContainer:
            return self

        def __exit__(self, *_: object) -> None:
            told["gone"] = [*told.get("gone", []), "container"]

        def get_container_host_ip(self) -> str:
            return server.host

        def get_exposed_port(self, port: int) -> int:
            assert port == 5432
            return server.port

    modules: dict[str, dict[str, object]] = {
        "testcontainers": {},
        "testcontainers.core": {},
        "testcontainers.core.image": {"DockerImage": DockerImage},
        "testcontainers.community": {},
        "testcontainers.community.postgres": {"PostgresContainer": PostgresContainer},
    }
    for name, contents in modules.items():
        module = ModuleType(name)
        vars(module).update(contents)
        monkeypatch.setitem(sys.modules, name, module)

    with servers.container("18") as running:
        assert (running.major, running.cluster, running.password) == (18, None, "postgres")
        with psycopg.connect(running.dsn()) as connection:
            assert connection.execute("select 1").fetchone() == (1,)
    assert told["dockerfile"] == FOLDER / "Dockerfile"
    assert (told["image"], told["user"], told["database"]) == ("sqlkit:18", "postgres", "postgres")
    assert told["command"][0] == "postgres"
    assert "--shared_preload_libraries=pg_cron" in told["command"]
    assert told["gone"] == ["container", "image"]
