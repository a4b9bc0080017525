"""BuildFlow Platform: a whole backend declared in one `buildflow.yaml`."""

__version__ = "0.1.0"
