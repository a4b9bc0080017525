"""A stand-in for the Pulumi CLI and its AWS provider, for tests on a machine that has neither.

The real Automation API drives it as it drives the real CLI: it runs the inline program over the language host's gRPC,
serves the resource monitor and the engine with the SDK's own protobuf stubs, keeps a checkpoint per stack in the file
backend, reports engine events, and creates, reads, updates and deletes AWS resources with botocore, so in moto.

    main, options, *_commands    the command line
    workspace, backend           Pulumi.yaml, Pulumi.<stack>.yaml; stacks, locks and history in the file backend
    checkpoint, values, passphrase   what a stack's file holds; property values; secrets in it
    deployment, registering, deleting, refreshing   what the engine decides and does
    monitor, program, protos     the gRPC that it serves and calls
    events, display, plan        what it reports
    providers/                   one file per AWS service: a handler for each resource type

Where it departs from the real CLI, a comment says so at the place. The main ones: deletes run one after another; a
resource type, or a property of one, that no handler knows is refused; transforms, hooks, policy packs, remote
components and other backends than `file://` are not there; the passphrase is stretched less, for speed.
"""
