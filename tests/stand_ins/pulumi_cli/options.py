"""The command line: what the Automation API sends, and nothing that would be misread."""

from dataclasses import dataclass, field

from pulumi_cli.problems import CommandFailed

VALUED = {
    "--client", "--color", "--config", "--config-file", "--cwd", "--event-log", "--exclude", "--exec-agent",
    "--exec-kind", "--file", "--from", "--import-file", "--message", "--out", "--page", "--page-size", "--parallel",
    "--plan", "--policy-pack", "--policy-pack-config", "--replace", "--save-plan", "--secrets-provider", "--server",
    "--stack", "--target", "--tracing", "--verbose",
}  # fmt: skip
SHORT = {
    "-s": "--stack", "-m": "--message", "-p": "--parallel", "-t": "--target", "-y": "--yes", "-f": "--skip-preview",
    "-r": "--refresh", "-j": "--json", "-a": "--all", "-C": "--cwd", "-v": "--verbose",
}  # fmt: skip
SWITCHES = {
    "--all", "--attach-debugger", "--clear-pending-creates", "--continue-on-error", "--create", "--debug", "--diff",
    "--disable-integrity-checking", "--exclude-dependents", "--exclude-protected", "--expect-no-changes", "--force",
    "--fully-qualify-stack-names", "--generate-code", "--help", "--json", "--logflow", "--logtostderr", "--no-select",
    "--non-interactive", "--path", "--plaintext", "--preserve-config", "--preview-only", "--protect", "--refresh",
    "--run-program", "--secret", "--show-secrets", "--skip-preview", "--suppress-outputs", "--suppress-progress",
    "--target-dependents", "--yes",
}  # fmt: skip


@dataclass
class Arguments:
    """The words of a command line, and its flags in order: `config set-all` reads pairs of them."""

    words: list[str] = field(default_factory=list)
    flags: list[tuple[str, str]] = field(default_factory=list)
    rest: list[str] = field(default_factory=list)
    """What stands behind `--`."""

    def has(self, flag: str) -> bool:
        return dict(self.flags).get(flag, "false") != "false"

    def one(self, flag: str) -> str | None:
        return next((value for name, value in reversed(self.flags) if name == flag), None)

    def all(self, flag: str) -> list[str]:
        return [value for name, value in self.flags if name == flag]


def parse(argv: list[str]) -> Arguments:
    arguments = Arguments()
    words = iter(argv)
    for word in words:
        if word == "--":
            arguments.rest = list(words)
        elif not word.startswith("-") or word == "-":
            arguments.words.append(word)
        else:
            name, given, value = word.partition("=")
            name = SHORT.get(name, name)
            if name in VALUED:
                value = value if given else next(words, "")
            elif name not in SWITCHES:
                raise CommandFailed(f"unknown flag: {name}")
            arguments.flags.append((name, value if given or name in VALUED else "true"))
    return arguments
