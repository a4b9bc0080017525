"""Which values a view of the configuration shows as stars."""

from typing import Any

import pytest

from buildflow.cli.masking import STARS, masked

SECRETS: list[tuple[tuple[Any, ...], Any]] = [
    (("dependencies", "db", "with", "password"), "hunter2"),
    (("dependencies", "db", "with", "password"), 1234),
    (("dependencies", "db", "with", "tokens", 0), "hunter2"),
    (("dependencies", "db", "with", "credentials", "user"), "hunter2"),
    (("dependencies", "http", "headers", "Authorization"), "Bearer hunter2"),
    (("variables", "api_key"), "hunter2"),
    (("stacks", "aws", "aws", "aws_secret_access_key"), "hunter2"),
    (("stacks", "aws", "variables", "secret", "deep"), "hunter2"),
    (("primitives", "db", "password"), "hunter2"),
    (("variables", "innocent"), "AKIAABCDEFGHIJKLMNOP"),
    (("variables", "key"), "-----BEGIN RSA PRIVATE KEY-----\nabc"),
]


@pytest.mark.parametrize(("path", "value"), SECRETS)
def test_what_is_called_a_secret_or_looks_like_one_is_masked(path: tuple[Any, ...], value: Any) -> None:
    assert masked(path, value) == STARS


NO_SECRETS: list[tuple[tuple[Any, ...], Any]] = [
    (("dependencies", "token", "factory"), "app:token"),
    (("dependencies", "llm", "with", "max_tokens"), 512),
    (("dependencies", "db", "with", "password"), ""),
    (("dependencies", "db", "with", "password"), None),
    (("dependencies", "db", "with", "use_password"), True),
    (("primitives", "tokens", "type"), "table"),
    (("primitives", "headers", "columns", "token"), "string"),
    (("primitives", "users", "columns", "access_token"), "string"),
    (("routes", "GET /token", "handler"), "app:token"),
    (("routes", "GET /", "inject", "token"), "session"),
    (("mounts", "/secret"), "static"),
    (("stacks", "local", "secrets", "file"), "secrets.env"),
    (("variables", "url"), "https://example.org:8080/a?page=2"),
]


@pytest.mark.parametrize(("path", "value"), NO_SECRETS)
def test_what_is_no_secret_is_shown(path: tuple[Any, ...], value: Any) -> None:
    assert masked(path, value) == value


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://me:hunter2@example.org/0", "redis://me:********@example.org/0"),
        ("redis://:hunt@er2@example.org", "redis://:********@example.org"),
        ("postgres://h/db?user=me&password=hunter2&x=1", "postgres://h/db?user=me&password=********&x=1"),
        ("host=h password=hunter2 user=me", "host=h password=******** user=me"),
        ("https://h/?api_key=hunter2", "https://h/?api_key=********"),
        ("redis://me:${secret.REDIS}@h/0", "redis://me:${secret.REDIS}@h/0"),
        ("redis://me:${env.REDIS:-hunter2}@h/0", "redis://me:${env.REDIS:-********}@h/0"),
        ("password=${secret.DB} host=h", "password=${secret.DB} host=h"),
        ("redis://a:hunter2@h,redis://b:hunter3@i", "redis://a:********@h,redis://b:********@i"),
    ],
)
def test_a_password_inside_a_text_is_masked_and_the_rest_shown(text: str, shown: str) -> None:
    assert masked(("variables", "url"), text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("${secret.DB}", "${secret.DB}"),
        ("Bearer ${secret.DB}", "Bearer ${secret.DB}"),
        ("${env.DB}", "${env.DB}"),
        ("${env.DB:-}", "${env.DB:-}"),
        ("${env.DB:-hunter2}", "${env.DB:-********}"),
        ("hunter2-${env.DB}", STARS),
    ],
)
def test_a_reference_to_a_secret_stays_and_its_default_does_not(text: str, shown: str) -> None:
    assert masked(("dependencies", "db", "with", "password"), text) == shown


def test_the_default_of_a_variable_that_sounds_secret_is_masked_wherever_it_stands() -> None:
    text = "user=${env.DB_USER:-me} ${env.DB_PASSWORD:-hunter2}"
    assert masked(("variables", "dsn"), text) == "user=${env.DB_USER:-me} ${env.DB_PASSWORD:-********}"
