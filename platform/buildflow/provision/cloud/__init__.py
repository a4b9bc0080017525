"""What a cloud holds of a stack: declared to Pulumi, planned and applied by its engine."""
