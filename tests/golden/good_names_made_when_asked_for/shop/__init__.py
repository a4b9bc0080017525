def __getattr__(name):
    from shop import lazy

    return getattr(lazy, name)
