"""What ends a command or a deployment, in the words of the real CLI."""


class CommandFailed(Exception):
    """A command cannot go on: its message follows `error: ` on standard error."""


class DeploymentFailed(Exception):
    """A resource cannot be what the program asks for; the message is reported for its URN."""

    def __init__(self, message: str, urn: str = "") -> None:
        super().__init__(message)
        self.urn = urn


class ProviderFailed(Exception):
    """The provider could not do it; the message is the provider's own."""


class NotThere(ProviderFailed):
    """What is looked for does not exist in the cloud."""
