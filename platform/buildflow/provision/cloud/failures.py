"""What Pulumi and AWS say when something fails, in words, with what to do."""

import re

_PROTECTED = "set `deletion_protection: false` on it, and apply that first"
_REGION = "check the stack's `aws: {region: ...}`, and whether AWS can be reached from here"
_HINTS: tuple[tuple[str, str], ...] = (
    (r"incorrect passphrase", "set PULUMI_CONFIG_PASSPHRASE to the passphrase that the stack was created with"),
    (
        r"passphrase must be set",
        "set PULUMI_CONFIG_PASSPHRASE (in the environment or .env), or the stack's `secrets_provider`",
    ),
    (
        r"No valid credential sources|NoCredentialProviders|Unable to locate credentials|failed to refresh cached cred",
        "sign in with `aws configure` or `aws sso login`, or give the stack's `aws` keys",
    ),
    (r"ExpiredToken|token (included in the request )?(has|is) expired", "sign in again: the credentials have expired"),
    (
        r"InvalidClientTokenId|SignatureDoesNotMatch|InvalidAccessKeyId|AuthFailure",
        "check the stack's `aws` keys, or those of its profile",
    ),
    (
        r"missing region configuration|must specify a region|Missing Region",
        "write the stack's `aws: {region: ...}`, or set AWS_REGION",
    ),
    (r"invalid AWS Region|Invalid region", _REGION),
    (
        r"MovedPermanently|PermanentRedirect|StatusCode: 301",
        "it is in another region: say on it which, `aws: {region: ...}`",
    ),
    (r"AccessDenied|UnauthorizedOperation|not authorized to perform", "ask for that permission, or use another role"),
    (
        r"BucketAlreadyExists|BucketAlreadyOwnedByYou|EntityAlreadyExists|QueueAlreadyExists|DBInstanceAlreadyExists"
        r"|ResourceExistsException|QueueNameExists|already exists with different tags",
        "the name is taken: give the primitive another `name:`, or refer to what exists with `managed: false`",
    ),
    (r"BucketNotEmpty", "set `force_destroy: true` on it, apply that first, then make this change; or empty it"),
    (r"marked for protection|is protected", _PROTECTED),
    (r"Throttling|Rate exceeded|SlowDown", "AWS asks to slow down; run the command again, it goes on where it ended"),
)
_UNREACHED = re.compile(
    r"Could not connect to the endpoint|Connect timeout|no such host|dial tcp|connection refused|i/o timeout"
    r"|network is unreachable|Name or service not known",
    re.IGNORECASE,
)
_ENDPOINT = re.compile(r"https?://(?P<place>[^\s\"'/?]+)|lookup (?P<host>[^\s:]+)|dial tcp (?P<address>[^\s]+?):? ")
_OF_AWS = re.compile(r"(^|\.)(amazonaws\.com(\.cn)?|api\.aws)(:\d+)?$")
_HEADER = re.compile(r":$|^Diagnostics:|^Previewing|^Updating|^Make sure you have set your AWS region")
_COLOURS = re.compile(r"<\{%.*?%\}>")
_NOISE = re.compile(
    r"^(error: |Details: |\d+ errors? occurred:|code: -?\d+|stdout:.*|stderr:\s*|\* "
    r"|(creating|updating|deleting) urn:\S+: )+"
)


def in_words(said: str) -> tuple[str, str]:
    """The first line that says something, and what to do about it ("" where that is not known). Of a traceback its
    last line says something."""
    said = _COLOURS.sub("", said)
    _, _, stderr = said.partition("\n stderr: ")  # of all that a command said, the end tells why it failed
    lines = [_NOISE.sub("", line.strip()).strip() for line in _without_tracebacks(stderr.strip() or said)]
    telling = [line for line in lines if line and not _HEADER.search(line)]
    pattern, hint = next(((p, h) for p, h in _HINTS if re.search(p, said, re.IGNORECASE)), ("", ""))
    if hint == _PROTECTED:
        return "it is protected from deletion", hint
    if not hint and (unreached := next((line for line in telling if _UNREACHED.search(line)), "")):
        return _out_of_reach(unreached)
    best = next((line for line in telling if pattern and re.search(pattern, line, re.IGNORECASE)), None)
    return best or (telling[0] if telling else said.strip()), hint


def _out_of_reach(line: str) -> tuple[str, str]:
    """Who could not be reached; only of a host of AWS' own can the region be wrong."""
    found = _ENDPOINT.search(line)
    place = next((part for part in found.groups() if part), "") if found else ""
    if not place:
        return line, "check whether AWS can be reached from here"
    if _OF_AWS.search(place):
        return line, _REGION
    where = "the stack's `aws: {endpoint_url: ...}`, or AWS_ENDPOINT_URL"
    return line, f"see that {place} can be reached; for an emulator it is {where} that names it"


def _without_tracebacks(said: str) -> list[str]:
    """Its lines, with the last line of a traceback for all of it; one that led to another is left out."""
    kept: list[str] = []
    before, within = None, None
    for line in said.splitlines():
        indent = len(line) - len(line.lstrip())
        if "Traceback (most recent call last):" in line:
            before = len(kept) if before is None else before
            kept, within = kept[:before], indent
        elif within is None or (line.strip() and indent <= within):
            kept.append(line)
            within = None
    return kept
