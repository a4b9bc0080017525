"""What runs: the gateway serves routes, workers consume, the watcher watches, the supervisor keeps them alive.

Each starts from a RuntimePlan in JSON, without the compiler.
"""
