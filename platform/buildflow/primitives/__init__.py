"""The primitives: one folder each, found by the registry."""
