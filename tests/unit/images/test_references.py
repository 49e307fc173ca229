"""Names of images, credentials of registries, and what an engine's words mean."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chronicled.events.errors import (
    ImageError,
    ImageNotFound,
    ImageUnauthorized,
    ImageUnfit,
    ImageUnreachable,
    InvalidRequest,
)
from chronicled.runtimes.docker.images_credentials import load_credentials
from chronicled.runtimes.docker.images_errors import explain
from chronicled.runtimes.docker.images_reference import REFERENCE, built_name, parse_reference

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("debian", "docker.io/library/debian:latest"),
        ("debian:12", "docker.io/library/debian:12"),
        ("some/tool:1.2", "docker.io/some/tool:1.2"),
        ("index.docker.io/some/tool", "docker.io/some/tool:latest"),
        ("docker.io/debian", "docker.io/library/debian:latest"),
        ("localhost/a", "localhost/a:latest"),
        ("localhost:5000/a/b", "localhost:5000/a/b:latest"),
        ("registry.example/a:1", "registry.example/a:1"),
        ("[::1]:5000/a", "[::1]:5000/a:latest"),
        (f"a@{DIGEST}", f"docker.io/library/a@{DIGEST}"),
        (f"registry.example/a:1@{DIGEST}", f"registry.example/a@{DIGEST}"),
        (DIGEST, DIGEST),
    ],
)
def test_names_are_completed_as_the_engine_does(text: str, full: str) -> None:
    """Registry, `library/` and `latest` are filled in; a completed name completes to itself."""
    assert parse_reference(text).full == full
    assert parse_reference(full).full == full


@pytest.mark.parametrize(
    "text", ["", " ", "UPPER", "a:", "a@b", "a@sha256:12", "-a", "a//b", "a b", "http://a/b", "a:b:c", "a" * 600, "a\n"]
)
def test_what_is_no_name_is_refused(text: str) -> None:
    """A mistake in a name is told before anybody is asked for it."""
    with pytest.raises(InvalidRequest):
        parse_reference(text)


@given(st.from_regex(REFERENCE, fullmatch=True).filter(lambda text: len(text) < 400))
def test_every_name_that_is_described_is_taken(text: str) -> None:
    """Whatever fits the description of a name is understood, and completing it twice changes nothing."""
    full = parse_reference(text).full
    assert parse_reference(full).full == full


def test_names_of_tenants_never_meet() -> None:
    """Each tenant's names lie apart, whatever its name holds, and a registry's image cannot be overwritten."""
    tenants = ("a", "A", "a.b", "a-b", "a_b", "a--b", "default", "_system", "...")
    names = {built_name(tenant, "a:1").full for tenant in tenants}
    assert len(names) == len(tenants)
    assert {parse_reference(name).pullable for name in names} == {False}
    for name in ("127.0.0.1:5000/debian", f"debian@{DIGEST}", "UPPER", "", "a/../b", "/a", "a:b:c", "a" * 201):
        with pytest.raises(InvalidRequest):
            built_name("default", name)
    # What looks like a registry is a path below the tenant's own.
    assert built_name("a", "docker.io/library/debian:12").full == "chronicled.invalid/a/docker.io/library/debian:12"


async def test_credentials_are_found_by_registry_and_never_shown(tmp_path: Path) -> None:
    """Every form of an entry is understood, the hub has many names, and text with a credential in it is cleaned."""
    packed = base64.b64encode(b"me:pass:with:colons").decode()
    path = tmp_path / "config.json"
    auths = {
        "https://index.docker.io/v1/": {"auth": packed},
        "plain.example:5000": {"username": "you", "password": "word-of-you"},
        "token.example": {"identitytoken": "a-long-token"},
        "empty.example": {},
    }
    path.write_text(json.dumps({"auths": auths, "credsStore": "desktop", "HttpHeaders": {}}))
    found = await load_credentials(str(path))

    def sent(registry: str) -> object:
        header = found.header(registry)
        return None if header is None else msgspec.json.decode(base64.urlsafe_b64decode(header))

    hub = {"username": "me", "password": "pass:with:colons", "serveraddress": "docker.io"}
    assert sent("docker.io") == hub
    assert sent("plain.example:5000") == {
        "username": "you",
        "password": "word-of-you",
        "serveraddress": "plain.example:5000",
    }
    assert sent("token.example") == {"identitytoken": "a-long-token", "serveraddress": "token.example"}
    assert sent("plain.example") is None
    assert sent("empty.example") is None
    for secret in ("pass:with:colons", "word-of-you", "a-long-token"):
        assert secret not in repr(found)
        assert secret not in found.hide(f"denied for {secret}!")
    assert (await load_credentials(None)).header("docker.io") is None


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"auths": 7}', '{"auths": {"a": {"auth": "?"}}}', '{"auths": {"a": 1}}']
)
async def test_a_broken_credentials_file_is_told_without_its_content(tmp_path: Path, text: str) -> None:
    """What is not in the form of Docker's file says so, and quotes nothing of it."""
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(ImageUnauthorized, match="not in the form") as refused:
        await load_credentials(str(path))
    assert str(path) in refused.value.detail
    assert refused.value.__cause__ is None


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("manifest for a:9 not found: manifest unknown: manifest unknown", ImageNotFound),
        ("pull access denied for a, repository does not exist or may require 'docker login'", ImageUnauthorized),
        ("Head https://r/v2/a/manifests/1: no basic auth credentials", ImageUnauthorized),
        ("unauthorized: authentication required", ImageUnauthorized),
        ("Get https://r/v2/: dial tcp 10.0.0.1:443: connect: connection refused", ImageUnreachable),
        ("Get https://r/v2/: dial tcp: lookup r: no such host", ImageUnreachable),
        ("Get https://r/v2/: net/http: TLS handshake timeout", ImageUnreachable),
        ("toomanyrequests: You have reached your pull rate limit", ImageUnreachable),
        ("unexpected EOF", ImageUnreachable),
        ("no matching manifest for linux/arm64/v8 in the manifest list entries", ImageUnfit),
        ("filesystem layer verification failed for digest sha256:1", ImageUnfit),
        ("manifest verification failed for digest sha256:1", ImageUnfit),
        ("write /var/lib/docker/tmp/x: no space left on device", ImageError),
        ("something that nobody has seen before", ImageError),
    ],
)
def test_an_engines_words_are_understood(words: str, kind: type[ImageError]) -> None:
    """What an engine is known to say becomes the error that it means, with its own words at the end."""
    error = explain("registry.example/a:1", words)
    assert type(error) is kind
    assert error.detail.startswith("registry.example/a:1: ")
    assert words in error.detail
    if "space" in words:
        assert "image prune" in error.detail
