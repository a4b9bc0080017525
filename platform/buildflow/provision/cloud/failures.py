"""What Pulumi and AWS say when something fails, in words, with what to do."""

import re

_PROTECTED = "set `deletion_protection: false` on it, and apply that first"
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
        r"invalid AWS Region|Invalid region|Could not connect to the endpoint|no such host",
        "check the stack's `aws: {region: ...}`, and whether AWS can be reached from here",
    ),
    (
        r"MovedPermanently|PermanentRedirect|StatusCode: 301",
        "it is in another region: say on it which, `aws: {region: ...}`",
    ),
    (r"AccessDenied|UnauthorizedOperation|not authorized to perform", "ask for that permission, or use another role"),
    (
        r"BucketAlreadyExists|BucketAlreadyOwnedByYou|EntityAlreadyExists|QueueAlreadyExists|DBInstanceAlreadyExists"
        r"|ResourceExistsException|QueueNameExists",
        "the name is taken: give the primitive another `name:`, or refer to what exists with `managed: false`",
    ),
    (r"BucketNotEmpty", "set `force_destroy: true` on it and apply, or empty it"),
    (r"marked for protection|is protected", _PROTECTED),
    (r"Throttling|Rate exceeded|SlowDown", "AWS asks to slow down; run the command again, it goes on where it ended"),
)
_COLOURS = re.compile(r"<\{%.*?%\}>")
_NOISE = re.compile(
    r"^(error: |Details: |\d+ errors? occurred:|code: -?\d+|stdout:.*|stderr:\s*|\* "
    r"|(creating|updating|deleting) urn:\S+: )+"
)


def in_words(said: str) -> tuple[str, str]:
    """The first line that says something, and what to do about it ("" where that is not known)."""
    said = _COLOURS.sub("", said)
    _, _, stderr = said.partition("\n stderr: ")  # of all that a command said, the end tells why it failed
    lines = [_NOISE.sub("", line.strip()).strip() for line in (stderr.strip() or said).splitlines()]
    telling = [line for line in lines if line and not line.startswith(("Diagnostics:", "Previewing", "Updating"))]
    hint = next((hint for pattern, hint in _HINTS if re.search(pattern, said, re.IGNORECASE)), "")
    pattern = next((p for p, h in _HINTS if h == hint), "") if hint else ""
    if hint == _PROTECTED:
        return "it is protected from deletion", hint
    best = next((line for line in telling if pattern and re.search(pattern, line, re.IGNORECASE)), None)
    return best or (telling[0] if telling else said.strip()), hint
